# SPDX-License-Identifier: MIT
"""Calls: what was called and why it ended so; and calling a tool, on the same path as every call."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from mcp_hangar.application.queries import CallDetail, Queries
from mcp_hangar.application.views import CallFilter, CallPage
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.server.api.commands import Commands
from mcp_hangar.server.api.schemas import CallAnswer, answer, answers

DEPTH: Final = 64
_SINCE: Final = r"^\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?Z?)?$"
_WHERE: Final = "the body of POST /api/v1/call"
_BODY: Final = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["provider", "tool"],
                "properties": {
                    "provider": {"type": "string"},
                    "tool": {"type": "string", "description": "The provider's own name for it."},
                    "arguments": {"type": "object"},
                },
            }
        }
    },
}


def router(queries: Queries, commands: Commands, body_bytes: int) -> APIRouter:
    routes = APIRouter(tags=["calls"])

    @routes.get("/calls", responses=answers(CallPage, "Calls, newest first"))
    async def calls(
        provider: Annotated[str, Query(max_length=64)] = "",
        method: Annotated[str, Query(max_length=100)] = "",
        name: Annotated[str, Query(max_length=1000, description="Of the tool, prompt or resource.")] = "",
        outcome: Annotated[
            str, Query(pattern="^(ok|tool_error|input_required|completed|failed|denied|running)?$")
        ] = "",
        caller: Annotated[str, Query(max_length=200)] = "",
        session: Annotated[str, Query(max_length=200)] = "",
        since: Annotated[str, Query(pattern=_SINCE, description="RFC 3339 in UTC.")] = "",
        cursor: Annotated[str, Query(max_length=80, description="Of the page before: go on with older calls.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """The calls that match every filter given."""
        where = CallFilter(
            provider=provider,
            method=method,
            name=name,
            outcome=outcome,
            caller=caller,
            session=session,
            since=since.removesuffix("Z"),
        )
        return answer(queries.calls(where, cursor, limit))

    @routes.get("/calls/{id}", responses=answers(CallDetail, "One call"))
    async def call(id: Annotated[str, Path(max_length=100)]) -> Response:
        """All that is known of one call: its row, its story in sentences, its events."""
        return answer(queries.call(id))

    @routes.post("/call", responses=answers(CallAnswer, "What the tool answered"), openapi_extra={"requestBody": _BODY})
    async def invoke(request: Request) -> Response:
        """Call a tool. A tool's own error is an answer (`result.isError`); a refusal or failure is a problem."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError("unsupported_media_type")
        provider, tool, arguments = read_call(await _body(request, body_bytes))
        queries.provider(provider)
        return answer(await commands.invoke(provider, tool, arguments))

    return routes


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestError("body_too_large", limit=limit)
    return bytes(body)


def read_call(body: bytes) -> tuple[str, str, bytes]:
    """Provider, tool and arguments; the arguments as they came."""
    if envelope.too_deep(body, DEPTH):
        raise RequestError("too_deep", limit=DEPTH)
    members = envelope.members(body, _WHERE)
    unknown = set(members) - {"provider", "tool", "arguments"}
    provider, tool = envelope.text(members.get("provider")), envelope.text(members.get("tool"))
    arguments = bytes(members.get("arguments", b"{}")).strip()
    detail = ""
    if unknown:
        detail = f"there is no member {min(unknown)!r}; there are: provider, tool, arguments"
    elif not provider or not tool:
        detail = "provider and tool must be strings, and not empty"
    elif not arguments.startswith(b"{"):
        detail = "arguments must be an object"
    if detail:
        raise RequestError("invalid_params", method="POST /api/v1/call", detail=detail)
    return provider, tool, arguments
