# SPDX-License-Identifier: MIT
"""`hangar logs PROVIDER`: what a provider wrote to stderr."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from mcp_hangar.server.cli.completing import PROVIDERS
from mcp_hangar.server.cli.output import print_json, safe
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach

_EVERY: Final = 0.5
_KEPT: Final = 10_000


def logs(
    provider: Annotated[str, typer.Argument(help="The provider's name.", autocompletion=PROVIDERS)],
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="NUMBER", min=1, max=_KEPT, help="At most so many of the newest.")
    ] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what it writes, until Ctrl-C.")] = False,
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines that a provider wrote to stderr. With --follow and --json: one line of JSON each."""
    with reach(url, pid, as_json) as hangar:
        seen = hangar.logs(provider, _KEPT if follow else lines)
        if as_json and not follow:
            print_json({"provider": provider, "lines": seen})
            return
        _print(seen[-lines:], as_json)
        while follow:
            time.sleep(_EVERY)
            now = hangar.logs(provider, _KEPT)
            new, lost = fresh(seen, now)
            if lost and not as_json:
                print("… (lines are missing here: they came faster than Hangar keeps them)")
            _print(new, as_json)
            seen = now


def _print(lines: list[str], as_json: bool) -> None:
    import json

    for line in lines:
        print(json.dumps(line) if as_json else safe(line), flush=True)


def fresh(before: list[str], now: list[str]) -> tuple[list[str], bool]:
    """The lines of `now` that came after `before`, and whether some were lost (none of `before` is left)."""
    if not before:
        return now, False
    for start in range(len(before)):
        kept = before[start:]
        if now[: len(kept)] == kept:
            return now[len(kept) :], False
    return now, True
