# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import itertools
import json
import resource
import sys
import threading
from collections.abc import AsyncIterator
from time import monotonic
from types import FrameType
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
from mcp_hangar.domain.mcp.envelope import Message, notification, request
from mcp_hangar.infrastructure.transports.dial import parse_endpoint
from mcp_hangar.infrastructure.transports.http1 import USER_AGENT, HttpClient
from mcp_hangar.infrastructure.transports.streamable_http import HttpExchange, StreamableHttpConnection
from tests.infrastructure.scripted import ScriptedHttp, scripted
from tests.infrastructure.wire import PATIENCE, Handler, Peer, Request, Wire, id_of, result, serving, until
from tests.ports.connection_suite import Connect, ConnectionSuite, Heard, ask

pytestmark = pytest.mark.anyio

LIMIT = 1024 * 1024
_ids = itertools.count(1)


def connection_to(wire: Wire, message_bytes: int = LIMIT, **headers: str) -> StreamableHttpConnection:
    client = HttpClient("time", parse_endpoint(wire.url), connect_timeout=5)

    async def release() -> None:
        client.close()

    return StreamableHttpConnection("time", client, message_bytes=message_bytes, headers=headers, release=release)


@contextlib.asynccontextmanager
async def connected(handler: Handler, **more: Any) -> AsyncIterator[tuple[Wire, StreamableHttpConnection]]:
    async with serving(handler) as wire:
        connection = connection_to(wire, **more)
        try:
            yield wire, connection
        finally:
            await asyncio.wait_for(connection.close(), PATIENCE)
            await until(lambda: wire.open == 0)


def outgoing(method: str = "tools/call", *, modern: bool = False) -> Outgoing:
    id = next(_ids)
    return Outgoing(id=id, method=method, payload=request(id, method, b"{}"), modern=modern)


async def read(exchange: HttpExchange) -> Message:
    async with asyncio.timeout(PATIENCE):
        return await exchange.next()


async def call(connection: StreamableHttpConnection, method: str = "tools/call", *, modern: bool = False) -> Message:
    async with asyncio.timeout(PATIENCE):
        return await (await connection.send(outgoing(method, modern=modern))).next()


def tasks_of_ours() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("streamable-http")}


def legacy(then: Handler, session: str = "s-1") -> Handler:
    """A server that opens a session on `initialize` and takes its end; the rest is left to `then`, one at a time."""

    async def handler(peer: Peer) -> None:
        request = await peer.request()
        if b'"initialize"' in request.body:
            peer.answer(result(request), more=f"mcp-session-id: {session}\r\n")
            return await handler(peer)
        if request.method == "DELETE":
            peer.answer(b"")
            return await handler(peer)
        if b"notifications/cancelled" in request.body:
            peer.answer(b"", "202 Accepted")
            return await handler(peer)
        peer.pending.append(request)
        await then(peer)
        return await handler(peer)

    return handler


class TestSharedLaws(ConnectionSuite):
    @pytest.fixture
    async def connect(self) -> AsyncIterator[Connect]:
        async with contextlib.AsyncExitStack() as stack:

            async def connect(message_bytes: int = 16 * LIMIT) -> StreamableHttpConnection:
                wire = await stack.enter_async_context(scripted(ScriptedHttp()))
                connection = connection_to(wire, message_bytes)
                stack.push_async_callback(connection.close)
                return connection

            yield connect

    async def test_a_provider_that_dies_fails_every_open_exchange(self, connect: Connect) -> None:
        """As the suite has it, but for `on_closed`: a lost socket does not end this wire, the next call opens one."""
        connection = await connect()
        heard = Heard(connection)
        waiting = [await ask(connection, {"until": "never"}) for _ in range(3)]
        waiting.append(await ask(connection, {"die": 3}))
        for exchange in waiting:
            with pytest.raises(TransportError):
                await asyncio.wait_for(exchange.next(), PATIENCE)
        with pytest.raises(Unsent):
            await ask(connection, {"answer": "{}"})
        assert not heard.closed


