# SPDX-License-Identifier: MIT
"""How Hangar fares, and the configuration that is in effect."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from mcp_hangar.application.queries import Queries, StatusRow
from mcp_hangar.server.api.answers import answer, listing
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import answers
from mcp_hangar.server.config.reread import ConfigCheck, Configuration, EffectiveConfig


def router(queries: Queries, configuration: Configuration) -> APIRouter:
    routes = routes_of()

    @routes.get("/status", tags=["status"], responses=answers(StatusRow, "How Hangar and its providers fare", True))
    async def status(request: Request) -> Response:
        """Software, record, totals and every provider."""
        return listing(request, queries.status())

    @routes.get("/config", tags=["config"], responses=answers(EffectiveConfig, "What is in effect", True))
    async def effective_config(request: Request) -> Response:
        """The configuration in effect: defaults filled in, secrets masked."""
        return listing(request, configuration.effective())

    @routes.get("/config/check", tags=["config"], responses=answers(ConfigCheck, "What is wrong with the file"))
    async def check_config() -> Response:
        """Read the configured file again and tell every problem, with its place and a fix. Nothing is applied."""
        return answer(await configuration.check())

    return routes
