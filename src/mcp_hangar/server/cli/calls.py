# SPDX-License-Identifier: MIT
"""`hangar calls`: what was called lately, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from mcp_hangar.server.cli.completing import PROVIDERS
from mcp_hangar.server.cli.output import print_json, table
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach


def calls(
    provider: Annotated[str, typer.Argument(help="Only to this provider.", autocompletion=PROVIDERS)] = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Only of this tool, prompt or URI.")] = "",
    outcome: Annotated[
        str,
        typer.Option(
            "--outcome", metavar="OUTCOME", help="Only ok, tool_error, input_required, failed, denied or running."
        ),
    ] = "",
    caller: Annotated[str, typer.Option("--caller", metavar="CALLER", help="Only of this caller.")] = "",
    since: Annotated[
        str,
        typer.Option("--since", metavar="WHEN", help="Only since then: 10m, 2h, or a time such as 2026-11-28T10:00Z."),
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="NUMBER", min=1, max=1000, help="At most so many of the newest.")
    ] = 20,
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """List the newest calls, of whatever kind, and how each ended."""
    when = moment(since, datetime.now(UTC)) if since else ""
    with reach(url, pid, as_json) as hangar:
        page = hangar.calls(limit=limit, provider=provider, name=name, outcome=outcome, caller=caller, since=when)
        if as_json:
            print_json(page)
            return
        table(
            ["time", "provider", "name", "outcome", "seconds", "caller", "why", "call"],
            [_row(one) for one in page["calls"]],
            coloured=("outcome",),
            cut={"why": 16},
            spare=("caller", "seconds"),
        )


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    method = one.get("method", "")
    name = one.get("name", "") or method
    seconds = one.get("seconds")
    return (
        local_time(one.get("admitted_at") or one.get("ended_at") or ""),
        one.get("provider", "") or "hangar",
        name if method in ("tools/call", "", name) else f"{name} ({method})",
        one.get("outcome") or one["state"],
        "-" if seconds is None else f"{seconds:.3f}",
        one.get("caller", "") or "-",
        one.get("policy") or one.get("detail") or one.get("code") or "-",
        one["id"],
    )


def local_time(text: str) -> str:
    """The time of day, here; with the day, if it is another."""
    try:
        at = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return text or "-"
    today = at.date() == datetime.now().astimezone().date()
    return at.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def moment(text: str, now: datetime) -> str:
    """`10m` before now, or a time as it stands; in UTC, as records have it."""
    ago = re.fullmatch(r"(\d{1,6})(s|m|h|d)", text, re.ASCII)
    try:
        if ago:
            unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
            at = now - timedelta(**{unit: int(ago[1])})
        else:
            at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"--since takes 30s, 10m, 2h, 1d or a time such as 2026-11-28T10:00Z, not {text!r}"
        ) from None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
