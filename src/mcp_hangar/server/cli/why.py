# SPDX-License-Identifier: MIT
"""`hangar why CALL_ID`: what became of one call, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_hangar.server.cli.output import print_json, safe, table
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
    """Tell what became of a call: who asked, what was decided and by which policy, how it ended."""
    with reach(url, pid, as_json) as hangar:
        value = hangar.call_detail(call_id)
        if as_json:
            print_json(value)
            return
        for line in value["story"]:
            print(safe(line))
        call = dict(value["call"])
        table(["field", "value"], [(name, call[name]) for name in _SHOWN if call.get(name)])
