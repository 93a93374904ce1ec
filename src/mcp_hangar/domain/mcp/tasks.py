# SPDX-License-Identifier: MIT
"""Tasks, in both dialects: 2025-11-25 (`params.task`, `result.task`) and the modern extension (`resultType: task`).

A task lives with its provider; what a client holds is a name of ours that says which provider, and whose. The dialects
are not translated into each other: a provider is offered tasks only where client and provider share an era.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Raw
from mcp_hangar.domain.mcp.eras import Era

EXTENSION: Final = "io.modelcontextprotocol/tasks"
RELATED: Final = "io.modelcontextprotocol/related-task"
METHODS: Final[dict[Era, frozenset[str]]] = {
    Era.modern: frozenset({"tasks/get", "tasks/update", "tasks/cancel"}),
    Era.legacy: frozenset({"tasks/get", "tasks/result", "tasks/cancel"}),
}
"""What follows up on a task. `tasks/list` names none, so it belongs to no call: it is not offered."""
STATUS: Final = "notifications/tasks/status"
ALL_METHODS: Final = METHODS[Era.modern] | METHODS[Era.legacy]


def rename_tasks(raw: Json, shown: Callable[[str], str]) -> bytes:
    """A result or notification with its task ids as the client knows them: at the top, in `task`, in related-task."""
    parts: dict[str, Json] = dict(envelope.members(raw, "a task"))
    if "taskId" in parts:
        parts["taskId"] = envelope.encode(shown(envelope.text(_raw(parts["taskId"]))))
    if "task" in parts and bytes(parts["task"])[:1] == b"{":
        parts["task"] = rename_tasks(parts["task"], shown)
    if "_meta" in parts:
        meta: dict[str, Json] = dict(envelope.members(parts["_meta"], "_meta"))
        if RELATED in meta:
            meta[RELATED] = rename_tasks(meta[RELATED], shown)
            parts["_meta"] = envelope.join(meta.items())
    return envelope.join(parts.items())


def _raw(value: Json) -> Raw:
    return value if isinstance(value, Raw) else Raw(value)


def task_id(params: dict[str, msgspec.Raw]) -> str:
    return envelope.text(params.get("taskId"))
