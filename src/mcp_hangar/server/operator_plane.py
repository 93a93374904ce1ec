# SPDX-License-Identifier: MIT
"""Everything that is not MCP: health for probes, REST for people and scripts. Plain ASGI routing."""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_hangar import __version__
from mcp_hangar.application.flight import Flight
from mcp_hangar.application.listing import Client, question
from mcp_hangar.application.offered import Offered
from mcp_hangar.application.queries import Queries
from mcp_hangar.domain.call import NO_CAPABILITIES, Caller, CallerType, Session
from mcp_hangar.domain.errors import HangarError, ProtocolError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Raw
from mcp_hangar.domain.mcp.eras import MODERN_VERSION, Era
from mcp_hangar.domain.mcp.request import Request
from mcp_hangar.domain.policy import decide
from mcp_hangar.domain.provider import Provider
from mcp_hangar.server.api.app import build_api
from mcp_hangar.server.api.problems import refuse
from mcp_hangar.server.asgi import App, Receive, Scope, Send
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config.reread import Configuration
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.hangar_tools import SilentChannel
from mcp_hangar.server.operator_access import Access
from mcp_hangar.server.websocket import Streams

OPERATOR = Caller(id="operator", type=CallerType.operator)


class OperatorPlane:
    """`rest` is None where the operator plane has an address of its own: then only health is answered here. `doors`
    is None on a Unix socket, whose file says who may come in."""

    def __init__(self, house: House, doors: Doors | None, rest: App | None) -> None:
        self._house, self._doors, self._rest = house, doors, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._doors is not None:
                self._doors.check(scope, dict(scope["headers"]))
            path = scope["path"]
            if scope["type"] == "websocket" and self._rest is None:
                raise RequestError("not_found", path=path)
            if path == "/healthz":
                await _answer(send, 200, {"status": "alive"})
            elif path == "/readyz":
                why = self._why_not_ready()
                await _answer(
                    send, 503 if why else 200, {"status": "not ready", "why": why} if why else {"status": "ready"}
                )
            elif path.startswith("/api/") and self._rest is not None:
                await self._rest(scope, receive, send)
            else:
                raise RequestError("not_found", path=path)
        except HangarError as error:
            await refuse(error, scope, send)

    def _why_not_ready(self) -> str:
        """A cold provider is no reason: the first call starts it."""
        if self._house.proxy.stopping:
            return "stopping"
        return self._house.log.detail if self._house.log.full else ""


class Commands:
    """What REST may change; a tool call from here takes the same path as any other."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def start(self, provider: str) -> None:
        await self._house.hold(provider, held=False)

    async def stop(self, provider: str) -> None:
        await self._house.hold(provider, held=True)

    async def meet(self, provider: str) -> None:
        known = self._house.settings.providers[provider]
        if self._house.catalogue.newest_or_kept(known) is None and not self._house.instances.held(provider):
            await self._house.listing.offers(operator(provider), [known])

    async def invoke(self, provider: str, tool: str, arguments: bytes) -> dict[str, Any]:
        params = {"name": Raw(envelope.encode(tool)), "arguments": Raw(arguments)}
        call = self._house.methods.call_of(Request(b"0", "tools/call", params, {}, tool), operator(provider), "")
        try:
            answer = await self._house.proxy.call(call, Flight(call, SilentChannel()))
            if len(answer.error):
                detail = f"It answered with an error: {bytes(answer.error).decode(errors='replace')[:500]}"
                raise ProtocolError("provider_protocol", provider=provider, detail=detail)
        except HangarError as error:
            error.facts.setdefault("call_id", call.id)
            raise
        return {"call_id": call.id, "result": Raw(bytes(answer.result))}


def operator(provider: str) -> Client:
    """The operator as a client of one provider; it can be asked nothing."""
    return Client(
        era=Era.modern,
        caller=OPERATOR,
        session=Session(id="operator"),
        capabilities=NO_CAPABILITIES,
        conversation="operator",
        scope=provider,
        prefixed=False,
        version=MODERN_VERSION,
        client=f"hangar/{__version__}",
        client_info=envelope.encode({"name": "hangar", "version": __version__}),
    )


def rest(house: House, access: Access) -> App:
    """REST under `/api/v1` and the live stream, for whom `access` admits."""

    def denied_by(provider: Provider, tool: str) -> str:
        decision = decide(question(operator(provider.name), provider.name, tool), provider, house.proxy.fleet.judges)
        return decision.policy if decision is not None else ""

    def logs(provider: Provider) -> list[str]:
        return house.launchers[provider.mode].logs(provider.name)

    def providers() -> dict[str, Provider]:
        return house.settings.providers

    queries = Queries(
        views=house.views,
        log=house.log,
        instances=house.instances,
        sessions=house.sessions,
        providers=providers,
        offered=Offered(providers=providers, offer=house.catalogue.newest_or_kept, denied_by=denied_by),
        logs=logs,
        stopping=lambda: house.proxy.stopping,
        software=f"mcp-hangar {__version__}",
        config=str(house.settings.file),
    )
    limits = house.settings.server.limits
    stream = Streams(house.views.kept, access, limit=limits.streams, lag=limits.stream_lag)
    configuration = Configuration(house.settings, house.environment)
    return build_api(queries, Commands(house), configuration, access, stream, body_bytes=limits.body_bytes)


async def _answer(send: Send, status: int, value: dict[str, Any], kind: bytes = b"application/json") -> None:
    body = msgspec.json.encode(value)
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
