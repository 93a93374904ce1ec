# SPDX-License-Identifier: MIT
"""Events: the newest, those after a cursor, those that match. What happens from now on is told by the live stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mcp_hangar.application.kept_records import EventFilter, EventPage
from mcp_hangar.application.queries import Queries
from mcp_hangar.server.api.answers import folded, known, not_changed, tagged
from mcp_hangar.server.api.params import SEVERITIES, Cursor, Families, Limit, Provider, choice, one_of
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import answers


def router(queries: Queries) -> APIRouter:
    routes = routes_of("events")

    @routes.get("/events", responses=answers(EventPage, "Events, oldest first", True))
    async def list_events(
        request: Request,
        cursor: Annotated[
            str,
            Query(
                pattern=Cursor,
                description="`epoch:seq` of the last event seen: go on after it. Without one the newest are answered.",
                examples=["5f1c9a2b7d04:120"],
            ),
        ] = "",
        family: Families = "",
        provider: Provider = "",
        severity: Annotated[
            str, one_of(SEVERITIES), choice(SEVERITIES, "Of this severity, and what matters more.", "medium")
        ] = "",
        call: Annotated[str, Query(max_length=100, description="Only of this call.", examples=["c-1"])] = "",
        session: Annotated[str, Query(max_length=200, description="Only of this session.", examples=["5f1c9a"])] = "",
        limit: Limit = 100,
    ) -> Response:
        """Events as they are recorded. What is asked for and no longer kept is told as `gap`."""
        tag = folded(queries.kept.newest)
        if known(request, tag):
            return not_changed(tag)
        where = EventFilter(
            families=tuple(filter(None, family.split(","))),
            providers=(provider,) if provider else (),
            severity=severity,
            call=call,
            session=session,
        )
        return tagged(await queries.events(cursor, limit, where), tag)

    return routes
