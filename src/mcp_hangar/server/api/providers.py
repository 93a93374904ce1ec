# SPDX-License-Identifier: MIT
"""Providers and their tools: look, start, stop, read what they wrote to stderr."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from mcp_hangar.application.queries import ProviderRow, Queries, ToolList
from mcp_hangar.server.api.commands import Commands
from mcp_hangar.server.api.schemas import Logs, Providers, answer, answers

Name = Annotated[str, Path(max_length=64, description="A provider's name.")]


def router(queries: Queries, commands: Commands) -> APIRouter:
    routes = APIRouter(tags=["providers"])

    @routes.get("/providers", responses=answers(Providers, "All providers"))
    async def providers() -> Response:
        """Every configured provider: state, era, instances, tools, what nothing enforces, calls, last error."""
        return answer(Providers(queries.providers()))

    @routes.get("/providers/{name}", responses=answers(ProviderRow, "One provider"))
    async def provider(name: Name) -> Response:
        """One provider."""
        return answer(queries.provider(name))

    @routes.get("/providers/{name}/logs", responses=answers(Logs, "Lines, oldest first"))
    async def logs(
        name: Name,
        limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many of the newest lines.")] = 200,
    ) -> Response:
        """The newest lines that a provider wrote to stderr, all its instances together."""
        return answer(Logs(name, queries.logs(name, limit)))

    @routes.post("/providers/{name}/start", responses=answers(ProviderRow, "The provider"))
    async def start(name: Name) -> Response:
        """Lift an operator's stop, and forget earlier failures: the next call starts it."""
        queries.provider(name)
        await commands.start(name)
        return answer(queries.provider(name))

    @routes.post("/providers/{name}/stop", responses=answers(ProviderRow, "The provider"))
    async def stop(name: Name) -> Response:
        """Finish its calls, end all its instances, and keep it stopped (across restarts) until it is started."""
        queries.provider(name)
        await commands.stop(name)
        return answer(queries.provider(name))

    @routes.get("/tools", responses=answers(ToolList, "Tools by provider"))
    async def tools(
        provider: Annotated[str, Query(max_length=64, description="Only this provider's.")] = "",
        query: Annotated[str, Query(max_length=200, description="Words that name or description contain.")] = "",
    ) -> Response:
        """The tools that providers are known to offer, denied ones included and marked."""
        return answer(queries.tools(provider, query))

    return routes
