# SPDX-License-Identifier: MIT
"""Tasks, in both dialects: 2025-11-25 (`params.task`, `result.task`) and the modern extension (`resultType: task`).

A task lives with its provider; what a client holds is a name of ours that says which provider, and whose. The dialects
are not translated into each other: a provider is offered tasks only where client and provider share an era.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json
from mcp_hangar.domain.mcp.eras import Era

EXTENSION: Final = "io.modelcontextprotocol/tasks"
RELATED: Final = "io.modelcontextprotocol/related-task"
METHODS: Final[dict[Era, frozenset[str]]] = {
    Era.modern: frozenset({"tasks/get", "tasks/update", "tasks/cancel"}),
    Era.legacy: frozenset({"tasks/get", "tasks/result", "tasks/cancel"}),
}
"""What follows up on a task. `tasks/list` names none, so it belongs to no call: it is not offered."""
ALL_METHODS: Final = METHODS[Era.modern] | METHODS[Era.legacy]


def rename_tasks(raw: Json, shown: Callable[[str], str]) -> bytes:
    """A result or notification with its task ids as the client knows them: at the top, in `task`, in related-task."""
    parts = _renamed(raw, shown)
    if _is_object(parts.get("task", b"")):
        parts["task"] = envelope.join(_renamed(parts["task"], shown).items())
    if _is_object(parts.get("_meta", b"")):
        meta: dict[str, Json] = dict(envelope.members(parts["_meta"], "_meta"))
        if _is_object(meta.get(RELATED, b"")):
            meta[RELATED] = envelope.join(_renamed(meta[RELATED], shown).items())
            parts["_meta"] = envelope.join(meta.items())
    return envelope.join(parts.items())


def _renamed(raw: Json, shown: Callable[[str], str]) -> dict[str, Json]:
    parts: dict[str, Json] = dict(envelope.members(raw, "a task"))
    id = envelope.text(parts.get("taskId"))
    if id:
        parts["taskId"] = envelope.encode(shown(id))
    return parts


def _is_object(raw: Json) -> bool:
    return bytes(raw).startswith(b"{")
