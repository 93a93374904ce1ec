# SPDX-License-Identifier: MIT
"""`hangar tools`: what providers offer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_hangar.server.cli.completing import PROVIDERS
from mcp_hangar.server.cli.output import print_json, table, tell, waiting
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach

if TYPE_CHECKING:
    from mcp_hangar.client import HangarClient


def tools(
    provider: Annotated[str, typer.Argument(help="Only this provider's.", autocompletion=PROVIDERS)] = "",
    query: Annotated[
        str, typer.Option("--query", "-q", metavar="WORDS", help="Words that name or description contain.")
    ] = "",
    no_start: Annotated[
        bool, typer.Option("--no-start", help="Leave alone what was never started: its tools are not known then.")
    ] = False,
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """List the tools that providers offer, what each says it does to the world, and whether a policy denies it. With
    --json also their definitions."""
    with reach(url, pid, as_json) as hangar:
        value = hangar.tools(provider, query)
        if value["unknown"] and not no_start:
            meet(hangar, value["unknown"])
            value = hangar.tools(provider, query)
        if as_json:
            print_json(value)
            return
        states = {row["name"]: state_of(row) for row in hangar.providers()}
        rows = [
            (
                row["provider"],
                row["name"],
                states.get(row["provider"], "-"),
                risk(row["definition"]),
                row["denied_by"] or "-",
                first_line(row),
            )
            for row in value["tools"]
        ]
        table(
            ["provider", "tool", "state", "risk", "denied by", "description"],
            rows,
            coloured=("state", "risk"),
            cut={"description": 20, "denied by": 12},
            spare=("state",),
        )
        if value["unknown"]:
            names = ", ".join(value["unknown"])
            tell(f"Not known (yet): {names}. `hangar status` and `hangar logs NAME` may say why.", sys.stderr)


def meet(hangar: HangarClient, names: Sequence[str]) -> None:
    """Have providers started that nobody ever asked what they offer, all at once: each may take its time."""
    from concurrent.futures import ThreadPoolExecutor

    with waiting(f"Asking {', '.join(names)}"), ThreadPoolExecutor(max_workers=8) as asking:
        list(asking.map(hangar.meet, names))


def state_of(row: Mapping[str, Any]) -> str:
    return "stopped" if row["held"] else str(row["state"])


def first_line(row: Mapping[str, Any]) -> str:
    text = row["description"].strip() or row["title"]
    return str(text.split("\n")[0].strip()) or "-"


def risk(definition: Any) -> str:
    """What a tool says of itself. It is a hint and may be wrong; a tool that says nothing may do anything."""
    hints = definition.get("annotations") if isinstance(definition, dict) else None
    if not isinstance(hints, dict) or not any(isinstance(value, bool) for value in hints.values()):
        return "-"
    if hints.get("readOnlyHint") is True:
        words = ["reads"]
    elif hints.get("destructiveHint") is False:
        words = ["writes"]
    else:
        words = ["destructive"]  # the protocol's default for what does not only read
    if hints.get("openWorldHint") is True:
        words.append("outside")
    return " ".join(words)
