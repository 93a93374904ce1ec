# SPDX-License-Identifier: MIT
"""`hangar tools`: what providers offer."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mcp_hangar.server.cli.completing import PROVIDERS
from mcp_hangar.server.cli.output import print_json, safe, table, tell, waiting
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach

if TYPE_CHECKING:
    from mcp_hangar.client import HangarClient


PATIENCE: Final = 60.0
"""Seconds that a provider which is starting is waited for."""


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
        providers = {row["name"]: row for row in hangar.providers()}
        rows = [
            (
                row["provider"],
                row["name"],
                state_of(providers[row["provider"]]) if row["provider"] in providers else "-",
                risk(row["definition"]),
                row["denied_by"] or "-",
                first_line(row),
            )
            for row in value["tools"]
        ]
        if rows or not value["unknown"]:
            table(
                ["provider", "tool", "state", "risk", "denied by", "description"],
                rows,
                coloured=("state", "risk"),
                cut={"description": 20, "denied by": 12},
                spare=("state",),
            )
        for name in value["unknown"]:
            why = providers[name]["last_error"] if name in providers else ""
            tell(f"{name}: not known{f'. {safe(why)}' if why else ', since it was never started.'}", sys.stderr)


def meet(hangar: HangarClient, names: Sequence[str]) -> None:
    """Have providers started that nobody ever asked what they offer, all at once: each may take its time."""
    from concurrent.futures import ThreadPoolExecutor

    def one(name: str) -> None:
        until = time.monotonic() + PATIENCE
        row = hangar.meet(name)
        while row["tools"] is None and row["state"] in ("starting", "ready") and time.monotonic() < until:
            row = hangar.meet(name)  # waits again for the same start

    with waiting(f"Starting {', '.join(names)} to see what they offer"), ThreadPoolExecutor(max_workers=8) as asking:
        list(asking.map(one, names))


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
