# SPDX-License-Identifier: MIT
"""GET /status: how Hangar fares."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from mcp_hangar.application.queries import Queries, StatusRow
from mcp_hangar.server.api.schemas import answer, answers


def router(queries: Queries) -> APIRouter:
    routes = APIRouter(tags=["status"])

    @routes.get("/status", responses=answers(StatusRow, "How Hangar and its providers fare"))
    async def status() -> Response:
        """Software, record, totals and every provider."""
        return answer(queries.status())

    return routes