# The warm call


async def echoing(peer: Peer) -> None:
    while True:
        peer.answer(result(await peer.request()))


async def test_a_warm_call_enters_four_functions_of_ours_and_makes_no_task_and_no_thread() -> None:
    async with connected(echoing) as (wire, connection):
        await call(connection)
        entered: list[str] = []

        def profile(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and "mcp_hangar" in frame.f_code.co_filename:
                entered.append(frame.f_code.co_qualname)

        going = outgoing()
        # The sockets are looked after twice a second, beside the calls.
        assert connection.client._timer is not None
        connection.client._timer.cancel()
        # One that has rested for a moment is looked at before it is used: this one has not, however slow we are.
        connection.client.idle[-1].since = monotonic() + 3600
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        sys.setprofile(profile)
        try:
            answer = await (await connection.send(going)).next()
        finally:
            sys.setprofile(None)
        assert bytes(answer.result) == b'{"ok":true}'
        # The second `next` is the same coroutine going on once the answer is there.
        assert entered == [
            "StreamableHttpConnection.send",
            "HttpExchange.next",
            "Channel.data_received",
            "HttpExchange.answered",
            "HttpExchange.next",
        ]
        assert asyncio.all_tasks() == tasks
        assert set(threading.enumerate()) <= threads
        assert (wire.connections, len(wire.requests)) == (1, 2)


async def test_a_request_carries_what_the_transport_asks_for_each_header_once() -> None:
    async with connected(echoing, **{"X-Team": "blue", "Authorization": "Bearer t"}) as (wire, connection):
        connection.set_version("2026-07-28")
        payload = request(7, "tools/call", '{"name":"ż"}'.encode())
        headers = b"Mcp-Method: tools/call\r\nMcp-Name: echo\r\n"
        await (await connection.send(Outgoing(id=7, method="tools/call", payload=payload, headers=headers))).next()
        (seen,) = wire.requests
        assert (seen.method, seen.target, seen.body) == ("POST", "/mcp", payload)
        assert seen.fields == {
            "host": f"127.0.0.1:{wire.port}",
            "user-agent": USER_AGENT,
            "accept-encoding": "identity",
            "x-team": "blue",
            "authorization": "Bearer t",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "echo",
            "content-length": str(len(payload)),
        }


async def test_a_session_is_sent_from_the_second_request_on_and_deleted_at_the_end() -> None:
    async def then(peer: Peer) -> None:
        peer.answer(result(peer.pending.pop()))

    async with connected(legacy(then)) as (wire, connection):
        await call(connection, "initialize")
        connection.set_version("2025-11-25")
        await call(connection)
        await connection.close()
        first, second, goodbye = wire.requests
        assert "mcp-session-id" not in first.fields
        assert (second.fields["mcp-session-id"], second.fields["mcp-protocol-version"]) == ("s-1", "2025-11-25")
        assert (goodbye.method, goodbye.fields["mcp-session-id"]) == ("DELETE", "s-1")


async def test_a_session_is_taken_from_an_answer_that_is_a_stream() -> None:
    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        peer.stream("Mcp-Session-Id: over-sse\r\n")
        peer.event(result(seen))
        peer.end()
        await echoing(peer)

    async with connected(handler) as (wire, connection):
        await call(connection, "initialize")
        await call(connection)
        assert wire.requests[1].fields["mcp-session-id"] == "over-sse"
        assert wire.connections == 1


async def test_a_session_id_that_would_forge_headers_is_refused() -> None:
    async def handler(peer: Peer) -> None:
        peer.answer(result(await peer.request()), more="Mcp-Session-Id: a\tb\r\n")
        await peer.gone()

    async with connected(handler) as (_, connection):
        with pytest.raises(ProtocolError):
            await call(connection, "initialize")


# Answers of every kind


async def test_a_stream_is_read_the_same_split_at_every_byte() -> None:
    body = b': hi\r\n\r\nevent: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\r\n\r\ndata: %b\n\n'
    cuts: asyncio.Queue[int] = asyncio.Queue()

    def whole(seen: Request) -> bytes:
        text = body % result(seen, '"ż"'.encode())
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)

    async def handler(peer: Peer) -> None:
        while True:
            data = whole(await peer.request())
            cut = await cuts.get()
            peer.say(data[:cut])
            await asyncio.sleep(0.001)
            peer.say(data[cut:])

    async with connected(handler) as (wire, connection):
        for cut in range(300):
            cuts.put_nowait(cut)
            exchange = await connection.send(outgoing())
            assert (await read(exchange)).method == "notifications/message"
            assert bytes((await read(exchange)).result) == '"ż"'.encode()
        await until(lambda: len(connection.client.idle) == len(connection.client.channels))
        assert wire.connections < 30, "what follows the response is read, and the socket used again"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("kind", ["json", "stream"])
