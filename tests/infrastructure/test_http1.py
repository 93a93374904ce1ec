# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import socket
from collections.abc import AsyncIterator

import pytest

from mcp_hangar.domain.errors import HangarError, ProtocolError, TransportError, Unsent
from mcp_hangar.infrastructure.transports import http1
from mcp_hangar.infrastructure.transports.dial import parse_endpoint
from mcp_hangar.infrastructure.transports.http1 import Channel, HttpClient
from tests.infrastructure.wire import PATIENCE, Handler, Peer, Wire, serving, until

pytestmark = pytest.mark.anyio

LIMIT = 64 * 1024
Answer = tuple[int, dict[bytes, bytes], bytes]


@contextlib.asynccontextmanager
async def client_of(
    wire: Wire, first_byte_timeout: float = 0.0, sockets: int = http1.SOCKETS
) -> AsyncIterator[HttpClient]:
    client = HttpClient(
        "time",
        parse_endpoint(wire.url),
        connect_timeout=5,
        first_byte_timeout=first_byte_timeout,
        sockets=sockets,
    )
    try:
        yield client
    finally:
        client.close()


async def get(client: HttpClient, limit: int = LIMIT, *, again: bool = False) -> Answer:
    async with asyncio.timeout(PATIENCE):
        return await client.ask(client.head("GET", "/x").encode() + b"\r\n", limit, None, again=again)


def replies(*answers: bytes) -> Handler:
    """A handler that gives each request of a connection the next answer."""

    async def handler(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            peer.say(answer)
        await peer.gone()

    return handler


WHOLE = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-One:  a b \r\nx-one: second\r\nTransfer-Encoding: chunked\r\nTrailer: x-late\r\n\r\n"
    b"5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\nX-Late: yes\r\n\r\n"
)


async def test_a_response_is_read_the_same_split_at_every_byte() -> None:
    waiting: asyncio.Queue[int] = asyncio.Queue()

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            cut = await waiting.get()
            peer.say(WHOLE[:cut])
            # Both pieces must be read apart, so the second waits until the first has surely left.
            await asyncio.sleep(0.001)
            peer.say(WHOLE[cut:])

    async with serving(handler) as wire, client_of(wire) as client:
        for cut in range(len(WHOLE)):
            waiting.put_nowait(cut)
            status, fields, body = await get(client)
            assert (status, body, fields[b"x-one"]) == (200, b"hello world", b"a b")
        assert wire.connections == 1, "each response left a socket fit for the next"


async def test_a_response_is_read_byte_by_byte_without_a_network() -> None:
    client = HttpClient("time", parse_endpoint("http://127.0.0.1/"))
    for size in (1, 2, 3, 7, 50):
        reply = http1.Reply(LIMIT, None)
        channel = _channel_without_network(client)
        channel.receiver = reply
        for index in range(0, len(WHOLE), size):
            channel.data_received(WHOLE[index : index + size])
        assert (await reply.wait())[2] == b"hello world"
        assert client.idle.pop() is channel


class _Nowhere(asyncio.Transport):
    closed = False

    def write(self, data: object) -> None:
        raise AssertionError("nothing is written")

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def _channel_without_network(client: HttpClient) -> Channel:
    channel = Channel(client)
    channel.connection_made(_Nowhere())
    return channel


@pytest.mark.parametrize(
    "after",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"H",
        b"not http at all\r\n\r\n",
    ],
)
async def test_bytes_after_a_response_cost_the_socket_but_not_the_response(after: bytes) -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
    async with serving(replies(good + after, good)) as wire, client_of(wire) as client:
        assert (await get(client))[2] == b"good"
        assert (await get(client))[2] == b"good"
        assert wire.connections == 2


async def test_bytes_that_nobody_asked_for_cost_the_socket() -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"

    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.say(good)
        await asyncio.sleep(0.02)
        peer.say(good.replace(b"good", b"evil"))
        await peer.gone()

    async with serving(handler) as wire, client_of(wire) as client:
        assert (await get(client))[2] == b"good"
        await until(lambda: not client.channels)
        assert (await get(client))[2] == b"good"


async def test_a_socket_closed_while_idle_is_not_used_again() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(b"{}")

    async with serving(handler) as wire, client_of(wire) as client:
        for _ in range(5):
            assert (await get(client))[0] == 200
            await until(lambda: wire.open == 0)
        assert wire.connections == 5


async def test_a_socket_whose_close_was_not_yet_noticed_is_skipped_before_writing() -> None:
    ends: list[socket.socket] = []

    async def handler(peer: Peer) -> None:
        ends.append(socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())))
        await peer.request()
        peer.answer(b"{}")
        await peer.gone()

    async with serving(handler) as wire, client_of(wire) as client:
        await get(client)
        channel = client.idle[0]
        assert channel.usable()
        ends[0].shutdown(socket.SHUT_WR)
        assert select.select([channel.transport.get_extra_info("socket").fileno()], [], [], PATIENCE)[0]
        # The loop has had no turn since: only the kernel knows.
        assert not channel.transport.is_closing()
        assert not channel.usable()
        assert (await get(client))[0] == 200
        assert wire.connections == 2
    for end in ends:
        end.close()


