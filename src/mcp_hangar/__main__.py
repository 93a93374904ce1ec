# SPDX-License-Identifier: MIT
"""`python -m mcp_hangar` is the command `hangar`."""

from mcp_hangar.server.cli.main import main

main()
