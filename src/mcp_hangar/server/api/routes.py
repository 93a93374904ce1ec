# SPDX-License-Identifier: MIT
"""How a part of the table of routes begins: under one prefix, strict about parameters."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute

from mcp_hangar.domain.errors import RequestError

PREFIX: Final = "/api/v1"


def routes_of(tag: str = "") -> APIRouter:
    return APIRouter(
        prefix=PREFIX,
        tags=[tag] if tag else None,
        dependencies=[Depends(refuse_unknown_parameters)],
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
    )


async def refuse_unknown_parameters(request: Request) -> None:
    """A misspelt filter would otherwise answer everything."""
    route = request.scope.get("route")
    if isinstance(route, APIRoute):
        known = {parameter.alias for parameter in route.dependant.query_params}
        for name in request.query_params:
            if name not in known:
                names = ", ".join(sorted(known)) or "none"
                detail = f"there is no parameter {name!r}; there are: {names}"
                raise RequestError("invalid_params", method=f"{request.method} {request.url.path}", detail=detail)
            if len(request.query_params.getlist(name)) > 1:
                raise RequestError("duplicate_key", key=name, where="the query")