async def test_a_socket_idle_for_longer_than_the_server_keeps_it_is_not_used_again() -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=50, max=9\r\n\r\n{}"
    async with serving(replies(good, good)) as wire, client_of(wire) as client:
        await get(client)
        client.idle[0].since -= 30
        await get(client)
        assert wire.connections == 1
        client.idle[0].since -= 51
        await get(client)
        assert wire.connections == 2


async def test_the_newest_idle_socket_is_taken_first_and_old_ones_are_swept() -> None:
    together = asyncio.Barrier(2)

    async def handler(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.target == "/x":
                await together.wait()
            peer.answer(b"{}")

    async with serving(handler) as wire, client_of(wire) as client:
        await asyncio.gather(get(client), get(client))
        oldest, newest = client.idle
        assert await client.acquire() is newest
        client.give_back(newest)
        oldest.since -= 60
        await until(lambda: client.idle == [newest])
        await until(lambda: wire.open == 1)


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (b"", "before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "in the middle"),
    ],
)
async def test_a_connection_that_closes_early_is_a_transport_error(answer: bytes, fact: str) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.say(answer)

    async with serving(handler) as wire, client_of(wire) as client:
        with pytest.raises(TransportError) as raised:
            await get(client)
        assert fact in raised.value.why
        assert not client.channels


async def test_a_body_that_ends_with_the_connection_is_read_to_its_end() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.0 200 OK\r\n\r\nto the ")
        await asyncio.sleep(0.01)
        peer.say(b"end")

    async with serving(handler) as wire, client_of(wire) as client:
        assert (await get(client))[2] == b"to the end"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    ],
)
async def test_what_is_not_http_is_a_protocol_error_and_costs_the_socket(answer: bytes) -> None:
    async with serving(replies(answer)) as wire, client_of(wire) as client:
        with pytest.raises(ProtocolError):
            await get(client)
        assert not client.idle
        await until(lambda: wire.open == 0)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_reply_of_100_mb_is_refused_while_memory_stays_bounded(chunked: bool) -> None:
    said = 0

    async def handler(peer: Peer) -> None:
        nonlocal said
        await peer.request()
        if chunked:
            peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        piece = b"x" * 65536
        for _ in range(1600):
            peer.chunk(piece) if chunked else peer.say(piece)
            said += 65536
            await peer.writer.drain()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with serving(handler) as wire, client_of(wire) as client:
        with pytest.raises(ProtocolError) as raised:
            await get(client, 1024 * 1024)
        assert raised.value.code == "message_too_large"
        await until(lambda: wire.open == 0)
    assert said < 50_000_000, "reading stopped long before the end"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


async def test_a_body_of_tiny_chunks_is_put_together() -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    async with serving(replies(body)) as wire, client_of(wire) as client:
        assert (await get(client))[2] == b"x" * 20_000


async def test_a_server_that_never_answers_is_given_up_after_first_byte_timeout() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with serving(handler) as wire, client_of(wire, first_byte_timeout=0.2) as client:
        with pytest.raises(TransportError) as raised:
            await get(client)
        assert "first_byte_timeout" in raised.value.why


@pytest.mark.parametrize("again", [True, False])
async def test_only_what_may_run_twice_is_sent_twice_when_a_pooled_socket_dies(again: bool) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(b"{}")
        await peer.request()
        peer.reset()

    async with serving(handler) as wire, client_of(wire) as client:
        await get(client)
        if again:
            assert (await get(client, again=True))[0] == 200
        else:
            with pytest.raises(TransportError):
                await get(client)
        assert len(wire.requests) == (3 if again else 2)


async def test_a_request_on_a_new_socket_is_never_sent_twice() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with serving(handler) as wire, client_of(wire) as client:
        with pytest.raises(TransportError):
            await get(client, again=True)
        assert len(wire.requests) == 1


async def test_sockets_are_bounded() -> None:
    async def handler(peer: Peer) -> None:
        await peer.gone()

    async with serving(handler) as wire, client_of(wire, sockets=2) as client:
        await client.dial()
        await client.dial()
        with pytest.raises(Unsent) as raised:
            await client.dial()
        assert "2 connections" in raised.value.why


async def test_closing_fails_what_waits_and_leaves_no_socket() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with serving(handler) as wire, client_of(wire) as client:
        waiting = asyncio.gather(*(get(client) for _ in range(20)), return_exceptions=True)
        await until(lambda: len(wire.requests) == 20)
        client.close()
        assert all(isinstance(outcome, TransportError) for outcome in await waiting)
        await until(lambda: wire.open == 0)
        with pytest.raises(HangarError):
            await get(client)