async def test_a_compressed_answer_that_nobody_asked_for_is_understood(encoding: str, kind: str) -> None:
    async def handler(peer: Peer) -> None:
        while True:
            body = result(await peer.request())
            if kind == "stream":
                body = b"data: " + body + b"\n\n"
            if encoding == "gzip":
                body = gzip.compress(body)
            media = "application/json" if kind == "json" else "text/event-stream; charset=utf-8"
            peer.answer(body, kind=media, more=f"Content-Encoding: {encoding}\r\n")

    async with connected(handler) as (_, connection):
        for _ in range(2):
            assert bytes((await call(connection)).result) == b'{"ok":true}'


async def test_a_json_answer_waits_for_a_second_reader_when_the_first_gave_up() -> None:
    answer_now = asyncio.Event()

    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        await answer_now.wait()
        peer.answer(result(seen))
        await peer.gone()

    async with connected(handler) as (_, connection):
        exchange = await connection.send(outgoing())
        reader = asyncio.create_task(exchange.next())
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        answer_now.set()
        assert bytes((await read(exchange)).result) == b'{"ok":true}'
        with pytest.raises(ProtocolError):
            await read(exchange)


async def test_a_reader_that_gives_up_as_the_answer_comes_leaves_it_to_the_next() -> None:
    async with connected(hung) as (_, connection):
        going = outgoing()
        exchange = await connection.send(going)
        reader = asyncio.create_task(exchange.next())
        await asyncio.sleep(0)
        assert exchange.channel is not None
        body = b'{"jsonrpc":"2.0","id":%d,"result":{}}' % going.id
        # In one turn of the loop: the answer is there, and the reader is told to stop before it ran again.
        exchange.channel.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
        assert bytes((await read(exchange)).result) == b"{}"


async def test_an_answer_to_another_request_is_refused_and_the_call_fails() -> None:
    async def handler(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            peer.answer(result(seen).replace(id_of(seen), b'"%b"' % id_of(seen), 1))

    async with connected(handler) as (_, connection):
        heard = Heard(connection)
        with pytest.raises(ProtocolError):
            await call(connection)
        assert connection.refused == len(heard.refused) == 1


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        ("200 OK", "text/html", b"<html>"),
        ("200 OK", "application/json", b""),
        ("200 OK", "application/json", b"[]"),
        ("200 OK", "application/json", b'{"jsonrpc":"2.0","id":'),
        ("200 OK", "application/json", b'{"a":' * 100_000),
        ("202 Accepted", "text/plain", b""),
    ],
)
async def test_an_answer_that_is_no_message_is_a_protocol_error(status: str, kind: str, body: bytes) -> None:
    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.answer(body, status, kind)

    async with connected(handler) as (wire, connection):
        for _ in range(2):
            with pytest.raises(ProtocolError):
                await call(connection)
        assert wire.connections == 1


