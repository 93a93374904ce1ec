# SPDX-License-Identifier: MIT
"""`hangar status`: how Hangar and its providers fare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from mcp_hangar.server.cli.failing import FAILED
from mcp_hangar.server.cli.output import print_json, safe, table
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach


def status(url: Url = "", pid: Pid = 0, as_json: AsJson = False) -> None:
    """Show how Hangar and its providers fare."""
    with reach(url, pid, as_json) as hangar:
        value = hangar.status()
        if as_json:
            print_json(value)
        else:
            _print(value)
    if value["state"] == "refusing":
        raise typer.Exit(FAILED)


def _print(value: Mapping[str, Any]) -> None:
    totals = value["totals"]
    print(f"{value['software']}, process {value['pid']}, up {duration(value['uptime_seconds'])}: {value['state']}")
    if value["record"]["refusing"]:
        print(f"Calls are refused, since they cannot be recorded: {safe(value['record']['detail'])}")
    shown = ("calls", "ok", "tool_errors", "failed", "denied", "running")
    print(", ".join(f"{name.replace('_', ' ')} {totals[name]}" for name in shown))
    rows = [
        (
            row["name"],
            row["mode"],
            "stopped" if row["held"] else row["state"],
            row["era"] or "-",
            len(row["instances"]),
            "-" if row["tools"] is None else row["tools"],
            row["calls"]["calls"],
            " ".join(row["unenforced"]) or "-",
            row["last_error"][:80] or "-",
        )
        for row in value["providers"]
    ]
    table(["provider", "mode", "state", "era", "instances", "tools", "calls", "unenforced", "last error"], rows)


def duration(seconds: float) -> str:
    whole = int(seconds)
    for size, unit, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{rest}"
    return f"{whole}s"
