# SPDX-License-Identifier: MIT
"""The answers' schemas for OpenAPI, made from the types that are answered."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import Response

from mcp_hangar.application.queries import CallDetail, ProviderRow, StatusRow, ToolList
from mcp_hangar.application.views import CallPage, EventPage


class Providers(msgspec.Struct, frozen=True):
    providers: list[ProviderRow]


class Logs(msgspec.Struct, frozen=True):
    provider: str
    lines: list[str]


class CallAnswer(msgspec.Struct, frozen=True):
    """What a tool answered; `result` is the provider's, value for value."""

    call_id: str
    result: msgspec.Raw


class Problem(msgspec.Struct, frozen=True, rename="camel"):
    """RFC 9457. `code` is stable; `why` and `fix` are for people."""

    type: str
    title: str
    status: int
    code: str
    why: str
    fix: str
    retry_after: float | None = None
    call_id: str | None = None


_ANSWERS: Final = (
    StatusRow,
    Providers,
    ProviderRow,
    Logs,
    ToolList,
    CallPage,
    CallDetail,
    EventPage,
    CallAnswer,
    Problem,
)
_REF: Final = "#/components/schemas/{name}"


def components() -> dict[str, Any]:
    _, found = msgspec.json.schema_components(_ANSWERS, ref_template=_REF)
    return dict(found)


def answers(kind: type, description: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: this, or a problem."""
    return {
        200: {"description": description, "content": {"application/json": {"schema": _reference(kind)}}},
        "default": {
            "description": "A problem",
            "content": {"application/problem+json": {"schema": _reference(Problem)}},
        },
    }


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}


def answer(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