@pytest.mark.parametrize("id", [b"null", b"$id"])
@pytest.mark.parametrize("status", [400, 404, 405, 422, 429])
async def test_a_json_rpc_error_behind_a_4xx_is_the_answer(status: int, id: bytes) -> None:
    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        error = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32022,"message":"no","data":{"supported":[]}}}'
        peer.answer(error % id.replace(b"$id", id_of(seen)), f"{status} No")
        await peer.gone()

    async with connected(handler) as (_, connection):
        answer = await call(connection, modern=True)
        assert bytes(answer.error) == b'{"code":-32022,"message":"no","data":{"supported":[]}}'


@pytest.mark.parametrize("status", [204, 301, 302, 303, 400, 404, 405, 406, 410, 415, 500, 502, 503])
async def test_any_other_status_is_an_error_that_names_it(status: int) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(b"" if status == 204 else b"<html>nope</html>", f"{status} No", "text/html")
        await peer.gone()

    async with connected(handler) as (_, connection):
        with pytest.raises(HangarError) as raised:
            await call(connection)
        if status == 204:
            assert isinstance(raised.value, ProtocolError)
        else:
            assert isinstance(raised.value, TransportError)
            assert raised.value.facts["status"] == status
            assert str(status) in raised.value.what


async def test_a_server_that_asks_for_patience_is_quoted() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(b"", "503 Busy", more="Retry-After: 17\r\n")
        await peer.gone()

    async with connected(handler) as (_, connection):
        with pytest.raises(TransportError) as raised:
            await call(connection)
        assert raised.value.data["retryAfter"] == 17


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_told_without_repeating_them(status: int) -> None:
    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        secret = seen.fields["authorization"]
        error = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": f"bad {secret}"}})
        more = f'WWW-Authenticate: Bearer error="insufficient_scope", error_description="{secret}"\r\n'
        peer.answer(error.encode(), f"{status} No", more=more)
        await peer.gone()

    async with connected(handler, Authorization="Bearer hunter2") as (_, connection):
        with pytest.raises(TransportError) as raised:
            await call(connection)
        error = raised.value
        assert (error.code, error.facts["status"]) == ("upstream_auth", status)
        assert "insufficient_scope" in error.why
        assert "hunter2" not in f"{error} {error.why} {error.fix} {error.data} {connection!r} {vars(error)}"


# Sessions that ended


