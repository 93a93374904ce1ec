# SPDX-License-Identifier: MIT
"""`hangar tools`: what providers offer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mcp_hangar.server.cli.output import print_json, table
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach


def tools(
    provider: Annotated[str, typer.Argument(help="Only this provider's.")] = "",
    query: Annotated[
        str, typer.Option("--query", "-q", metavar="WORDS", help="Words that name or description contain.")
    ] = "",
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """List the tools that providers offer; with --json, their definitions too."""
    with reach(url, pid, as_json) as hangar:
        value = hangar.tools(provider, query)
        if as_json:
            print_json(value)
            return
        rows = [
            (row["provider"], row["name"], row["denied_by"] or "-", row["description"].split("\n")[0][:100])
            for row in value["tools"]
        ]
        table(["provider", "tool", "denied by", "description"], rows)
        if value["unknown"]:
            print(f"Not asked yet (cold): {', '.join(value['unknown'])}.", file=sys.stderr)
