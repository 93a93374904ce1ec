# SPDX-License-Identifier: MIT
"""REST on the operator plane: one FastAPI app, all of it behind the admin token, its description included.

Reads answer values of `application/queries.py` as msgspec writes them; their schemas are put into the OpenAPI
description from the same types. Errors are RFC 9457 problems with our stable codes. The routers below are the one
table of routes: what is not in it is not there, and `Guard` lets nobody at it without a token, but for `OPEN`.
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Final
from urllib.parse import parse_qs

import msgspec
from fastapi import APIRouter, FastAPI, Query
from starlette.responses import HTMLResponse, Response

from mcp_hangar.application.queries import Queries
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.server.api import calls, events, login, offered, providers, sessions, status
from mcp_hangar.server.api.commands import Commands
from mcp_hangar.server.api.description import DESCRIPTION, TITLE, VERSION, describe
from mcp_hangar.server.api.documents import page
from mcp_hangar.server.api.problems import refuse, tell_errors
from mcp_hangar.server.api.routes import PREFIX, routes_of
from mcp_hangar.server.asgi import App, Receive, Scope, Send
from mcp_hangar.server.config.reread import Configuration
from mcp_hangar.server.operator_access import Access, bearer

STREAM: Final = f"{PREFIX}/stream"
DOCS: Final = f"{PREFIX}/docs"
OPEN: Final = frozenset({("POST", f"{PREFIX}/login")})
"""What needs no token: here one is given, for a one-time code."""
BODY_BYTES: Final = 4 * 1024 * 1024
_CSP: Final = "default-src 'none'; style-src 'unsafe-inline'"


def build_api(
    queries: Queries,
    commands: Commands,
    configuration: Configuration,
    access: Access,
    stream: App,
    *,
    body_bytes: int = BODY_BYTES,
) -> Guard:
    """The ASGI app for every path under `/api/v1` (paths are whole, as they came)."""
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for part in (
        status.router(queries, configuration),
        providers.router(queries, commands),
        offered.router(queries.offered),
        calls.router(queries, commands, body_bytes),
        sessions.router(queries),
        events.router(queries),
        login.router(access),
        _described(app),
    ):
        app.router.routes.extend(part.routes)
    describe(app)
    tell_errors(app)
    return Guard(app, access, stream)


def _described(app: FastAPI) -> APIRouter:
    """The description, for programs and for people."""
    routes = routes_of()

    @routes.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        return Response(msgspec.json.encode(app.openapi()), media_type="application/json")

    @routes.get("/docs", include_in_schema=False)
    async def documents(code: Annotated[str, Query(max_length=100)] = "") -> Response:
        headers = {"Content-Security-Policy": _CSP, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        return HTMLResponse(page(app.openapi()), headers=headers)

    return routes


class Guard:
    """Lets in who has a token. A WebSocket's opening carries none: its first message does."""

    def __init__(self, app: FastAPI, access: Access, stream: App) -> None:
        self.app = app
        self._access, self._stream = access, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if scope["path"] != STREAM:
                raise RequestError("not_found", path=scope["path"])
            await self._stream(scope, receive, send)
            return
        if not self._admits(scope):
            await refuse(self._access.refused("rest", scope), scope, send)
            return
        if scope["path"] == STREAM:
            await refuse(RequestError("upgrade_required", path=STREAM), scope, send)
            return
        # A defect was logged and answered by `problems`; Starlette raises it once more for the server to see.
        with contextlib.suppress(Exception):
            await self.app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        if (scope["method"], scope["path"]) in OPEN or self._access.admits(bearer(scope["headers"])):
            return True
        if (scope["method"], scope["path"]) != ("GET", DOCS):
            return False
        codes = parse_qs(scope["query_string"].decode("latin-1")).get("code", [])
        return len(codes) == 1 and self._access.use(codes[0])
