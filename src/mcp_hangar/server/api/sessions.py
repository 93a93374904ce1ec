# SPDX-License-Identifier: MIT
"""Sessions: calls that belong together, by caller and conversation."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from mcp_hangar.application.queries import Queries, SessionPage, SessionRow
from mcp_hangar.server.api.answers import listing
from mcp_hangar.server.api.params import Limit, Page, choice, one_of
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import answers

STATES: Final = ("open", "ended")


def router(queries: Queries) -> APIRouter:
    routes = routes_of("sessions")

    @routes.get("/sessions", responses=answers(SessionPage, "Sessions by id", True))
    async def list_sessions(
        request: Request,
        caller: Annotated[str, Query(max_length=200, description="Only this caller's.", examples=["anonymous"])] = "",
        state: Annotated[
            str, one_of(STATES), choice(STATES, "Only those that are open, or that are not.", "open")
        ] = "",
        cursor: Page = "",
        limit: Limit = 100,
    ) -> Response:
        """Sessions that are open, and those that calls were recorded of. Their calls: `GET /calls?session=`."""
        return listing(request, await queries.sessions(caller, state, cursor, limit))

    @routes.get("/sessions/{id}", responses=answers(SessionRow, "One session", True))
    async def get_session(
        request: Request, id: Annotated[str, Path(max_length=200, description="A session's id.", examples=["5f1c9a"])]
    ) -> Response:
        """One session."""
        return listing(request, await queries.session(id))

    return routes
