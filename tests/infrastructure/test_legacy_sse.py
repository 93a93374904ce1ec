# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_hangar.application.ports.connection import Outgoing
from mcp_hangar.domain.errors import (
    CallCancelled,
    HangarError,
    ProtocolError,
    SessionExpired,
    TransportError,
    Unsent,
)
from mcp_hangar.domain.mcp.envelope import notification, request
from mcp_hangar.infrastructure.transports.dial import parse_endpoint
from mcp_hangar.infrastructure.transports.http1 import HttpClient
from mcp_hangar.infrastructure.transports.legacy_sse import LegacySseConnection
from tests.infrastructure.scripted import ScriptedSse, scripted
from tests.infrastructure.wire import PATIENCE, Handler, Peer, Wire, result, serving, until
from tests.ports.connection_suite import Connect, ConnectionSuite, Heard

pytestmark = pytest.mark.anyio

LIMIT = 1024 * 1024
_ids = itertools.count(1)


def connection_to(wire: Wire, message_bytes: int = LIMIT, path: str = "/sse") -> LegacySseConnection:
    client = HttpClient("time", parse_endpoint(wire.origin + path), connect_timeout=5)

    async def release() -> None:
        client.close()

    return LegacySseConnection(
        "time", client, message_bytes=message_bytes, headers={"Authorization": "Bearer t"}, release=release
    )


@contextlib.asynccontextmanager
async def connected(handler: Handler, **more: Any) -> AsyncIterator[tuple[Wire, LegacySseConnection]]:
    async with serving(handler) as wire:
        connection = connection_to(wire, **more)
        try:
            yield wire, connection
        finally:
            await asyncio.wait_for(connection.close(), PATIENCE)
            await until(lambda: wire.open == 0)
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("legacy-sse")]


class Server:
    """Names its endpoint as told, and answers POSTs with `status`; what it says on the stream is the test's."""

    def __init__(self, endpoint: str = "/messages?id=1", status: str = "202 Accepted", body: bytes = b"") -> None:
        self.endpoint = endpoint
        self.status = status
        self.body = body
        self.stream: Peer | None = None

    async def __call__(self, peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if seen.method == "GET":
                self.stream = peer
                peer.stream()
                peer.event(self.endpoint.encode(), b"event: endpoint\n")
                await peer.gone()
                return
            peer.answer(self.body, self.status)


def outgoing() -> Outgoing:
    id = next(_ids)
    return Outgoing(id=id, method="tools/call", payload=request(id, "tools/call", b"{}"))


class TestSharedLaws(ConnectionSuite):
    @pytest.fixture
    async def connect(self) -> AsyncIterator[Connect]:
        async with contextlib.AsyncExitStack() as stack:

            async def connect(message_bytes: int = 16 * LIMIT) -> LegacySseConnection:
                wire = await stack.enter_async_context(scripted(ScriptedSse()))
                connection = connection_to(wire, message_bytes)
                stack.push_async_callback(connection.close)
                await connection.open(PATIENCE)
                return connection

            yield connect

    async def test_a_message_over_the_limit_is_refused_and_the_connection_lives(self, connect: Connect) -> None:
        """All answers share one stream, and an event without an end cannot be skipped: the connection ends."""
        connection = await connect(message_bytes=LIMIT)
        heard = Heard(connection)
        exchange = await connection.send(
            Outgoing(id=1, method="x", payload=request(1, "x", b'{"steps":[{"big":%d}]}' % (3 * LIMIT)))
        )
        with pytest.raises(ProtocolError) as raised:
            await asyncio.wait_for(exchange.next(), PATIENCE)
        assert (raised.value.code, raised.value.facts["limit"]) == ("message_too_large", LIMIT)
        assert [error.code for error in heard.closed] == ["message_too_large"]
        with pytest.raises(Unsent):
            await connection.send(outgoing())


async def test_posts_go_to_the_endpoint_that_the_stream_names() -> None:
    server = Server()
    async with connected(server) as (wire, connection):
        await connection.open(PATIENCE)
        connection.set_version("2024-11-05")
        exchange = await connection.send(outgoing())
        await until(lambda: len(wire.requests) == 2)
        got, posted = wire.requests
        assert server.stream is not None
        server.stream.event(result(posted))
        assert bytes((await asyncio.wait_for(exchange.next(), PATIENCE)).result) == b'{"ok":true}'
        assert (got.method, got.target, got.fields["accept"]) == ("GET", "/sse", "text/event-stream")
        assert (posted.method, posted.target) == ("POST", "/messages?id=1")
        assert posted.fields["authorization"] == got.fields["authorization"] == "Bearer t"
        assert posted.fields["mcp-protocol-version"] == "2024-11-05"


async def test_an_endpoint_may_be_a_whole_url_of_the_same_origin() -> None:
    server = Server()
    async with connected(server) as (wire, connection):
        server.endpoint = f"{wire.origin}/elsewhere"
        await connection.open(PATIENCE)
        await connection.post(notification("notifications/initialized"))
        assert wire.requests[1].target == "/elsewhere"


@pytest.mark.parametrize(
    "endpoint", ["http://evil.example/x", "//evil.example/x", "https://127.0.0.1/x", "x y", "", "http://u@127.0.0.1/"]
)
async def test_an_endpoint_of_another_origin_is_refused(endpoint: str) -> None:
    async with connected(Server(endpoint or "javascript:")) as (wire, connection):
        with pytest.raises(ProtocolError):
            await connection.open(PATIENCE)
        assert len(wire.requests) == 1
        with pytest.raises(Unsent):
            await connection.post(notification("notifications/initialized"))


async def test_a_server_that_names_no_endpoint_is_given_up() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.stream()
        peer.chunk(b": waiting\n\n")
        await peer.gone()

    async with connected(handler) as (_, connection):
        with pytest.raises(TransportError) as raised:
            await connection.open(0.2)
        assert "endpoint" in raised.value.why


@pytest.mark.parametrize("status", [400, 404, 405, 500])
async def test_a_server_of_another_kind_is_told_by_its_status(status: int) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(b"nope", f"{status} No", "text/plain")

    async with connected(handler) as (_, connection):
        with pytest.raises(TransportError) as raised:
            await connection.open(PATIENCE)
        assert raised.value.facts["status"] == status


async def test_a_missing_slash_is_followed() -> None:
    server = Server()

    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        if seen.target == "/sse":
            peer.answer(b"", "307 Over there", more="Location: /sse/\r\n")
        else:
            peer.pending.append(seen)
            server.stream = peer
            peer.stream()
            peer.event(b"/messages", b"event: endpoint\n")
            await peer.gone()
            return
        await handler(peer)

    async with connected(handler) as (wire, connection):
        await connection.open(PATIENCE)
        assert [seen.target for seen in wire.requests] == ["/sse", "/sse/"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("404 Gone", SessionExpired),
        ("500 Oops", TransportError),
        ("401 Who", TransportError),
        ("400 No", TransportError),
    ],
)
async def test_a_post_that_is_refused_fails_its_call(status: str, kind: type[HangarError]) -> None:
    async with connected(Server(status=status)) as (_, connection):
        await connection.open(PATIENCE)
        exchange = await connection.send(outgoing())
        with pytest.raises(kind):
            await asyncio.wait_for(exchange.next(), PATIENCE)
        with pytest.raises(TransportError):
            await connection.post(notification("notifications/initialized"))


