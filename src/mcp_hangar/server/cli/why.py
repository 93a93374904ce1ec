# SPDX-License-Identifier: MIT
"""`hangar why CALL_ID`: what became of one call, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from mcp_hangar.server.cli.output import print_json, safe, table, tell
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach

_SHOWN = (
    "id", "state", "outcome", "provider", "method", "name", "caller", "caller_type", "client", "session",
    "session_source", "era", "trace", "parent", "policy", "code", "detail", "arguments_hash", "arguments_preview",
)  # fmt: skip


def why(
    call_id: Annotated[str, typer.Argument(help="As the denial, the event or the audit trail names it.")],
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """Tell what became of a call: who asked, what was decided and by which policy, how it ended, and when."""
    with reach(url, pid, as_json) as hangar:
        value = hangar.call_detail(call_id)
        if as_json:
            print_json(value)
            return
        call = dict(value["call"])
        for line in value["story"]:
            tell(safe(line))
        if call["state"] != "denied":
            allowed = f", {safe(call['policy'])} allowed it" if call.get("policy") else ""
            print(f"No policy refused it{allowed}.")
        if call.get("code"):
            print(f"What its code means: docs/reference/errors.md#{safe(call['code'])}")
        table(["after", "what"], timeline(value["events"]))
        table(["field", "value"], [(name, call[name]) for name in _SHOWN if call.get(name)])


def timeline(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What was recorded of the call, with the time since the first of it."""
    rows: list[tuple[str, str]] = []
    first: datetime | None = None
    for event in events:
        try:
            at = datetime.fromisoformat(str(event.get("at")))
        except ValueError:
            continue
        first = first or at
        told = [str(event.get("type"))]
        told += [str(event[key]) for key in ("outcome", "policy_id", "code") if event.get(key)]
        rows.append((f"{(at - first).total_seconds():.3f} s", ", ".join(told)))
    return rows
