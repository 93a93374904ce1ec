# SPDX-License-Identifier: MIT
"""MCP over Streamable HTTP, the client side, both eras.

One POST per message. The warm call is `send` (one write on a pooled socket), `answered` (one read) and `next`; what
it costs is counted by a test. All else (new sockets, tokens, redirects, streams that break and are resumed, the GET
stream, goodbyes) happens beside it, in tasks that `close` ends.
"""

from __future__ import annotations

import asyncio
import zlib
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcp_hangar.application.ports.connection import Listener, Outgoing
from mcp_hangar.domain.errors import (
    HangarError,
    ProtocolError,
    SessionExpired,
    TransportError,
    Unsent,
)
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.infrastructure.transports.answers import (
    MAX_HOPS,
    Fields,
    decode_message,
    is_stream,
    names_lost_session,
    not_an_answer,
    read_message,
    redirect_target,
    refusal,
)
from mcp_hangar.infrastructure.transports.event_stream import EventStream, backoff
from mcp_hangar.infrastructure.transports.http1 import FRESH, Channel, HttpClient, Reply
from mcp_hangar.infrastructure.transports.inflate import Inflate, decoded
from mcp_hangar.infrastructure.transports.sse import EventReader, EventTooLarge, ServerSentEvent

if TYPE_CHECKING:  # imported only where OAuth is configured
    from mcp_hangar.infrastructure.oauth import TokenSource

WAITING_BYTES: Final = 256 * 1024
"""So much may wait in an exchange that nobody reads before the socket is no longer read either."""
_GOODBYE: Final = 2.0
"""Seconds for a DELETE or a cancellation; the provider may be the reason why we leave."""
_POST_TIMEOUT: Final = 30.0
"""Seconds for a one-way message; it needs no more than a 202."""
_MAX_CANCELLATIONS: Final = 1000
_RESUME_FAILURES: Final = 3
_LISTEN_HEAD: Final = 1.0
_SHORTEST_RETRY: Final = 0.1
_LIVED: Final = 5.0
"""Seconds after which a listening stream that ends counts as one that worked."""