@pytest.mark.parametrize("clean", [True, False])
async def test_a_stream_that_ends_fails_every_call_and_is_told_once(clean: bool) -> None:
    server = Server()
    async with connected(server) as (wire, connection):
        await connection.open(PATIENCE)
        heard = Heard(connection)
        exchanges = [await connection.send(outgoing()) for _ in range(3)]
        await until(lambda: len(wire.requests) == 4)
        assert server.stream is not None
        server.stream.end() if clean else server.stream.reset()
        for exchange in exchanges:
            with pytest.raises(TransportError):
                await asyncio.wait_for(exchange.next(), PATIENCE)
        assert len(heard.closed) == 1
        with pytest.raises(Unsent):
            await connection.send(outgoing())


async def test_a_call_given_up_is_cancelled_by_its_id() -> None:
    async with connected(Server()) as (wire, connection):
        await connection.open(PATIENCE)
        going = outgoing()
        exchange = await connection.send(going)
        exchange.fail(CallCancelled("cancelled", detail="gone"))
        with pytest.raises(CallCancelled):
            await exchange.next()
        await until(lambda: any(b"notifications/cancelled" in seen.body for seen in wire.requests))
        (told,) = (seen.body for seen in wire.requests if b"notifications/cancelled" in seen.body)
        assert json.loads(told)["params"] == {"requestId": going.id}
        assert not connection.waiting


async def test_a_call_can_be_failed_while_its_first_messages_are_unread_and_sizes_add_up() -> None:
    server = Server()
    async with connected(server, message_bytes=1000) as (wire, connection):
        await connection.open(PATIENCE)
        exchange = await connection.send(outgoing())
        await until(lambda: len(wire.requests) == 2)
        assert server.stream is not None
        told = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (b"x" * 400)
        for _ in range(20):
            server.stream.event(told)
            assert (await asyncio.wait_for(exchange.next(), PATIENCE)).method == "notifications/message"
        for _ in range(5):
            server.stream.event(told)
        await until(lambda: exchange.over)
        with pytest.raises(ProtocolError):
            await exchange.next()
