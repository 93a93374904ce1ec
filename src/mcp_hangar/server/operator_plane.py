# SPDX-License-Identifier: MIT
"""Everything that is not MCP: health for probes, REST for people and scripts. Plain ASGI routing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_hangar.domain.errors import HangarError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.server.doors import Doors

if TYPE_CHECKING:
    from mcp_hangar.server.bootstrap.wiring import House
    from mcp_hangar.server.mcp_endpoint import App, Receive, Scope, Send


class OperatorPlane:
    def __init__(self, house: House, doors: Doors, rest: App | None = None) -> None:
        self._house, self._doors, self._rest = house, doors, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._doors.check(scope, dict(scope["headers"]))
            path = scope["path"]
            if path == "/healthz":
                return await _answer(send, 200, {"status": "alive"})
            if path == "/readyz":
                ready = not self._house.proxy.stopping and not self._house.log.full
                return await _answer(send, 200 if ready else 503, {"status": "ready" if ready else "not ready"})
            if path.startswith("/api/") and self._rest is not None:
                return await self._rest(scope, receive, send)
            raise RequestError("not_found", path=path)
        except HangarError as error:
            body = {
                "type": f"urn:mcp-hangar:error:{error.code}",
                "title": error.what,
                "status": error.row.http,
                **error.data,
            }
            await _answer(send, error.row.http, body, b"application/problem+json")


async def _answer(send: Send, status: int, value: dict[str, object], kind: bytes = b"application/json") -> None:
    body = envelope.encode(value)
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
