# SPDX-License-Identifier: MIT
"""`hangar status`: how Hangar and its providers fare."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_hangar.server.cli.failing import FAILED
from mcp_hangar.server.cli.output import cell, console, print_json, safe, shown_table, table, tell
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach
from mcp_hangar.server.cli.tools import state_of

if TYPE_CHECKING:
    from mcp_hangar.client import HangarClient

COLUMNS = ["provider", "mode", "state", "tools", "calls", "failed", "denied", "running", "unenforced", "last error"]
_CUT = {"last error": 20}
_SPARE = ("unenforced", "mode", "running", "denied")


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, max=3600, help="How often, with --watch.")
    ] = 2.0,
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """Show how Hangar and its providers fare. With --watch and --json: one line of JSON each time."""
    with reach(url, pid, as_json) as hangar:
        if watch:
            _watch(hangar, every, as_json)
            return
        value = hangar.status()
        if as_json:
            print_json(value)
        else:
            _print(value)
    if value["state"] == "refusing":
        raise typer.Exit(FAILED)


def _watch(hangar: HangarClient, every: float, as_json: bool) -> None:
    """Until Hangar is gone or the person has seen enough."""
    if as_json or not sys.stdout.isatty():
        while True:
            value = hangar.status()
            print(json.dumps(value) if as_json else "\n".join(_head(value)), flush=True)
            time.sleep(every)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    out = console()

    def picture() -> Group:
        value = hangar.status()
        shown = shown_table(COLUMNS, _cells(value), out.width, coloured=("state",), cut=_CUT, spare=_SPARE)
        return Group(*(Text(line) for line in _head(value)), shown)

    with Live(picture(), console=out, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            time.sleep(every)
            live.update(picture(), refresh=True)


def _print(value: Mapping[str, Any]) -> None:
    tell("\n".join(_head(value)))
    table(COLUMNS, _cells(value), coloured=("state",), cut=_CUT, spare=_SPARE)


def _head(value: Mapping[str, Any]) -> list[str]:
    totals = value["totals"]
    lines = [f"{value['software']}, process {value['pid']}, up {duration(value['uptime_seconds'])}: {value['state']}"]
    if value["record"]["refusing"]:
        lines.append(f"Calls are refused, since they cannot be recorded: {safe(value['record']['detail'])}")
    shown = ("calls", "ok", "tool_errors", "failed", "denied", "running")
    lines.append(", ".join(f"{name.replace('_', ' ')} {totals[name]}" for name in shown))
    return lines


def _cells(value: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            cell(text)
            for text in (
                row["name"],
                row["mode"],
                state_of(row),
                "-" if row["tools"] is None else row["tools"],
                row["calls"]["calls"],
                row["calls"]["failed"],
                row["calls"]["denied"],
                row["in_flight"],
                " ".join(row["unenforced"]) or "-",
                row["last_error"] or "-",
            )
        ]
        for row in value["providers"]
    ]


def duration(seconds: float) -> str:
    whole = int(seconds)
    for size, unit, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{rest}"
    return f"{whole}s"