class HttpExchange(msgspec.Struct, eq=False, repr_omit_defaults=True):
    """One POST and what comes back. A `msgspec.Struct`, since one is made per call; a `Receiver` of its channel."""

    connection: StreamableHttpConnection
    request: Outgoing
    limit: int
    channel: Channel | None = None
    over: bool = False
    """Its response has come, or it failed: nothing that arrives now counts."""
    waiter: Future[Message] | None = None
    error: HangarError | None = None
    ready: deque[Message] | None = None
    waiting: int = 0
    paused: bool = False
    reader: EventReader | None = None
    inflate: Inflate | None = None
    body_ended: bool = False
    hops: int = 0
    renewed: bool = False
    resuming: bool = False
    """A GET for the rest of a broken stream was sent: the request itself may have run."""
    failures: int = 0
    """Failed attempts to resume in a row."""

    def __repr__(self) -> str:
        return f"<HttpExchange {self.request.id} {self.request.method}>"

    # What the caller sees

    async def next(self) -> Message:
        if self.ready:
            message = self.ready.popleft()
            if self.paused:
                self._read_on(message)
            return message
        if self.error is not None:
            raise self.error
        if self.over:
            raise ProtocolError("provider_protocol", provider=self.connection.provider, detail="The exchange is over.")
        waiter = self.waiter = Future(loop=self.connection.loop)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # It came at the very moment the reader gave up: for the next one.
                self.ready = deque((waiter.result(), *(self.ready or ())))
            raise

    def give(self, message: Message, size: int) -> None:
        """Something that came another way (the GET stream) and belongs here."""
        if not self.over:
            self._deliver(message, size, last=False)

    def fail(self, error: HangarError) -> None:
        if self.over:
            if self.ready:
                self.ready = None
                self.error = error
            return
        self.ready = None
        self.stop(error)
        if not self.request.modern:
            self.connection.cancel(self.request)

    # What the channel says

    def answered(self, status: int, channel: Channel, body: bytes) -> None:
        # A JSON object cannot be mistaken for an event stream or for compressed bytes, so the header fields are
        # looked at only where they matter: `initialize` may bring a session.
        if status == 200 and body.startswith(b"{") and self.request.method != "initialize":
            try:
                if not body.isascii():
                    body.decode()
                message = decode_message(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                if not message.method and bytes(message.id) == b"%d" % self.request.id and not self.over:
                    self.over = True
                    self.channel = None
                    waiter = self.waiter
                    if waiter is None or waiter.done():
                        self.ready = deque((message,))
                    else:
                        waiter.set_result(message)
                    return
        self._settle(status, channel.fields(), body)

    def began(self, status: int, channel: Channel) -> bool:
        fields = channel.fields()
        if not is_stream(status, fields):
            return False
        if self._accept(fields):
            self._open_stream(fields)
        return not self.over

    def chunk(self, data: bytes) -> None:
        if self.inflate is not None:
            self.inflate.feed(data)
            self._pump()
        else:
            self._feed(data)

    def ended(self) -> None:
        self.channel = None
        self.body_ended = True
        if self.inflate is not None and self.paused:
            return  # `_read_on` comes back to it
        self._broken_off(None)

    def lost(self, error: HangarError) -> None:
        self.channel = None
        self._broken_off(error)

    # A response that is not a warm one

    def _settle(self, status: int, fields: Fields, body: bytes) -> None:
        """Everything a whole response may be, in the order of what it would mean."""
        self.channel = None
        if self.over:
            return
        connection = self.connection
        if self.resuming and status != 200:
            connection.check_session(status, read_message(body))
            self._broken_off(connection.refusal(status, fields))
            return
        if 200 <= status < 300:
            if not self._accept(fields):
                return
            if is_stream(status, fields):
                self._open_stream(fields)
                if not self.over:
                    self.chunk(body)
                    self.ended()
                return
        try:
            body = decoded(body, fields.get(b"content-encoding", b""), self.limit, connection.provider)
        except ProtocolError as error:
            self.end(error)
            return
        message = read_message(body)
        if 200 <= status < 300:
            if message is None:
                self.end(connection.protocol_error(not_an_answer(status, fields)))
            elif not self._take(message, len(body)):
                self.end(connection.protocol_error("It answered the request with another message."))
            return
        target = redirect_target(status, fields, connection.client.endpoint.origin)
        if target is not None and self.hops < MAX_HOPS:
            self.hops += 1
            connection.move(target)
            connection.spawn(self._send_again(), self)
            return
        if status == 401 and connection.tokens is not None and not self.renewed:
            self.renewed = True
            connection.spawn(self._renew(), self)
            return
        if connection.session_lost(status, message) and self.request.method != "initialize":
            self.end(SessionExpired("session_expired", provider=connection.provider))
        elif status not in (401, 403) and 400 <= status < 500 and message is not None and len(message.error):
            self._deliver(message, len(body), last=True)
        else:
            self.end(connection.refusal(status, fields, message))

    def _accept(self, fields: Fields) -> bool:
        if self.request.method == "initialize":
            return self.connection.remember_session(self, fields)
        return True

    async def _renew(self) -> None:
        connection = self.connection
        try:
            await connection.renew_token()
        except HangarError as error:
            self.end(error)
        else:
            await self._send_again()

    async def _send_again(self) -> None:
        """Only after an answer that says the request was not executed: a redirect, or 401."""
        connection = self.connection
        try:
            channel = await connection.client.acquire()
        except HangarError as error:
            self.end(error)
            return
        if self.over:
            connection.client.give_back(channel)
            return
        self.channel = channel
        channel.receiver = self
        channel.write(connection.post_bytes(self.request.payload, self.request.headers))

    # Event streams

    def _open_stream(self, fields: Fields) -> None:
        self.reader = EventReader(self.limit, self.reader.last_id if self.reader is not None else b"")
        self.inflate = None
        self.body_ended = False
        self.failures = 0
        encoding = fields.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            try:
                self.inflate = Inflate(encoding)
            except ValueError:
                self.stop(self.connection.protocol_error("HTTP: its event stream is in an encoding nobody asked for."))

    def _pump(self) -> None:
        inflate = self.inflate
        try:
            while inflate is not None and not self.paused and not self.over and (piece := inflate.read()):
                self._feed(piece)
        except zlib.error:
            self.stop(self.connection.protocol_error("HTTP: its event stream is not properly compressed."))

    def _feed(self, data: bytes) -> None:
        reader = self.reader
        if reader is None or self.over:
            return
        try:
            events = reader.feed(data)
        except EventTooLarge:
            self.stop(ProtocolError("message_too_large", provider=self.connection.provider, limit=self.limit))
            return
        for event in events:
            message = read_message(event.data)
            if message is None:
                self.connection.refuse("an event that is not a JSON-RPC message")
                continue
            if self._take(message, len(event.data)):
                if self.channel is not None:
                    self.channel.drain()
                    self.channel = None
                return

    def _take(self, message: Message, size: int) -> bool:
        """Whether it was the response."""
        if message.method:
            self._deliver(message, size, last=False)
            return False
        mine = bytes(message.id) == b"%d" % self.request.id
        if mine or (len(message.error) and bytes(message.id) in (b"", b"null")):
            self._deliver(message, size, last=True)
            return True
        self.connection.refuse(f"a response with an id nobody waits for, to {self.request.method}")
        return False

    def _deliver(self, message: Message, size: int, *, last: bool) -> None:
        if last:
            self.over = True
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(message)
            return
        if self.ready is None:
            self.ready = deque()
        self.ready.append(message)
        self.waiting += size
        if self.waiting > WAITING_BYTES and not self.paused and not last:
            self.paused = True
            if self.channel is not None:
                self.channel.transport.pause_reading()

    def _read_on(self, taken: Message) -> None:
        # The sizes of what waits are not kept one by one: count again, rarely and over few messages.
        ready = self.ready or ()
        self.waiting = sum(len(message.params) + len(message.result) + len(message.error) for message in ready)
        if self.waiting > WAITING_BYTES // 2 or self.over:
            return
        self.paused = False
        self._pump()
        if self.paused or self.over:
            return
        if self.channel is not None:
            self.channel.transport.resume_reading()
        elif self.body_ended:
            self._broken_off(None)

    def _broken_off(self, error: HangarError | None) -> None:
        """The stream, or the wait for a response, ended without one."""
        if self.over:
            return
        reader = self.reader
        if reader is not None and reader.last_id and not self.request.modern and self.failures < _RESUME_FAILURES:
            self.connection.spawn(self._resume(reader), self)
            return
        detail = "It ended its event stream before the response."
        self.end(error or TransportError("connection_lost", provider=self.connection.provider, detail=detail))

    async def _resume(self, reader: EventReader) -> None:
        connection = self.connection
        self.failures += 1
        await asyncio.sleep(backoff(self.failures) if reader.retry is None else max(reader.retry, _SHORTEST_RETRY))
        try:
            channel = await connection.client.acquire()
        except HangarError as error:
            self._broken_off(error)
            return
        if self.over:
            connection.client.give_back(channel)
            return
        self.resuming = True
        self.channel = channel
        channel.receiver = self
        channel.write(connection.get_bytes(reader.last_id))

    # How it ends

    def stop(self, error: HangarError) -> None:
        channel = self.channel
        self.end(error)
        if channel is not None:
            channel.abort()

    def end(self, error: HangarError) -> None:
        if self.over:
            return
        self.over = True
        self.channel = None
        self.error = error
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


class StreamableHttpConnection:
    """The `Connection` port over POST. `tokens`: OAuth, where configured. `release` is called once at the end: the
    client's sockets may be shared with other connections to the provider."""

    wire = "streamable_http"

    def __init__(
        self,
        provider: str,
        client: HttpClient,
        *,
        message_bytes: int,
        headers: dict[str, str],
        tokens: TokenSource | None = None,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        self.provider = provider
        self.client = client
        self.tokens = tokens
        self.listener = Listener()
        self.refused = 0
        self.loop = asyncio.get_running_loop()
        self.target = client.endpoint.target
        self._release = release
        self._limit = message_bytes
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._token = ""
        self._good_until = inf if tokens is None else 0.0
        """Until when `send` need not look: the token is good, and we are not closed."""
        self._version = ""
        self._session = ""
        self._idle = client.idle
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._listened: Future[None] | None = None
        self._cancellations: deque[bytes] = deque(maxlen=_MAX_CANCELLATIONS)
        self._canceller: asyncio.Task[None] | None = None
        self.closed = False
        self._post_head = self._head("POST")

    # The port

    async def send(self, request: Outgoing) -> HttpExchange:
        now = monotonic()
        if now >= self._good_until:
            await self._prepare()
        exchange = HttpExchange(self, request, self._limit)
        idle = self._idle
        channel = idle.pop() if idle else await self._dial()
        while channel.transport.is_closing() or (now - channel.since > FRESH and not channel.usable()):
            channel = idle.pop() if idle else await self._dial()
        channel.since = now
        channel.receiver = exchange
        exchange.channel = channel
        payload = request.payload
        channel.write(b"%b%bContent-Length: %d\r\n\r\n%b" % (self._post_head, request.headers, len(payload), payload))
        return exchange

    async def post(self, payload: bytes) -> None:
        await self._prepare()
        try:
            async with asyncio.timeout(_POST_TIMEOUT):
                await self._post(payload)
        except TimeoutError:
            detail = f"It did not accept a message within {_POST_TIMEOUT:g} s."
            raise TransportError("connection_lost", provider=self.provider, detail=detail) from None

    async def listen(self) -> None:
        if self._listening is not None or self.closed:
            return
        self._listened = self.loop.create_future()
        self._listening = self.spawn(self._listen())
        await asyncio.wait([self._listened], timeout=_LISTEN_HEAD)

    def set_version(self, version: str) -> None:
        self._version = version
        self._post_head = self._head("POST")

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._good_until = 0.0
        gone = TransportError("connection_lost", provider=self.provider, detail="Hangar closed the connection.")
        for channel in list(self.client.channels):
            receiver = channel.receiver
            if isinstance(receiver, HttpExchange) and receiver.connection is self:
                receiver.fail(gone)
            elif isinstance(receiver, Reply) and receiver.owner is self:
                channel.abort()
                receiver.lost(gone)
        if self._listening is not None:
            self._listening.cancel()
        try:
            async with asyncio.timeout(_GOODBYE):
                if self._canceller is not None:
                    await asyncio.wait([self._canceller])
                if self._session:
                    await self.client.ask(self._head("DELETE") + b"\r\n", WAITING_BYTES, self, again=True)
        except (HangarError, TimeoutError):
            pass  # a server that does not hear a goodbye expires the session by itself
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._release()

    # Requests

    def _head(self, method: str) -> bytes:
        lines = [self.client.head(method, self.target), self._headers]
        if method == "POST":
            lines.append("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n")
        elif method == "GET":
            lines.append("Accept: text/event-stream\r\n")
        if self._token:
            lines.append(f"Authorization: Bearer {self._token}\r\n")
        if self._version:
            lines.append(f"MCP-Protocol-Version: {self._version}\r\n")
        if self._session:
            lines.append(f"Mcp-Session-Id: {self._session}\r\n")
        return "".join(lines).encode("latin-1")

    def post_bytes(self, payload: bytes, headers: bytes = b"") -> bytes:
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (self._post_head, headers, len(payload), payload)

    def get_bytes(self, last_id: bytes) -> bytes:
        line = b"Last-Event-ID: %b\r\n" % last_id if last_id else b""
        return self._head("GET") + line + b"\r\n"

    async def _prepare(self) -> None:
        if self.closed:
            raise self._closed_error()
        if self.tokens is not None:
            self._use(await self.tokens.fresh(), self.tokens)

    async def _dial(self) -> Channel:
        channel = await self.client.dial()
        if self.closed:
            channel.abort()
            raise self._closed_error()
        return channel

    def _use(self, token: str, tokens: TokenSource) -> None:
        self._good_until = tokens.expires if not self.closed else 0.0
        if token != self._token:
            self._token = token
            self._post_head = self._head("POST")

    async def renew_token(self) -> None:
        if self.tokens is not None:
            self._use(await self.tokens.renew(self._token), self.tokens)

    def move(self, target: str) -> None:
        """Follow a redirect. It holds for this connection's life, also where 307 calls it temporary: frameworks say 307
        for a missing slash, and each call would be two requests."""
        self.target = target
        self._post_head = self._head("POST")

    async def _post(self, payload: bytes) -> None:
        hops = renewals = 0
        while True:
            status, fields, body = await self.client.ask(self.post_bytes(payload), self._limit, self)
            if 200 <= status < 300:
                return
            target = redirect_target(status, fields, self.client.endpoint.origin)
            if target is not None and hops < MAX_HOPS:
                hops += 1
                self.move(target)
            elif status == 401 and self.tokens is not None and not renewals:
                renewals += 1
                await self.renew_token()
            else:
                break
        message = read_message(body)
        self.check_session(status, message)
        raise self.refusal(status, fields, message)

    def cancel(self, request: Outgoing) -> None:
        """Tell the provider, in a task of its own; `initialize` must not be cancelled."""
        if request.method == "initialize":
            return
        params = b'{"requestId":%d}' % request.id
        self._cancellations.append(envelope.notification("notifications/cancelled", params))
        if self._canceller is None:
            self._canceller = self.spawn(self._cancel())

    async def _cancel(self) -> None:
        try:
            while self._cancellations:
                async with asyncio.timeout(_GOODBYE):
                    await self._post(self._cancellations.popleft())
        except (HangarError, TimeoutError):
            # Whoever does not take one cancellation will not take the rest either.
            self._cancellations.clear()
        finally:
            self._canceller = None

    # The GET stream

    async def _listen(self) -> None:
        attempt = 0
        last_id = b""
        retry: float | None = None
        renewed = False
        try:
            while True:
                started = monotonic()
                stream = EventStream(self.client, self._limit, self._heard, last_id)
                try:
                    await self._prepare()
                    status, _, body = await stream.open(self.get_bytes(last_id))
                    self._heard_back()
                    if status == 200:
                        renewed = False
                        await stream.wait()
                    elif status == 401 and self.tokens is not None and not renewed:
                        renewed = True
                        await self.renew_token()
                    elif self.check_session(status, read_message(body)) or (status < 500 and status not in (408, 429)):
                        return  # 405: it has no such stream. The rest will not change by asking again.
                except HangarError:
                    pass  # asked again, ever more rarely, for as long as we live
                finally:
                    stream.abandon()
                last_id = stream.last_id
                retry = retry if stream.retry is None else stream.retry
                attempt = 1 if stream.events or monotonic() - started > _LIVED else attempt + 1
                wait = backoff(attempt) if retry is None or attempt > 1 else _SHORTEST_RETRY
                await asyncio.sleep(max(wait, retry or 0.0))
        finally:
            self._heard_back()

    def _heard_back(self) -> None:
        if self._listened is not None and not self._listened.done():
            self._listened.set_result(None)

    def _heard(self, event: ServerSentEvent) -> None:
        message = read_message(event.data)
        if message is None:
            self.refuse("an event that is not a JSON-RPC message")
        elif message.method:
            self.listener.on_message(message)
        else:
            self.refuse("a response on the stream for unrelated messages")

    # What answers mean

    def remember_session(self, exchange: HttpExchange, fields: Fields) -> bool:
        session = fields.get(b"mcp-session-id", b"")
        if not all(0x21 <= byte <= 0x7E for byte in session):
            exchange.stop(self.protocol_error("Its session id holds characters that a header must not."))
            return False
        if session:
            self._session = session.decode("ascii")
        self._post_head = self._head("POST")
        return True

    def session_lost(self, status: int, message: Message | None) -> bool:
        return bool(self._session) and names_lost_session(status, message)

    def check_session(self, status: int, message: Message | None) -> bool:
        """The same outside of a call: the owner is told."""
        lost = self.session_lost(status, message)
        if lost:
            self.listener.on_session_lost()
        return lost

    def refusal(self, status: int, fields: Fields, message: Message | None = None) -> TransportError:
        return refusal(self.provider, status, fields, message)

    def protocol_error(self, detail: str) -> ProtocolError:
        return ProtocolError("provider_protocol", provider=self.provider, detail=detail)

    def _closed_error(self) -> Unsent:
        return Unsent("provider_unreachable", provider=self.provider, detail="Hangar closed the connection.")

    def refuse(self, what: str) -> None:
        self.refused += 1
        self.listener.on_refused(what)

    def spawn(self, work: Coroutine[Any, Any, None], exchange: HttpExchange | None = None) -> asyncio.Task[None]:
        """`exchange`: whom it works for; it must not wait for a task that `close` has ended."""
        task = self.loop.create_task(work, name=f"streamable-http {self.provider}")
        self._tasks.add(task)
        if exchange is not None:
            gone = TransportError("connection_lost", provider=self.provider, detail="Hangar closed the connection.")
            task.add_done_callback(lambda ended: exchange.end(gone) if ended.cancelled() else None)
        task.add_done_callback(self._tasks.discard)
        return task
