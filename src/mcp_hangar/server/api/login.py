# SPDX-License-Identifier: MIT
"""How a browser comes in: a link with a one-time code, traded for a session token. No cookies: they ignore ports, so
any local page could collect them."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.server.api.answers import answer
from mcp_hangar.server.api.bodies import json_body
from mcp_hangar.server.api.routes import routes_of
from mcp_hangar.server.api.schemas import answers, body_of
from mcp_hangar.server.operator_access import Access, Code, Login, bearer


class Trade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: str
    """As the link has it."""


LONGEST: Final = 1024


def router(access: Access) -> APIRouter:
    routes = routes_of("login")

    @routes.post("/codes", responses=answers(Code, "A code"))
    async def create_code(request: Request) -> Response:
        """A one-time code, for a link to the docs or a web page. Only for the admin token itself."""
        if not access.is_admin(bearer(request.headers.raw)):
            raise RequestError("unauthorized", token="the admin token; a session token makes no codes")
        return answer(access.new_code())

    @routes.post(
        "/login",
        responses=answers(Login, "A session token"),
        openapi_extra={"requestBody": body_of(Trade), "security": []},
    )
    async def log_in(request: Request) -> Response:
        """Trade a one-time code for a session token of twelve hours. The one door that needs no token."""
        try:
            trade = msgspec.json.decode(await json_body(request, LONGEST), type=Trade)
        except msgspec.ValidationError as error:
            raise RequestError("invalid_params", method="POST /api/v1/login", detail=str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError("parse_error", detail=str(error)) from None
        try:
            return answer(access.trade(trade.code))
        except RequestError:
            raise access.refused("login", request.scope) from None

    return routes
