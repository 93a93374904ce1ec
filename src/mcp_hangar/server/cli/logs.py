# SPDX-License-Identifier: MIT
"""`hangar logs PROVIDER`: what a provider wrote to stderr."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_hangar.server.cli.output import print_json, safe
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach


def logs(
    provider: Annotated[str, typer.Argument(help="The provider's name.")],
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="NUMBER", min=1, max=10_000, help="At most so many of the newest.")
    ] = 200,
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines that a provider wrote to stderr."""
    with reach(url, pid, as_json) as hangar:
        found = hangar.logs(provider, lines)
        if as_json:
            print_json({"provider": provider, "lines": found})
        else:
            for line in found:
                print(safe(line))
