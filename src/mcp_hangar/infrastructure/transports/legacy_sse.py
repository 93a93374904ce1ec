# SPDX-License-Identifier: MIT
"""MCP over HTTP+SSE (2024-11-05), the client side: a GET stream that carries everything towards us, and POSTs to the
place that its first event names.

Kept because such servers exist; nothing here is tuned. The wire relates nothing but responses to requests: progress
is related by its token, questions and log messages only while a single request is open; the rest goes to the listener.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcp_hangar.application.ports.connection import Listener, Outgoing
from mcp_hangar.domain.errors import HangarError, ProtocolError, SessionExpired, TransportError, Unsent
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.infrastructure.transports.answers import (
    MAX_HOPS,
    Fields,
    read_message,
    redirect_target,
    refusal,
)
from mcp_hangar.infrastructure.transports.event_stream import EventStream
from mcp_hangar.infrastructure.transports.http1 import Channel, HttpClient, Reply
from mcp_hangar.infrastructure.transports.sse import ServerSentEvent

if TYPE_CHECKING:  # imported only where OAuth is configured
    from mcp_hangar.infrastructure.oauth import TokenSource

_POST_TIMEOUT: Final = 30.0
_GOODBYE: Final = 2.0


class StreamExchange:
    """One request. A receiver of what its POST is answered with; the response itself comes over the stream."""

    def __init__(self, connection: LegacySseConnection, request: Outgoing, limit: int) -> None:
        self.limit = limit
        self.request = request
        self.channel: Channel | None = None
        self.over = False
        """Its response has come, or it failed."""
        self._connection = connection
        self._ready: deque[tuple[Message, int]] = deque()
        """Messages without a reader, each with its size."""
        self._size = 0
        self._error: HangarError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._renewed = False

    async def next(self) -> Message:
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self.over:
                raise self._connection.protocol_error("The exchange is over.")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message, size = self._ready.popleft()
        self._size -= size
        return message

    def give(self, message: Message, size: int) -> None:
        """A message of the provider that belongs here."""
        if self.over:
            return
        self._size += size
        if self._size > self.limit:
            self.fail(self._connection.protocol_error("It sent more about one call than the client reads."))
            return
        self._ready.append((message, size))
        self._notice()

    def fail(self, error: HangarError) -> None:
        if self.over:
            if self._ready:
                self._ready.clear()
                self._error = error
            return
        self._ready.clear()
        self.end(error)
        if self.channel is not None and self.channel.receiver is self:
            self.channel.abort()
        self._connection.cancel(self.request)

    def end(self, outcome: Message | HangarError) -> None:
        self._connection.waiting.pop(self.request.id, None)
        if self.over:
            return
        self.over = True
        if isinstance(outcome, Message):
            self._ready.append((outcome, 0))
        else:
            self._error = outcome
        self._notice()

    def _notice(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def write(self, channel: Channel) -> None:
        self.channel = channel
        channel.receiver = self
        channel.write(self._connection.post_bytes(self.request.payload))

    # What the channel says about the POST

    def answered(self, status: int, channel: Channel, body: bytes) -> None:
        self.channel = None
        if 200 <= status < 300 or self.over:
            return
        connection = self._connection
        if status == 401 and connection.tokens is not None and not self._renewed:
            self._renewed = True
            connection.spawn(self._again())
        elif status == 404:
            self.end(SessionExpired("session_expired", provider=connection.provider))
        else:
            self.end(refusal(connection.provider, status, channel.fields(), read_message(body)))

    def began(self, status: int, channel: Channel) -> bool:
        if status == 202:
            self.channel = None
            channel.drain()
        return False

    def chunk(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        pass

    def lost(self, error: HangarError) -> None:
        self.channel = None
        self.end(error)

    async def _again(self) -> None:
        try:
            await self._connection.renew_token()
            self.write(await self._connection.client.acquire())
        except HangarError as error:
            self.end(error)


class _Progress(msgspec.Struct):
    progressToken: int | str = ""


def read_progress_token(message: Message) -> int | None:
    """Our own token, an integer; None for anything else."""
    try:
        token = msgspec.json.decode(message.params, type=_Progress).progressToken
    except msgspec.DecodeError:
        return None
    return token if isinstance(token, int) else None


class LegacySseConnection:
    """The `Connection` port. `open` must have succeeded before anything is sent."""

    wire = "legacy_sse"

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
        self.waiting: dict[int, StreamExchange] = {}
        self._release = release
        self._limit = message_bytes
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._token = ""
        self._version = ""
        self._place: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stream: EventStream | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: HangarError | None = None
        self.closed = False

    async def open(self, timeout: float) -> None:
        """GET the stream and wait for its `endpoint` event. Raises a `HangarError`; `close` it then."""
        target = self.client.endpoint.target
        renewed = False
        try:
            async with asyncio.timeout(timeout):
                for left in range(MAX_HOPS + 1, -1, -1):
                    if self.tokens is not None:
                        self._token = await self.tokens.fresh()
                    stream = self._stream = EventStream(self.client, self._limit, self._heard)
                    request = self._head("GET", target) + b"Accept: text/event-stream\r\n\r\n"
                    status, fields, body = await stream.open(request)
                    place = redirect_target(status, fields, self.client.endpoint.origin)
                    if status == 200:
                        self.spawn(self._watch(stream))
                        await asyncio.shield(self._place)
                        return
                    if status == 401 and self.tokens is not None and not renewed:
                        renewed = True
                        await self.renew_token()
                    elif place is not None and left:
                        target = place
                    else:
                        raise self._refusal(status, fields, body)
        except TimeoutError:
            detail = f"It named no endpoint to post to within {timeout:g} s."
            raise TransportError("connection_lost", provider=self.provider, detail=detail) from None

    # The port

    async def send(self, request: Outgoing) -> StreamExchange:
        await self._prepare()
        channel = await self.client.acquire()
        if self._gone is not None:
            self.client.give_back(channel)
            raise self._unsent()
        exchange = StreamExchange(self, request, self._limit)
        self.waiting[request.id] = exchange
        exchange.write(channel)
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
        return None

    def set_version(self, version: str) -> None:
        self._version = version

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        gone = TransportError("connection_lost", provider=self.provider, detail="Hangar closed the connection.")
        self._end(gone)
        for task in list(self._tasks):
            task.cancel()
        for channel in list(self.client.channels):
            receiver = channel.receiver
            if isinstance(receiver, Reply) and receiver.owner is self:
                channel.abort()
                receiver.lost(gone)
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._release()

    # The stream

    async def _watch(self, stream: EventStream) -> None:
        error = await stream.wait()
        lost = TransportError("connection_lost", provider=self.provider, detail="It closed its event stream.")
        self._end(error or lost)

    def _end(self, error: HangarError) -> None:
        if self._gone is not None:
            return
        self._gone = error
        if self._stream is not None:
            self._stream.abandon()
        if not self._place.done():
            self._place.set_exception(error)
            self._place.exception()
        for exchange in list(self.waiting.values()):
            channel = exchange.channel
            exchange.end(error)
            if channel is not None and channel.receiver is exchange:
                channel.abort()
        if not self.closed:
            self.listener.on_closed(error)

    def _heard(self, event: ServerSentEvent) -> None:
        if event.event == "endpoint":
            self._endpoint(event.data)
            return
        message = read_message(event.data)
        if message is None:
            self._refuse("an event that is not a JSON-RPC message")
        elif message.method:
            exchange = self._belongs_to(message)
            if exchange is None:
                self.listener.on_message(message)
            else:
                exchange.give(message, len(event.data))
        else:
            text = bytes(message.id)
            exchange = self.waiting.get(int(text)) if text.isdigit() and len(text) < 20 else None
            if exchange is None or text != b"%d" % exchange.request.id:
                self._refuse("a response with an id nobody waits for")
            else:
                exchange.end(message)

    def _belongs_to(self, message: Message) -> StreamExchange | None:
        """One stream carries everything: progress says by its token what it belongs to; a question or a log message
        can only be about a call if there is just one."""
        if message.method == "notifications/progress":
            token = read_progress_token(message)
            return self.waiting.get(token) if token is not None else None
        related = len(message.id) > 0 or message.method == "notifications/message"
        if related and message.method != "ping" and len(self.waiting) == 1:
            return next(iter(self.waiting.values()))
        return None

    def _endpoint(self, data: bytes) -> None:
        if self._place.done():
            self._refuse("a second endpoint event")
            return
        origin = self.client.endpoint.origin
        # A path or a whole URL, never another origin: our headers go there.
        place = redirect_target(307, {b"location": data.strip()}, origin)
        if place is None:
            self._end(self.protocol_error("Its endpoint event names a place outside of its own origin."))
        else:
            self._place.set_result(place)

    # Requests

    def _head(self, method: str, target: str) -> bytes:
        lines = [self.client.head(method, target), self._headers]
        if self._token:
            lines.append(f"Authorization: Bearer {self._token}\r\n")
        if self._version:
            lines.append(f"MCP-Protocol-Version: {self._version}\r\n")
        return "".join(lines).encode("latin-1")

    def post_bytes(self, payload: bytes) -> bytes:
        head = self._head("POST", self._place.result())
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head, len(payload), payload)

    async def _prepare(self) -> None:
        if self._gone is not None or not self._place.done():
            raise self._unsent()
        if self.tokens is not None:
            self._token = await self.tokens.fresh()

    async def renew_token(self) -> None:
        if self.tokens is not None:
            self._token = await self.tokens.renew(self._token)

    async def _post(self, payload: bytes) -> None:
        status, fields, body = await self.client.ask(self.post_bytes(payload), self._limit, self)
        if status == 401 and self.tokens is not None:
            await self.renew_token()
            status, fields, body = await self.client.ask(self.post_bytes(payload), self._limit, self)
        if not 200 <= status < 300:
            raise self._refusal(status, fields, body)

    def cancel(self, request: Outgoing) -> None:
        if request.method != "initialize" and self._gone is None:
            self.spawn(self._cancel(envelope.notification("notifications/cancelled", b'{"requestId":%d}' % request.id)))

    async def _cancel(self, payload: bytes) -> None:
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._post(payload)
        except (HangarError, TimeoutError):
            pass  # it goes on working for nobody; there is no other way to tell it

    def _refusal(self, status: int, fields: Fields, body: bytes) -> TransportError:
        return refusal(self.provider, status, fields, read_message(body))

    def _unsent(self) -> Unsent:
        detail = self._gone.why if self._gone is not None else "Its event stream is not open."
        return Unsent("provider_unreachable", provider=self.provider, detail=detail)

    def protocol_error(self, detail: str) -> ProtocolError:
        return ProtocolError("provider_protocol", provider=self.provider, detail=detail)

    def _refuse(self, what: str) -> None:
        self.refused += 1
        self.listener.on_refused(what)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"legacy-sse {self.provider}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
