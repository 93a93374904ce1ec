# SPDX-License-Identifier: MIT
"""A whole house in this process: the real wiring and doors, a provider whose every move the test makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcp_hangar.application.event_codec import Record
from mcp_hangar.application.ports.connection import Outgoing
from mcp_hangar.domain.mcp.envelope import read_message
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Mode, Provider
from mcp_hangar.server.bootstrap.background import loops
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config import load
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.listener import bind, make_server
from mcp_hangar.server.mcp_endpoint import McpEndpoint
from mcp_hangar.server.operator_plane import OperatorPlane
from tests.fakes import FakeConnection, FakeExchange, FakeLauncher, Server

PATIENCE = 60.0
"""Seconds after which a wait counts as one that never ends."""
CONTENT = {"content": [{"type": "text", "text": "hi"}]}

T = TypeVar("T")
Json = dict[str, Any]
Tool = Callable[["Connection", int, Json], None]
"""What a tool does when it is called: (connection, id of the request, its params)."""


def echo(connection: Connection, id: int, params: Json) -> None:
    text = str(params.get("arguments", {}).get("text", "hi"))
    connection.answer(id, {"result": {"content": [{"type": "text", "text": text}]}})


def fails(connection: Connection, id: int, params: Json) -> None:
    connection.answer(id, {"result": {**CONTENT, "isError": True}})


def wrong(connection: Connection, id: int, params: Json) -> None:
    connection.answer(id, {"error": {"code": -32050, "message": "no"}})


def silent(connection: Connection, id: int, params: Json) -> None:
    """Never answered, unless the test does."""


def dies(connection: Connection, id: int, params: Json) -> None:
    connection.die()


def asks(connection: Connection, id: int, params: Json) -> None:
    """Asks the client for a name, and answers with what it heard once the test calls `hear`."""
    connection.ask(id, "elicitation/create", {"message": "Your name?", "requestedSchema": {"type": "object"}})


def asks_modern(connection: Connection, id: int, params: Json) -> None:
    """`input_required` until it is repeated with an answer."""
    if "inputResponses" in params:
        connection.answer(id, {"result": {"resultType": "complete", **CONTENT, "heard": params["inputResponses"]}})
        return
    wanted = {"method": "elicitation/create", "params": {"message": "Your name?", "requestedSchema": {}}}
    result = {"resultType": "input_required", "inputRequests": {"a": wanted}, "requestState": "its own"}
    connection.answer(id, {"result": result})


TOOLS: dict[str, Tool] = {
    "echo": echo,
    "fails": fails,
    "wrong": wrong,
    "silent": silent,
    "dies": dies,
    "asks": asks,
    "asks_modern": asks_modern,
}


class Connection(FakeConnection):
    """One whose tools do what `TOOLS` says."""

    tools: dict[str, Tool] = TOOLS

    def __init__(self, provider: str, server: Server, wire: str) -> None:
        super().__init__(provider, server, wire)
        self.last = 0
        """Id of the newest tools/call."""
        self.posts = asyncio.Condition()

    async def send(self, request: Outgoing) -> FakeExchange:
        exchange = await super().send(request)
        if request.method == "tools/call" and not exchange.over:
            self.last = request.id
            params = self.sent[-1]["params"]
            self.tools[params["name"]](self, request.id, params)
        return exchange

    async def post(self, payload: bytes) -> None:
        await super().post(payload)
        async with self.posts:
            self.posts.notify_all()

    async def posted_one(self, what: Callable[[Json], bool]) -> Json:
        """The first message posted to the provider of which `what` holds."""
        async with asyncio.timeout(PATIENCE), self.posts:
            while True:
                for message in self.posted:
                    if what(message):
                        return message
                await self.posts.wait()

    def relate(self, id: int, message: Json) -> None:
        """Say something that belongs to the request `id`."""
        self.exchanges[id].put(read_message(json.dumps({"jsonrpc": "2.0", **message}).encode()))

    def ask(self, id: int, method: str, params: Json, number: int | str = 77) -> None:
        self.relate(id, {"id": number, "method": method, "params": params})

    def calls(self) -> list[Json]:
        return [message for message in self.sent if message["method"] == "tools/call"]


class Launcher(FakeLauncher):
    async def launch(self, provider: Provider, instance: str, wire: str) -> FakeConnection:
        made = await super().launch(provider, instance, wire)
        connection = Connection(provider.name, made.server, wire)
        self.connections[-1] = connection
        return connection

    @property
    def only(self) -> Connection:
        (connection,) = self.open
        assert isinstance(connection, Connection)
        return connection


def a_server(era: Era, tools: Sequence[str] = tuple(TOOLS), **capabilities: Any) -> Server:
    """One that lists these tools, and leaves what they answer to the script."""
    listed: Json = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]}
    if era is Era.modern:
        listed |= {"resultType": "complete", "ttlMs": 600_000, "cacheScope": "public"}
    server = Server(era=era, silent={"tools/call"}, results={"tools/list": listed})
    method = "server/discover" if era is Era.modern else "initialize"
    told = server.answer(method)["result"]
    server.results[method] = {**told, "capabilities": {"tools": {}, **capabilities}}
    return server


class Seen:
    """The record, as a subscriber sees it."""

    name = "seen"
    effects_outside = False

    def __init__(self) -> None:
        self.events: list[Json] = []

    async def see(self, records: Sequence[Record]) -> None:
        self.events.extend(json.loads(record.data) for record in records)

    async def close(self) -> None:
        return None


@dataclass
class Inside:
    house: House
    launcher: Launcher
    seen: Seen
    endpoint: McpEndpoint
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def connection(self) -> Connection:
        return self.launcher.only

    async def asked(self, tool: str) -> int:
        """The provider's id of the newest call, once it was asked for the tool."""
        return await self.until(lambda: self._asked(tool))

    def _asked(self, tool: str) -> int:
        for connection in self.launcher.open:
            for message in reversed(connection.sent):
                if message["method"] == "tools/call" and message["params"]["name"] == tool:
                    found: int = message["id"]
                    return found
        return 0

    async def until(self, what: Callable[[], T]) -> T:
        """What `what` says, once that is anything but nothing. Asked again each time the loop has turned."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if found := what():
                    return found
                await asyncio.sleep(0.001)

    async def all_over(self) -> list[Json]:
        """Wait until nothing is held any more; how the calls ended."""
        try:
            await self.until(lambda: not self.held())
        except TimeoutError:
            raise AssertionError(f"still held: {self.held()}") from None
        return await self.ends()

    async def record(self, *kinds: str) -> list[Json]:
        """What was recorded so far, of these types."""
        assert await self.house.log.flush(PATIENCE)
        return [event for event in self.seen.events if event["type"] in kinds or not kinds]

    async def ends(self) -> list[Json]:
        """How the calls ended. Each that was admitted ended once, and nothing else did."""
        events = await self.record("call.admitted", "call.completed", "call.failed")
        begun = [event["call_id"] for event in events if event["type"] == "call.admitted"]
        ended = [event for event in events if event["type"] != "call.admitted"]
        assert sorted(begun) == sorted(event["call_id"] for event in ended), events
        assert len(set(begun)) == len(begun)
        return ended

    def held(self) -> list[str]:
        """Whatever is still held for calls, in words; empty when all is over."""
        proxy = self.house.proxy
        found = [f"in flight: {flight.call.name}" for flight in proxy.in_flight.values()]
        for instance in self.house.instances.warm.values():
            if instance.in_flight:
                found.append(f"{instance.id} in_flight {instance.in_flight}")
            if instance.pinned:
                found.append(f"{instance.id} pinned {instance.pinned}")
        for connection in self.launcher.open:
            open_ = [each.request.method for each in connection.exchanges.values() if not each.over]
            found += [f"exchange {method}" for method in open_ if method != "subscriptions/listen"]
        for session in self.house.sessions.all():
            found += [f"flight of a session {id!r}" for id in session.flights]
            found += [f"question to a session {id}" for id in session.asks]
        found += [f"channel {channel}" for channel in self.endpoint.open_channels]
        names = [task.get_name() for task in asyncio.all_tasks()]
        return found + [name for name in names if name.startswith(("unread", "question", "batch"))]


@asynccontextmanager
async def inside(
    folder: Path, stub: Server | None = None, *, provider: Json | None = None, token: str = "", **sections: Any
) -> AsyncIterator[Inside]:
    """A house with one provider `time`, listening on a port of its own; further arguments are sections of the
    configuration."""
    config: Json = {
        "version": 1,
        "state": {"dir": str(folder / "state")},
        "audit": {"sink": "none"},
        "providers": {"time": {"mode": "subprocess", "command": ["server"], **(provider or {})}},
        **sections,
    }
    path = folder / "hangar.yaml"
    path.write_text(json.dumps(config))
    settings = load(path, {})
    chosen = stub or a_server(Era.legacy)
    seen = Seen()
    house = House(settings, environment={}, hash_key=b"k" * 32, state=None, subscribers=[seen])
    launcher = Launcher(lambda wire: chosen)
    house.launchers[Mode.subprocess] = launcher
    running = list(loops(house))
    limits = settings.server.limits
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        doors = Doors(host="127.0.0.1", port=port, allowed_hosts=(), allowed_origins=())
        endpoint = McpEndpoint(
            methods=house.methods,
            sessions=house.sessions,
            doors=doors,
            token=token,
            body_bytes=limits.body_bytes,
            depth=limits.depth,
            batch=limits.batch,
            other=OperatorPlane(house, doors, None),
        )
        front = make_server(endpoint, limits.header_bytes, endpoint)
        serving = asyncio.create_task(front.serve(sockets=[listener]), name="http")
        try:
            yield Inside(house, launcher, seen, endpoint, port)
        finally:
            if not house.proxy.stopping:
                await house.stop(0)
            for task in running:
                task.cancel()
            front.should_exit = True
            await asyncio.gather(serving, *running, return_exceptions=True)
