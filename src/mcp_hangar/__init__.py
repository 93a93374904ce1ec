# SPDX-License-Identifier: MIT
"""MCP Hangar: the runtime security and governance layer for MCP servers in production."""

__version__ = "3.0.0"
