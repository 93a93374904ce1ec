# SPDX-License-Identifier: MIT
"""Doubles of the ports `Launcher` and `Connection` that keep the ports' laws, with a scripted server behind them."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp_hangar.application.ports.connection import Listener, Outgoing
from mcp_hangar.domain.errors import HangarError, ProviderDied, StartFailed, Unsent
from mcp_hangar.domain.mcp.envelope import Message, read_message
from mcp_hangar.domain.mcp.eras import MODERN_VERSION, NEWEST_LEGACY, SERVER_INFO, Era
from mcp_hangar.domain.provider import (
    Backoff,
    HealthCheck,
    Lifecycle,
    Limits,
    Mode,
    Protocol,
    Provider,
    RemoteLaunch,
    Sharing,
    SubprocessLaunch,
)

INFO = {"name": "fake", "version": "1"}
_BACKOFF = Backoff()
_HEALTH = HealthCheck()


def a_provider(
    name: str = "time",
    *,
    mode: Mode = Mode.subprocess,
    sharing: Sharing = Sharing.per_caller,
    protocol: Protocol = Protocol.auto,
    instances: int = 10,
    idle_ttl: float = 300.0,
    start_timeout: float = 5.0,
    stop_grace: float = 5.0,
    backoff: Backoff = _BACKOFF,
    health: HealthCheck = _HEALTH,
) -> Provider:
    launch = (
        RemoteLaunch(url="http://127.0.0.1:1/mcp") if mode is Mode.remote else SubprocessLaunch(command=("server",))
    )
    return Provider(
        name=name,
        mode=mode,
        launch=launch,
        sharing=sharing,
        protocol=protocol,
        limits=Limits(instances=instances),
        lifecycle=Lifecycle(idle_ttl=idle_ttl, start_timeout=start_timeout, stop_grace=stop_grace, restart=backoff),
        health=health,
    )


@dataclass
class Server:
    """What the other side does. `silent` methods are never answered, `deadly` ones end it, `refused` ones get the
    error `(code, data)`, `failing` ones raise instead of being answered; the rest is answered as its era would."""

    era: Era = Era.legacy
    version: str = NEWEST_LEGACY
    versions: tuple[str, ...] = (MODERN_VERSION,)
    silent: set[str] = field(default_factory=set)
    deadly: set[str] = field(default_factory=set)
    refused: dict[str, tuple[int, Any]] = field(default_factory=dict)
    failing: dict[str, HangarError] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    on_initialized: list[str] = field(default_factory=list)
    """Messages it sends as soon as it has read `notifications/initialized`."""

    def answer(self, method: str) -> dict[str, Any]:
        if method in self.refused:
            code, data = self.refused[method]
            return {"error": {"code": code, "message": "refused", **({"data": data} if data is not None else {})}}
        if method in self.results:
            return {"result": self.results[method]}
        match method, self.era:
            case "server/discover", Era.modern:
                meta = {SERVER_INFO: INFO}
                told = {"supportedVersions": list(self.versions), "capabilities": {"tools": {}}, "_meta": meta}
                return {"result": {"resultType": "complete", "instructions": "Be kind.", **told}}
            case "initialize", Era.legacy:
                told = {"protocolVersion": self.version, "capabilities": {"tools": {}}, "serverInfo": INFO}
                return {"result": {"instructions": "Be kind.", **told}}
            case "ping", Era.legacy:
                return {"result": {}}
        return {"error": {"code": -32601, "message": "Method not found"}}


class FakeExchange:
    def __init__(self, request: Outgoing) -> None:
        self.request = request
        self.failed: HangarError | None = None
        self.over = False
        self._heard: asyncio.Queue[Message | HangarError] = asyncio.Queue()

    async def next(self) -> Message:
        heard = await self._heard.get()
        if isinstance(heard, HangarError):
            raise heard
        return heard

    def give(self, message: Message, size: int) -> None:
        self.put(message)

    def fail(self, error: HangarError) -> None:
        if not self.over:
            self.failed = error
            self.put(error)

    def put(self, what: Message | HangarError) -> None:
        if self.over:
            return
        self.over = isinstance(what, HangarError) or what.is_response
        self._heard.put_nowait(what)


class FakeConnection:
    def __init__(self, provider: str, server: Server, wire: str) -> None:
        self.listener = Listener()
        self.refused = 0
        self.provider = provider
        self.server = server
        self.wire = wire
        self.sent: list[dict[str, Any]] = []
        self.posted: list[dict[str, Any]] = []
        self.headers: list[bytes] = []
        self.versions: list[str] = []
        """What `set_version` was called with."""
        self.at: list[str] = []
        """The version that was set when each request was sent."""
        self.listening = 0
        self.closes = 0
        self.closed = asyncio.Event()
        self.closing_gate: asyncio.Event | None = None
        """If set, `close` waits for it, as for a process that takes its time."""
        self.dead: HangarError | None = None
        self.exchanges: dict[int, FakeExchange] = {}
        self.asked: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """Set once a request for the method was sent."""

    @property
    def over(self) -> bool:
        return self.dead is not None or self.closed.is_set()

    @property
    def methods(self) -> list[str]:
        return [message["method"] for message in self.sent]

    async def send(self, request: Outgoing) -> FakeExchange:
        self._still_there()
        message = json.loads(request.payload)
        assert message["id"] == request.id
        assert request.id not in self.exchanges, "ids are unique"
        self.sent.append(message)
        self.headers.append(request.headers)
        self.at.append(self.versions[-1] if self.versions else "")
        exchange = self.exchanges[request.id] = FakeExchange(request)
        method = request.method
        self.asked[method].set()
        if method in self.server.deadly:
            self.die()
        elif method in self.server.failing:
            exchange.put(self.server.failing[method])
        elif method not in self.server.silent:
            self.answer(request.id, self.server.answer(method))
        return exchange

    async def post(self, payload: bytes) -> None:
        self._still_there()
        message = json.loads(payload)
        self.posted.append(message)
        if message.get("method") == "notifications/initialized":
            for text in self.server.on_initialized:
                self.say(text)

    async def listen(self) -> None:
        self._still_there()
        self.listening += 1
        if "listen" in self.server.deadly:
            self.die()

    def set_version(self, version: str) -> None:
        self.versions.append(version)

    async def close(self) -> None:
        self.closes += 1
        if self.closing_gate is not None:
            await self.closing_gate.wait()
        for exchange in self.exchanges.values():
            exchange.put(ProviderDied("provider_died", provider=self.provider, detail="It was closed."))
        self.closed.set()

    # What the test makes the provider do

    def answer(self, id: int, reply: dict[str, Any]) -> None:
        exchange = self.exchanges[id]
        if exchange.over:
            self.junk("a response with an id nobody waits for")
        else:
            exchange.put(read_message(json.dumps({"jsonrpc": "2.0", "id": id, **reply}).encode()))

    def answer_last(self, method: str) -> None:
        """Answer the newest request for `method`, which was left unanswered so far."""
        id = next(message["id"] for message in reversed(self.sent) if message["method"] == method)
        self.answer(id, self.server.answer(method))

    def say(self, text: str) -> None:
        self.listener.on_message(read_message(text.encode()))

    def junk(self, reason: str) -> None:
        self.refused += 1
        self.listener.on_refused(reason)

    def lose_session(self) -> None:
        self.listener.on_session_lost()

    def die(self, detail: str = "It exited with status 1.") -> None:
        if self.over:
            return
        self.dead = ProviderDied("provider_died", provider=self.provider, detail=detail)
        for exchange in self.exchanges.values():
            exchange.put(self.dead)
        self.listener.on_closed(self.dead)

    def _still_there(self) -> None:
        if self.over:
            raise Unsent("provider_unreachable", provider=self.provider, detail="It is gone.")


class FakeLauncher:
    """`serve` makes the server behind each launch. `most` is how many instances there ever were at one time: dying
    ends one as closing does."""

    def __init__(self, serve: Callable[[str], Server] = lambda wire: Server(), wires: tuple[str, ...] = ("stdio",)):
        self.serve = serve
        self._wires = wires
        self.launched: list[tuple[str, str]] = []
        """Instance and wire."""
        self.connections: list[FakeConnection] = []
        self.most = 0
        self.gate: asyncio.Event | None = None
        self.launching = asyncio.Event()
        self.failing: HangarError | None = None
        self.broken: Exception | None = None
        self.slow_to_close: asyncio.Event | None = None

    def wires(self, provider: Provider) -> tuple[str, ...]:
        return self._wires

    async def launch(self, provider: Provider, instance: str, wire: str) -> FakeConnection:
        self.launched.append((instance, wire))
        self.launching.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        if self.failing is not None:
            raise self.failing
        connection = FakeConnection(provider.name, self.serve(wire), wire)
        connection.closing_gate = self.slow_to_close
        self.connections.append(connection)
        self.most = max(self.most, len(self.open))
        return connection

    @property
    def open(self) -> list[FakeConnection]:
        return [connection for connection in self.connections if not connection.over]

    @property
    def only(self) -> FakeConnection:
        (connection,) = self.open
        return connection

    def logs(self, provider: str) -> list[str]:
        return []

    async def close(self) -> None:
        for connection in self.open:
            await connection.close()


def cannot_start(detail: str = "No such file: server.") -> StartFailed:
    return StartFailed("start_failed", provider="time", detail=detail, fix="Install it.")
