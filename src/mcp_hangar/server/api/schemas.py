# SPDX-License-Identifier: MIT
"""The answers' schemas for OpenAPI, made from the types that are answered, with what their docstrings say."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mcp_hangar.application import kept_records, offered, queries, session_view, views
from mcp_hangar.application.kept_records import EventPage
from mcp_hangar.application.offered import PromptList, ResourceList, ToolList
from mcp_hangar.application.queries import CallDetail, ProviderPage, ProviderRow, SessionPage, SessionRow, StatusRow
from mcp_hangar.application.views import CallPage
from mcp_hangar.server import operator_access
from mcp_hangar.server.config import reread
from mcp_hangar.server.config.reread import ConfigCheck, EffectiveConfig
from mcp_hangar.server.operator_access import Code, Login


class Logs(msgspec.Struct, frozen=True):
    provider: str
    lines: list[str]
    """Oldest first."""


class CallAnswer(msgspec.Struct, frozen=True):
    """What a tool answered."""

    call_id: str
    result: msgspec.Raw
    """The provider's, value for value: `content`, `structuredContent`, `isError`."""


class Problem(msgspec.Struct, frozen=True, rename="camel"):
    """What went wrong (RFC 9457). `code` is stable; `why` and `fix` are for people."""

    type: str
    """`urn:mcp-hangar:error:` and the code."""
    title: str
    """What happened."""
    status: int
    """The HTTP status."""
    code: str
    """See docs/reference/errors.md."""
    why: str
    fix: str
    retry_after: float | None = None
    """Seconds, where it is a matter of time."""
    call_id: str | None = None
    """Of the call that did not go through: `GET /calls/{id}` tells more."""


_ANSWERS: Final = (
    StatusRow, EffectiveConfig, ConfigCheck, ProviderPage, ProviderRow, Logs, ToolList, PromptList, ResourceList,
    CallPage, CallDetail, CallAnswer, SessionPage, SessionRow, EventPage, Code, Login, Problem,
)  # fmt: skip
_REF: Final = "#/components/schemas/{name}"


def components() -> dict[str, Any]:
    _, found = msgspec.json.schema_components(_ANSWERS, ref_template=_REF)
    docs = dict(_docs())
    for name, schema in found.items():
        for member, body in schema.get("properties", {}).items():
            wire = {"retryAfter": "retry_after", "callId": "call_id"}.get(member, member)
            said = docs.get((name, wire))
            if said:
                body["description"] = said
    return dict(found)


def _docs() -> Iterator[tuple[tuple[str, str], str]]:
    """What stands under the members of the types, which only their source has."""
    here = inspect.getmodule(components)
    for module in (kept_records, offered, queries, session_view, views, reread, operator_access, here):
        try:
            source = inspect.getsource(module) if module else ""
        except OSError:  # an installation without sources: a description without these sentences
            continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                for before, after in zip(node.body, node.body[1:], strict=False):
                    if (
                        isinstance(before, ast.AnnAssign)
                        and isinstance(before.target, ast.Name)
                        and isinstance(after, ast.Expr)
                        and isinstance(after.value, ast.Constant)
                    ):
                        yield (node.name, before.target.id), " ".join(str(after.value.value).split())


def answers(kind: type, description: str, polled: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: this, nothing new (where it is polled), or a problem."""
    tag = {"ETag": {"description": "Send it back as `If-None-Match`.", "schema": {"type": "string"}}}
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": description, "content": {"application/json": {"schema": _reference(kind)}}},
    }
    if polled:
        found[200]["headers"] = tag
        found[304] = {"description": "Nothing has changed since that `ETag`", "headers": tag}
    found["default"] = {
        "description": "A problem",
        "content": {"application/problem+json": {"schema": _reference(Problem)}},
    }
    return found


def body_of(kind: type) -> dict[str, Any]:
    (schema,), found = msgspec.json.schema_components([kind], ref_template=_REF)
    name = schema["$ref"].rpartition("/")[2]
    return {"required": True, "content": {"application/json": {"schema": found[name]}}}


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
