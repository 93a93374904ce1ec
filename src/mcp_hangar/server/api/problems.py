# SPDX-License-Identifier: MIT
"""Errors as the operator plane tells them: RFC 9457 problems with our stable codes, whatever went wrong."""

from __future__ import annotations

import traceback
import uuid
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from mcp_hangar.domain.errors import Denied, HangarError, RequestError
from mcp_hangar.server.asgi import Scope, Send

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


def problem(error: HangarError) -> dict[str, Any]:
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
    return body


def respond(error: HangarError, headers: dict[str, str] | None = None) -> Response:
    body = problem(error)
    headers = dict(headers or {})
    if body["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if "retryAfter" in body:
        headers["Retry-After"] = str(max(1, round(float(body["retryAfter"]))))
    return Response(msgspec.json.encode(body), body["status"], headers, MEDIA_TYPE)


async def refuse(error: HangarError, scope: Scope, send: Send) -> None:
    """Answer a request, or the opening of a WebSocket, with a problem; for what never reaches the routes."""
    body = msgspec.json.encode(problem(error))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if error.code == "unauthorized":
        headers.append((b"www-authenticate", b"Bearer"))
    if error.code == "upgrade_required":
        headers += [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", "status": error.row.http, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def tell_errors(app: FastAPI) -> None:
    app.add_exception_handler(HangarError, _on_hangar_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)


async def _on_hangar_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HangarError)
    return respond(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = [
        f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors()[:5]
    ]
    method = f"{request.method} {request.url.path}"
    return respond(RequestError("invalid_params", method=method, detail="; ".join(details)))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(sorted(_allowed(request)))
        facts = {"method": request.method, "path": request.url.path, "allowed": allowed}
        return respond(RequestError("method_not_allowed", **facts), {"Allow": allowed})
    return respond(RequestError("not_found", path=request.url.path))


def _allowed(request: Request) -> set[str]:
    """What any route answers at this path: each knows its own methods only."""
    routes: list[BaseRoute] = request.app.routes
    found: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _on_defect(request: Request, error: Exception) -> Response:
    """The log has it, without the values of variables (which may be secrets); the caller gets a reference."""
    reference = uuid.uuid4().hex[:12]
    trace = "".join(traceback.format_exception(error))
    log.error("request_failed", path=request.url.path, reference=reference, trace=trace)
    return respond(HangarError("internal", reference=reference))
