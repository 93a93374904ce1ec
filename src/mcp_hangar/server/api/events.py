# SPDX-License-Identifier: MIT
"""GET /events: the newest records, and those after a cursor."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from mcp_hangar.application.queries import Queries
from mcp_hangar.application.views import EventPage
from mcp_hangar.server.api.schemas import answer, answers


def router(queries: Queries) -> APIRouter:
    routes = APIRouter(tags=["events"])

    @routes.get("/events", responses=answers(EventPage, "Records, oldest first"))
    async def events(
        after: Annotated[
            str, Query(max_length=80, description="A cursor, `epoch:seq`; without one the newest are answered.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
    ) -> Response:
        """Events as they are recorded. What is asked for and no longer kept is told as `gap`."""
        return answer(queries.events(after, limit))

    return routes
