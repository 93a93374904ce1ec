# SPDX-License-Identifier: MIT
"""Calls: what was called and why it ended so; and calling a tool, on the same path as every call."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from mcp_hangar.application.queries import CallDetail, Queries
from mcp_hangar.application.views import CallFilter, CallPage
from mcp_hangar.domain.errors import HangarError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.server.api.answers import answer, folded, known, not_changed, tagged
from mcp_hangar.server.api.bodies import json_body
from mcp_hangar.server.api.commands import Commands
from mcp_hangar.server.api.params import Cursor, Limit, Provider, Since, Until, choice, one_of
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import CallAnswer, answers

DEPTH: Final = 64
OUTCOMES: Final = ("ok", "tool_error", "input_required", "task", "failed", "denied")
STATES: Final = ("running", "completed", "failed", "denied")
_WHERE: Final = "the body of POST /api/v1/calls"
_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["provider", "tool"],
                "properties": {
                    "provider": {"type": "string", "minLength": 1, "description": "The provider's name."},
                    "tool": {"type": "string", "minLength": 1, "description": "The provider's own name for it."},
                    "arguments": {"type": "object", "description": "Sent on as they are. Absent: none."},
                },
            },
            "example": {
                "provider": "time",
                "tool": "get_current_time",
                "arguments": {"timezone": "Europe/Berlin"},
            },
        }
    },
}


def router(queries: Queries, commands: Commands, body_bytes: int) -> APIRouter:
    routes = routes_of("calls")

    @routes.get("/calls", responses=answers(CallPage, "Calls, newest first", True))
    async def list_calls(
        request: Request,
        provider: Provider = "",
        method: Annotated[
            str, Query(max_length=100, description="Such as `tools/call`.", examples=["tools/call"])
        ] = "",
        name: Annotated[
            str, Query(max_length=1000, description="Of the tool, prompt or resource.", examples=["get_current_time"])
        ] = "",
        state: Annotated[str, one_of(STATES), choice(STATES, "Only those in this state.", "running")] = "",
        outcome: Annotated[str, one_of(OUTCOMES), choice(OUTCOMES, "Only those that ended so.", "denied")] = "",
        caller: Annotated[str, Query(max_length=200, description="Who called.", examples=["anonymous"])] = "",
        tenant: Annotated[str, Query(max_length=200, description="Whom the caller belongs to.", examples=["t1"])] = "",
        session: Annotated[str, Query(max_length=200, description="In this session.", examples=["5f1c9a"])] = "",
        trace: Annotated[str, Query(max_length=200, description="W3C trace id.", examples=["4bf92f3577b34da6"])] = "",
        since: Since = "",
        until: Until = "",
        cursor: Annotated[
            str,
            Query(
                pattern=Cursor,
                description="Of the page before: go on with older calls.",
                examples=["5f1c9a2b7d04:120"],
            ),
        ] = "",
        limit: Limit = 100,
    ) -> Response:
        """The calls that match every filter given, newest first."""
        tag = folded(queries.kept.newest)
        if known(request, tag):
            return not_changed(tag)
        where = CallFilter(
            provider=provider,
            method=method,
            name=name,
            outcome=outcome,
            state=state,
            caller=caller,
            tenant=tenant,
            session=session,
            trace=trace,
            since=since,
            until=until,
        )
        return tagged(await queries.calls(where, cursor, limit), tag)

    @routes.get("/calls/{id}", responses=answers(CallDetail, "One call", True))
    async def get_call(
        request: Request, id: Annotated[str, Path(max_length=100, description="A call's id.", examples=["c-1"])]
    ) -> Response:
        """All that is known of one call, and why it ended so: its row, its story in sentences, its events."""
        tag = folded(queries.kept.newest)
        detail = await queries.call(id)
        return not_changed(tag) if known(request, tag) else tagged(detail, tag)

    @routes.post(
        "/calls", responses=answers(CallAnswer, "What the tool answered"), openapi_extra={"requestBody": _BODY}
    )
    async def make_call(request: Request) -> Response:
        """Call a tool. A tool's own error is an answer (`result.isError`); a refusal or failure is a problem."""
        provider, tool, arguments = read_call(await json_body(request, body_bytes))
        queries.provider(provider)
        try:
            made = await commands.invoke(provider, tool, arguments)
        except HangarError as error:
            if "call_id" in error.facts:
                await queries.recorded(str(error.facts["call_id"]))
            raise
        await queries.recorded(made["call_id"])
        return answer(made, {"Location": f"/api/v1/calls/{made['call_id']}"})

    return routes


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
        raise RequestError("invalid_params", method="POST /api/v1/calls", detail=detail)
    return provider, tool, arguments