LOST = [
    (404, b""),
    (404, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}'),
    (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}'),
    (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}'),
    (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Missing session ID"}}'),
]
KEPT = [
    (404, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found"}}'),
    (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Unsupported protocol version (9)"}}'),
    (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"Invalid params"}}'),
]


def always(status: int, body: bytes) -> Handler:
    async def then(peer: Peer) -> None:
        peer.pending.pop()
        peer.answer(body, f"{status} No")

    return then


@pytest.mark.parametrize(("status", "body"), LOST)
async def test_an_answer_that_knows_no_session_says_session_expired(status: int, body: bytes) -> None:
    async with connected(legacy(always(status, body))) as (_, connection):
        await call(connection, "initialize")
        with pytest.raises(SessionExpired):
            await call(connection)


@pytest.mark.parametrize(("status", "body"), KEPT)
async def test_other_errors_do_not_end_a_session(status: int, body: bytes) -> None:
    async with connected(legacy(always(status, body))) as (_, connection):
        await call(connection, "initialize")
        assert len((await call(connection)).error)


@pytest.mark.parametrize(("status", "body"), LOST[1:])
async def test_without_a_session_there_is_none_to_lose(status: int, body: bytes) -> None:
    async with connected(legacy(always(status, body))) as (_, connection):
        assert len((await call(connection)).error)


@pytest.mark.parametrize(("status", "body"), LOST)
async def test_a_session_lost_outside_of_a_call_is_told_to_the_owner(status: int, body: bytes) -> None:
    async with connected(legacy(always(status, body))) as (_, connection):
        await call(connection, "initialize")
        lost = asyncio.Event()
        connection.listener.on_session_lost = lost.set
        with pytest.raises(TransportError):
            await connection.post(notification("notifications/roots/list_changed"))
        assert lost.is_set()
        lost.clear()
        await connection.listen()
        await asyncio.wait_for(lost.wait(), PATIENCE)


# Redirects


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_within_the_origin_is_followed_and_remembered(status: int) -> None:
    async def handler(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if seen.target == "/mcp":
                peer.answer(b"", f"{status} Over there", more="Location: /mcp/\r\n")
            else:
                assert seen.fields["authorization"] == "Bearer t"
                peer.answer(result(seen) if b'"id"' in seen.body else b"")

    async with connected(handler, Authorization="Bearer t") as (wire, connection):
        await call(connection)
        await call(connection)
        await connection.post(notification("notifications/initialized"))
        assert [seen.target for seen in wire.requests] == ["/mcp", "/mcp/", "/mcp/", "/mcp/"]


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:1/mcp",
        "https://127.0.0.1:$port/mcp",
        "http://localhost:$port/mcp",
        "//evil.example/mcp",
        "/\\evil.example/mcp",
        "http://user@127.0.0.1:$port/mcp",
        "relative",
        "",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_to_another_origin_is_refused(place: str) -> None:
    async def handler(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            port = seen.fields["host"].partition(":")[2]
            peer.answer(b"", "307 Over there", more=f"Location: {place.replace('$port', port)}\r\n")

    async with connected(handler) as (wire, connection):
        with pytest.raises(TransportError) as raised:
            await call(connection)
        assert raised.value.facts["status"] == 307
        assert "only 307 and 308 within its own origin" in raised.value.why
        assert len(wire.requests) == 1


async def test_redirects_are_followed_three_times() -> None:
    async def handler(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            peer.answer(b"", "307 Round", more=f"Location: {seen.target}x\r\n")

    async with connected(handler) as (wire, connection):
        with pytest.raises(TransportError):
            await call(connection)
        with pytest.raises(TransportError):
            await connection.post(notification("notifications/initialized"))
        assert len(wire.requests) == 8


# Ending a call early


async def hung(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def test_failing_a_modern_call_closes_its_socket_and_says_no_more() -> None:
    async with connected(hung) as (wire, connection):
        exchange = await connection.send(outgoing(modern=True))
        await until(lambda: len(wire.requests) == 1)
        exchange.fail(CallCancelled("cancelled", detail="gone"))
        with pytest.raises(CallCancelled):
            await read(exchange)
        await until(lambda: wire.open == 0)
        assert len(wire.requests) == 1


async def test_failing_a_legacy_call_cancels_it_by_its_id() -> None:
    async def then(peer: Peer) -> None:
        await peer.gone()

    async with connected(legacy(then)) as (wire, connection):
        await call(connection, "initialize")
        going = outgoing()
        exchange = await connection.send(going)
        await until(lambda: len(wire.requests) == 2)
        exchange.fail(CallCancelled("cancelled", detail="gone"))
        with pytest.raises(CallCancelled):
            await read(exchange)
        await until(lambda: len(wire.requests) == 3)
        said = json.loads(wire.requests[2].body)
        assert (said["method"], said["params"]) == ("notifications/cancelled", {"requestId": going.id})
        assert wire.requests[2].fields["mcp-session-id"] == "s-1"


async def test_initialize_is_given_up_but_never_cancelled() -> None:
    async with connected(hung) as (wire, connection):
        exchange = await connection.send(outgoing("initialize"))
        await until(lambda: len(wire.requests) == 1)
        exchange.fail(CallCancelled("cancelled", detail="gone"))
        await until(lambda: wire.open == 0)
        assert not tasks_of_ours()


@pytest.mark.parametrize("modern", [True, False])
async def test_two_hundred_calls_given_up_at_once_leave_no_socket_and_no_task(modern: bool) -> None:
    async with connected(hung) as (wire, connection):
        exchanges = [await connection.send(outgoing(modern=modern)) for _ in range(200)]
        readers = [asyncio.create_task(exchange.next()) for exchange in exchanges]
        await until(lambda: len(wire.requests) == 200)
        for exchange in exchanges:
            exchange.fail(CallCancelled("cancelled", detail="gone"))
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        assert all(isinstance(outcome, CallCancelled) for outcome in outcomes)
        # The server takes no cancellation either: one is tried, then the rest is let go.
        await until(lambda: wire.open == 0 and not tasks_of_ours())
        assert not connection.client.channels
        assert len(wire.requests) <= 201


async def test_a_socket_lost_mid_call_is_never_made_up_for_by_sending_again() -> None:
    async def handler(peer: Peer) -> None:
        peer.answer(result(await peer.request()))
        await peer.request()
        peer.reset()

    async with connected(handler) as (wire, connection):
        await call(connection)
        with pytest.raises(TransportError):
            await call(connection)
        assert len(wire.requests) == 2


# Bounds


async def flood(peer: Peer, piece: bytes, times: int) -> int:
    said = 0
    for _ in range(times):
        peer.chunk(piece)
        said += len(piece)
        await peer.writer.drain()
    return said


async def test_an_endless_event_is_refused_while_memory_stays_bounded() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.stream()
        peer.chunk(b"data: ")
        await flood(peer, b"x" * 65536, 1600)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with connected(handler) as (_, connection):
        with pytest.raises(ProtocolError) as raised:
            await call(connection)
        assert (raised.value.code, raised.value.facts["limit"]) == ("message_too_large", LIMIT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@functools.cache
def gzip_bomb() -> bytes:
    return gzip.compress(b'data: {"jsonrpc":"2.0","id":1,"result":"' + bytes(300 * LIMIT), 9)


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_gzip_bomb_is_refused_while_memory_stays_bounded(kind: str, at_once: bool) -> None:
    bomb = gzip_bomb()

    async def handler(peer: Peer) -> None:
        await peer.request()
        cut = len(bomb) if at_once else 1000
        peer.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
            % (kind.encode(), len(bomb))
            + bomb[:cut]
        )
        await asyncio.sleep(0)
        peer.say(bomb[cut:])
        await peer.gone()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with connected(handler) as (_, connection):
        with pytest.raises(ProtocolError) as raised:
            await call(connection)
        assert raised.value.code == "message_too_large"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize("compressed", [False, True])
async def test_reading_pauses_while_nobody_reads_and_nothing_is_lost(compressed: bool) -> None:
    count = 4000
    text = b"".join(
        b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d,"pad":"%b"}}\n\n' % (n, b"x" * 4000)
        for n in range(count)
    )
    said = 0

    async def handler(peer: Peer) -> None:
        nonlocal said
        seen = await peer.request()
        peer.stream("Content-Encoding: gzip\r\n" if compressed else "")
        whole = text + b"data: " + result(seen) + b"\n\n"
        if compressed:
            whole = gzip.compress(whole, 1)
        for start in range(0, len(whole), 65536):
            peer.chunk(whole[start : start + 65536])
            said = start
            await peer.writer.drain()
        peer.end()
        await peer.gone()

    async with connected(handler) as (_, connection):
        exchange = await connection.send(outgoing())
        await until(lambda: exchange.paused)
        assert exchange.waiting < 1024 * 1024
        if not compressed:
            assert said < len(text) // 2, "the server had to wait"
        for n in range(count):
            assert json.loads(bytes((await read(exchange)).params))["n"] == n
        assert bytes((await read(exchange)).result) == b'{"ok":true}'


async def test_junk_events_are_counted_and_the_stream_goes_on() -> None:
    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        peer.stream()
        peer.event(b"not json")
        peer.event(b"[1,2]")
        peer.event(result(seen))
        peer.end()
        await peer.gone()

    async with connected(handler) as (_, connection):
        heard = Heard(connection)
        assert len((await call(connection)).result)
        assert connection.refused == len(heard.refused) == 2


# Streams that end before their response


async def test_a_stream_that_ends_before_its_response_is_a_transport_error() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.stream()
        peer.event(b'{"jsonrpc":"2.0","method":"notifications/message"}')
        peer.end()
        await peer.gone()

    async with connected(handler) as (wire, connection):
        exchange = await connection.send(outgoing())
        assert (await read(exchange)).method == "notifications/message"
        with pytest.raises(TransportError) as raised:
            await read(exchange)
        assert raised.value.code == "connection_lost"
        assert len(wire.requests) == 1


@pytest.mark.parametrize("clean", [True, False])
async def test_a_stream_with_event_ids_is_resumed_where_it_broke(clean: bool) -> None:
    asked = b""

    async def then(peer: Peer) -> None:
        nonlocal asked
        seen = peer.pending.pop()
        if seen.method == "POST":
            asked = result(seen)
            peer.stream()
            peer.chunk(b"id: e-1\nretry: 100\ndata:\n\n")
            peer.event(b'{"jsonrpc":"2.0","method":"notifications/message"}', b"id: e-2\n")
            if clean:
                peer.end()
            else:
                await peer.writer.drain()
                peer.close()
        elif seen.fields["last-event-id"] == "e-2":
            # A server may close again and again, and be asked again: it polls.
            peer.stream()
            peer.chunk(b"id: e-3\ndata:\n\n")
            peer.end()
        else:
            assert seen.fields["last-event-id"] == "e-3"
            assert (seen.fields["mcp-session-id"], seen.fields["accept"]) == ("s-1", "text/event-stream")
            peer.stream()
            peer.event(asked, b"id: e-4\n")
            peer.end()

    async with connected(legacy(then)) as (wire, connection):
        await call(connection, "initialize")
        exchange = await connection.send(outgoing())
        assert (await read(exchange)).method == "notifications/message"
        assert bytes((await read(exchange)).result) == b'{"ok":true}'
        assert [seen.method for seen in wire.requests] == ["POST", "POST", "GET", "GET"]


async def test_a_modern_stream_is_never_resumed() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.stream()
        peer.chunk(b"id: e-1\nretry: 10\ndata:\n\n")
        peer.end()
        await peer.gone()

    async with connected(handler) as (wire, connection):
        with pytest.raises(TransportError):
            await call(connection, modern=True)
        assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [404, 405, 500])
async def test_a_stream_that_cannot_be_resumed_fails_as_one_that_may_have_run(status: int) -> None:
    async def then(peer: Peer) -> None:
        if peer.pending.pop().method == "GET":
            peer.answer(b"", f"{status} No")
            return
        peer.stream()
        peer.chunk(b"id: e-1\nretry: 10\ndata:\n\n")
        peer.end()

    async with connected(legacy(then)) as (wire, connection):
        await call(connection, "initialize")
        with pytest.raises(TransportError) as raised:
            await call(connection)
        assert not raised.value.retryable
        assert 3 <= len(wire.requests) <= 6


async def test_a_call_that_waits_to_be_resumed_ends_with_the_connection_and_can_be_given_up() -> None:
    async def then(peer: Peer) -> None:
        peer.pending.pop()
        peer.stream()
        peer.chunk(b"id: e-1\nretry: 50000\ndata:\n\n")
        peer.end()

    async with connected(legacy(then)) as (wire, connection):
        await call(connection, "initialize")
        given_up, left = await connection.send(outgoing()), await connection.send(outgoing())
        await until(lambda: len(tasks_of_ours()) == 2)
        given_up.fail(CallCancelled("cancelled", detail="gone"))
        with pytest.raises(CallCancelled):
            await read(given_up)
        await until(lambda: b"notifications/cancelled" in wire.requests[-1].body)
        await asyncio.wait_for(connection.close(), PATIENCE)
        with pytest.raises(TransportError):
            await read(left)
        assert not tasks_of_ours()


# The stream for what belongs to no request


async def test_a_provider_without_such_a_stream_is_asked_once() -> None:
    async def handler(peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if seen.method == "GET":
                peer.answer(b"", "405 Method Not Allowed")
            else:
                peer.answer(result(seen))

    async with connected(handler) as (wire, connection):
        await connection.listen()
        await until(lambda: not tasks_of_ours())
        await connection.listen()
        await call(connection)
        assert [seen.method for seen in wire.requests] == ["GET", "POST"]


async def test_the_stream_is_opened_again_with_the_last_event_id_after_retry() -> None:
    async def handler(peer: Peer) -> None:
        last = 0
        while last < 2:
            seen = await peer.request()
            last = int(seen.fields.get("last-event-id", "0"))
            peer.stream()
            more = b"id: %d\nretry: 10\n" % (last + 1)
            peer.event(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', more)
            if last < 2:
                peer.end()
        await peer.gone()

    async with connected(handler) as (wire, connection):
        heard = Heard(connection)
        await connection.listen()
        await heard.until(lambda: len(heard.messages) == 3)
        assert [seen.fields.get("last-event-id") for seen in wire.requests] == [None, "1", "2"]


async def test_a_stream_that_ends_at_once_every_time_is_not_asked_for_in_a_storm() -> None:
    waits: list[float] = []

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            waits.append(asyncio.get_running_loop().time())
            peer.stream()
            peer.chunk(b"retry: 0\n\n")
            peer.end()

    async with connected(handler) as (_, connection):
        await connection.listen()
        await until(lambda: len(waits) == 4)
        assert all(after - before >= 0.09 for before, after in itertools.pairwise(waits))


async def test_a_response_on_the_stream_for_unrelated_messages_is_refused() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.stream()
        peer.event(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        await peer.gone()

    async with connected(handler) as (_, connection):
        heard = Heard(connection)
        await connection.listen()
        await heard.until(lambda: connection.refused == 1)


async def test_a_server_that_sends_no_head_does_not_hold_up_listen() -> None:
    async with connected(hung) as (_, connection):
        await asyncio.wait_for(connection.listen(), PATIENCE)


# The end


async def test_closing_while_everything_hangs_ends_everything() -> None:
    async def then(peer: Peer) -> None:
        await peer.gone()

    async def handler(peer: Peer) -> None:
        seen = await peer.request()
        if b'"initialize"' in seen.body:
            peer.answer(result(seen), more="Mcp-Session-Id: s\r\n")
            await peer.request()
        await peer.gone()

    async with connected(handler) as (wire, connection):
        await call(connection, "initialize")
        await connection.listen()
        exchanges = [await connection.send(outgoing()) for _ in range(5)]
        posting = asyncio.create_task(connection.post(notification("notifications/initialized")))
        await until(lambda: wire.open == 7)
        await asyncio.wait_for(connection.close(), PATIENCE)
        for exchange in exchanges:
            with pytest.raises(TransportError):
                await read(exchange)
        with pytest.raises(HangarError):
            await posting
        assert not tasks_of_ours()
        assert not connection.client.channels
        with pytest.raises(Unsent):
            await connection.send(outgoing())
        with pytest.raises(Unsent):
            await connection.post(b"{}")


async def test_connections_that_share_sockets_close_only_what_is_theirs() -> None:
    async with serving(echoing) as wire:
        client = HttpClient("time", parse_endpoint(wire.url))
        released: list[str] = []

        async def release() -> None:
            released.append("once")

        one, two = (
            StreamableHttpConnection("time", client, message_bytes=LIMIT, headers={}, release=release) for _ in range(2)
        )
        await call(one)
        await call(two)
        await one.close()
        await one.close()
        assert released == ["once"]
        await call(two)
        assert wire.connections == 1
        await two.close()
        client.close()
