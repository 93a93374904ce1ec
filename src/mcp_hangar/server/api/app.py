# SPDX-License-Identifier: MIT
"""REST on the operator plane: one FastAPI app, all of it behind the admin token, its description included.

Reads answer values of `application/queries.py` as msgspec writes them; their schemas are put into the OpenAPI
description from the same types. Errors are RFC 9457 problems with our stable codes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from mcp_hangar.application.queries import Queries
from mcp_hangar.domain.errors import Denied, HangarError, RequestError
from mcp_hangar.domain.events import AuthFailed, Event, Severity
from mcp_hangar.server.api import calls, events, providers, status
from mcp_hangar.server.api.commands import Commands
from mcp_hangar.server.api.documents import page
from mcp_hangar.server.api.schemas import components

log = structlog.get_logger(__name__)

PREFIX: Final = "/api/v1"
BODY_BYTES: Final = 4 * 1024 * 1024
_REFUSALS_EVERY: Final = 1.0

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def build_api(
    queries: Queries,
    commands: Commands,
    admin_token: str,
    *,
    version: str,
    record: Callable[[Event], None] = lambda event: None,
    body_bytes: int = BODY_BYTES,
) -> Guard:
    """The ASGI app for every path under `/api/v1` (paths are whole, as they came)."""
    app = FastAPI(
        title="MCP Hangar",
        version=version,
        description="Providers, tools, calls, status and events of a running Hangar.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(refuse_unknown_parameters)],
        redirect_slashes=False,
    )
    for router in (
        status.router(queries),
        providers.router(queries, commands),
        calls.router(queries, commands, body_bytes),
        events.router(queries),
    ):
        app.include_router(router, prefix=PREFIX)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=version, description=app.description, routes=app.routes)
            parts = schema.setdefault("components", {})
            parts["schemas"] = components()
            parts["securitySchemes"] = {"admin": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"admin": []}]
            for methods in schema["paths"].values():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    async def description() -> Response:
        return Response(msgspec.json.encode(app.openapi()), media_type="application/json")

    @app.get(f"{PREFIX}/docs", include_in_schema=False)
    async def documents() -> Response:
        return HTMLResponse(
            page(app.openapi()), headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    app.add_exception_handler(HangarError, _on_hangar_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)
    return Guard(app, admin_token, record)


class Guard:
    """Lets in who has the admin token, and answers what went wrong behind it."""

    def __init__(self, app: FastAPI, token: str, record: Callable[[Event], None]) -> None:
        if not token:
            raise ValueError("the operator plane needs an admin token")
        self.app = app
        # Digests have one length, so that comparing tells nothing about the token's.
        self._token = hashlib.sha256(token.encode()).digest()
        self._record = record
        self._refused_at = float("-inf")
        self._refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RequestError("not_found", path=scope.get("path", ""))
        if not self._admits(scope):
            self._tell(scope)
            error = RequestError("unauthorized", token="the admin token (in admin.token of state.dir)")
            await _problem(error, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        # A defect was logged and answered by `_on_defect`; Starlette raises it once more for the server to see.
        with contextlib.suppress(Exception):
            await self.app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(found) != 1:
            return False
        scheme, _, token = found[0].partition(b" ")
        same = hmac.compare_digest(hashlib.sha256(token.strip()).digest(), self._token)
        return bool(scheme.lower() == b"bearer" and same)

    def _tell(self, scope: Scope) -> None:
        """Recorded at most once a second, so that knocking often cannot fill the record."""
        self._refused += 1
        now = time.monotonic()
        if now - self._refused_at < _REFUSALS_EVERY:
            return
        client = scope.get("client")
        reason = "no valid admin token" + (f" ({self._refused} requests)" if self._refused > 1 else "")
        self._record(
            AuthFailed(
                at=time.time(), severity=Severity.medium, door="rest", peer=client[0] if client else "", reason=reason
            )
        )
        self._refused_at, self._refused = now, 0


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


def _problem(error: HangarError, headers: dict[str, str] | None = None) -> Response:
    status = error.row.http
    if status == 200:  # on the agent plane the model reads it; here it is an error
        status = 403 if isinstance(error, Denied) else 502
    body: dict[str, Any] = {
        "type": f"urn:mcp-hangar:error:{error.code}",
        "title": error.what,
        "status": status,
        **error.data,
    }
    if error.facts.get("call_id"):
        body["callId"] = error.facts["call_id"]
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


async def _on_hangar_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HangarError)
    return _problem(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:5]]
    method = f"{request.method} {request.url.path}"
    return _problem(RequestError("invalid_params", method=method, detail="; ".join(details)))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        facts = {"method": request.method, "path": request.url.path, "allowed": allowed}
        return _problem(RequestError("method_not_allowed", **facts), {"Allow": allowed})
    return _problem(RequestError("not_found", path=request.url.path))


async def _on_defect(request: Request, error: Exception) -> Response:
    """The log has it, without the values of variables (which may be secrets); the caller gets a reference."""
    reference = uuid.uuid4().hex[:12]
    trace = "".join(traceback.format_exception(error))
    log.error("request_failed", path=request.url.path, reference=reference, trace=trace)
    return _problem(HangarError("internal", reference=reference))
