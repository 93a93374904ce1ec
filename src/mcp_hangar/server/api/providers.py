# SPDX-License-Identifier: MIT
"""Providers: look, start, stop, read what they wrote to stderr."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mcp_hangar.application.queries import ProviderPage, ProviderRow, Queries
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.provider import Mode
from mcp_hangar.server.api.answers import answer, listing
from mcp_hangar.server.api.commands import Commands
from mcp_hangar.server.api.params import Limit, Name, Page, choice, one_of
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import Logs, answers

MODES: Final = tuple(mode.value for mode in Mode)
STATES: Final = (*(state.value for state in State), "held")


def router(queries: Queries, commands: Commands) -> APIRouter:
    routes = routes_of("providers")

    @routes.get("/providers", responses=answers(ProviderPage, "Providers by name", True))
    async def list_providers(
        request: Request,
        mode: Annotated[str, one_of(MODES), choice(MODES, "Only those that run so.", "subprocess")] = "",
        state: Annotated[
            str,
            one_of(STATES),
            choice(STATES, "Only those in this state; `held`: stopped by an operator.", "ready"),
        ] = "",
        cursor: Page = "",
        limit: Limit = 100,
    ) -> Response:
        """Every configured provider: state, era, instances, tools, what nothing enforces, calls, last error."""
        return listing(request, queries.provider_page(mode, state, cursor, limit))

    @routes.get("/providers/{name}", responses=answers(ProviderRow, "One provider", True))
    async def get_provider(request: Request, name: Name) -> Response:
        """One provider."""
        return listing(request, queries.provider(name))

    @routes.get("/providers/{name}/logs", responses=answers(Logs, "Lines, oldest first", True))
    async def get_provider_logs(
        request: Request,
        name: Name,
        limit: Annotated[
            int, Query(ge=1, le=10_000, description="At most so many of the newest lines.", examples=[200])
        ] = 200,
    ) -> Response:
        """The newest lines that a provider wrote to stderr, all its instances together."""
        return listing(request, Logs(name, queries.logs(name, limit)))

    @routes.post("/providers/{name}/start", responses=answers(ProviderRow, "The provider"))
    async def start_provider(name: Name) -> Response:
        """Lift an operator's stop, and forget earlier failures: the next call starts it."""
        queries.provider(name)
        await commands.start(name)
        return answer(queries.provider(name))

    @routes.post("/providers/{name}/meet", responses=answers(ProviderRow, "The provider"))
    async def meet_provider(name: Name) -> Response:
        """If nobody ever asked what it offers, start it and ask, as a client's list does. Waits `expose.list_timeout`
        at most; then `tools` is still null, and `last_error` may say why."""
        queries.provider(name)
        await commands.meet(name)
        return answer(queries.provider(name))

    @routes.post("/providers/{name}/stop", responses=answers(ProviderRow, "The provider"))
    async def stop_provider(name: Name) -> Response:
        """Finish its calls, end all its instances, and keep it stopped (across restarts) until it is started."""
        queries.provider(name)
        await commands.stop(name)
        return answer(queries.provider(name))

    return routes
