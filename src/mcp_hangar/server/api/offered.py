# SPDX-License-Identifier: MIT
"""What providers are known to offer: tools, prompts, resources; of all of them, or of one."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from mcp_hangar.application.offered import Offered, PromptList, ResourceList, ToolList
from mcp_hangar.server.api.answers import listing
from mcp_hangar.server.api.params import Limit, Name, Page, Provider, Words, choice, one_of
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import answers

KINDS: Final = ("resource", "template")
Kind = Annotated[str, one_of(KINDS), choice(KINDS, "Only resources, or only templates.", "template")]


def router(offered: Offered) -> APIRouter:
    routes = routes_of()

    @routes.get("/tools", tags=["tools"], responses=answers(ToolList, "Tools", True))
    async def list_tools(
        request: Request, provider: Provider = "", query: Words = "", cursor: Page = "", limit: Limit = 100
    ) -> Response:
        """The tools that providers are known to offer, denied ones included and marked. No provider is started."""
        return listing(request, offered.tools(provider, query, cursor, limit))

    @routes.get("/prompts", tags=["prompts"], responses=answers(PromptList, "Prompts", True))
    async def list_prompts(
        request: Request, provider: Provider = "", query: Words = "", cursor: Page = "", limit: Limit = 100
    ) -> Response:
        """The prompts that providers are known to offer. No provider is started."""
        return listing(request, offered.prompts(provider, query, cursor, limit))

    @routes.get("/resources", tags=["resources"], responses=answers(ResourceList, "Resources", True))
    async def list_resources(
        request: Request,
        provider: Provider = "",
        query: Words = "",
        kind: Kind = "",
        cursor: Page = "",
        limit: Limit = 100,
    ) -> Response:
        """The resources and templates that providers are known to offer. No provider is started."""
        return listing(request, offered.resources(provider, query, _template(kind), cursor, limit))

    @routes.get("/providers/{name}/tools", tags=["tools"], responses=answers(ToolList, "Its tools", True))
    async def list_provider_tools(
        request: Request, name: Name, query: Words = "", cursor: Page = "", limit: Limit = 100
    ) -> Response:
        """The tools of one provider."""
        return listing(request, offered.tools(name, query, cursor, limit))

    @routes.get("/providers/{name}/prompts", tags=["prompts"], responses=answers(PromptList, "Its prompts", True))
    async def list_provider_prompts(
        request: Request, name: Name, query: Words = "", cursor: Page = "", limit: Limit = 100
    ) -> Response:
        """The prompts of one provider."""
        return listing(request, offered.prompts(name, query, cursor, limit))

    @routes.get("/providers/{name}/resources", tags=["resources"], responses=answers(ResourceList, "Its own", True))
    async def list_provider_resources(
        request: Request, name: Name, query: Words = "", kind: Kind = "", cursor: Page = "", limit: Limit = 100
    ) -> Response:
        """The resources and templates of one provider."""
        return listing(request, offered.resources(name, query, _template(kind), cursor, limit))

    return routes


def _template(kind: str) -> bool | None:
    return kind == "template" if kind else None
