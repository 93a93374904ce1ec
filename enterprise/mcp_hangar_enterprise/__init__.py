# SPDX-License-Identifier: BUSL-1.1
"""MCP Hangar's licensed tiers. `extension.extend` is the whole boundary to the core."""
