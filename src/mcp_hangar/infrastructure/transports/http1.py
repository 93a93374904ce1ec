# SPDX-License-Identifier: MIT
"""Our own small HTTP/1.1 client: a pool of keep-alive sockets, callbacks instead of coroutines.

It exists for the warm call: one write on a pooled socket, one read with the whole answer. There the parser (llhttp)
is given callables made in C, so a response costs one Python frame here (`data_received`) and one at the receiver;
header fields are only located, and taken apart when somebody asks. Whatever is rarer (heads in pieces, 1xx, long or
streamed bodies, bytes too many) leaves that path and is handled below it.

A request is never sent again from here. What it means is left to the receiver (`streamable_http.py`), how a socket
is opened to `dial.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any, Final, Protocol, cast

import httptools

from mcp_hangar import __version__
from mcp_hangar.domain.errors import HangarError, ProtocolError, TransportError, Unsent
from mcp_hangar.infrastructure.transports.dial import DialError, Endpoint, dial

MAX_HEAD: Final = 32 * 1024
MAX_FIELDS: Final = 100
_MAX_INTERIM: Final = 16
SOCKETS: Final = 256
FRESH: Final = 0.05
"""Seconds a socket may have been idle and still be written to without asking the kernel whether it was closed."""
_IDLE_TTL: Final = 4.0
"""Node and uvicorn close after 5 s; a POST must not meet that moment."""
_MAX_IDLE_TTL: Final = 55.0
_DRAIN_SECONDS: Final = 2.0
_DRAIN_BYTES: Final = 64 * 1024
_SWEEP: Final = 0.5

USER_AGENT: Final = f"mcp-hangar/{__version__}"


class Receiver(Protocol):
    """Who sent the request. Called on the loop, must not raise; one of `answered`, `ended`, `lost` comes last, once."""

    limit: int
    """Bytes a body may have."""

    def answered(self, status: int, channel: Channel, body: bytes) -> None:
        """The whole response. `channel.fields()` is valid until this returns."""

    def began(self, status: int, channel: Channel) -> bool:
        """The head, where the body is still coming. True: send it piece by piece; False: collect it for `answered`."""

    def chunk(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def lost(self, error: HangarError) -> None:
        """No (whole) response will come; the socket is gone."""


class Channel(asyncio.Protocol):
    """One socket. `receiver` is whose turn it is; None: idle in the pool."""

    __slots__ = (
        "_body",
        "_client",
        "_close_delimited",
        "_head",
        "_held",
        "_idle",
        "_log",
        "_parser",
        "_poll",
        "_status",
        "_streaming",
        "_ttl",
        "_warm",
        "receiver",
        "since",
        "transport",
        "write",
    )

    transport: asyncio.Transport

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._idle = client.idle
        self.receiver: Receiver | None = None
        self.since = 0.0
        """When it was last taken from or put into the pool."""
        self._ttl = _IDLE_TTL
        self._warm = False
        """One whole response has come, and nothing of the next one yet."""
        self._poll: select.poll | None = None
        self._head = b""
        self._held = bytearray()
        self._body = bytearray()
        self._status = 0
        """Set once `began` was asked, so only for bodies that came in pieces."""
        self._streaming = False
        self._close_delimited = False
        # What the parser says, in order: None (a message begins), bytes (of its body), bool (it is complete; whether
        # the socket may be used again, which llhttp knows only at that very moment). All appended from C.
        self._log: list[Any] = []
        add = self._log.append
        parser = httptools.HttpResponseParser.__new__(httptools.HttpResponseParser)
        completed = map(add, iter(parser.should_keep_alive, None)).__next__
        cast("Any", parser).__init__(
            SimpleNamespace(on_message_begin=partial(add, None), on_body=add, on_message_complete=completed)
        )
        self._parser = parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        self._client.channels.add(self)

    def data_received(self, data: bytes) -> None:
        log = self._log
        if not log:
            end = data.find(b"\r\n\r\n")
            if (
                self._held
                or self.receiver is None
                or not 0 < end <= MAX_HEAD
                or data[9:10] == b"1"
                or data.count(b"\r\n", 0, end) > MAX_FIELDS
            ):
                data = self._gather_head(data)
                if not data:
                    return
            self._head = data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if True not in log and False not in log:
                self._fail(self._malformed(str(error) or "an upgrade nobody asked for"))
                return
            # The response was whole; what came after it was not HTTP.
            log.append(None)
        receiver = self.receiver
        if len(log) == 3 and log[2] is True and self._warm and receiver is not None and len(log[1]) <= receiver.limit:
            self.receiver = None
            receiver.answered(self._parser.get_status_code(), self, log[1])
            log.clear()
            self._head = b""
            self.since = monotonic()
            self._idle.append(self)
        else:
            self._proceed()

    def _release(self) -> None:
        self._ttl = _idle_ttl(self.fields().get(b"keep-alive", b""))
        self._warm = True
        self._head = b""
        self._log.clear()
        self.since = monotonic()
        self._idle.append(self)

    def _gather_head(self, data: bytes) -> bytes:
        """Bytes that begin with the complete head of the final response; empty: not yet, or failed."""
        if self.receiver is None:
            self.abort()  # nobody asked
            return b""
        held = self._held
        held += data
        for _ in range(_MAX_INTERIM):
            if not b"HTTP/1.".startswith(bytes(held[:7])):
                break
            end = held.find(b"\r\n\r\n")
            if end > MAX_HEAD or (end < 0 and len(held) > MAX_HEAD):
                self._fail(self._malformed(f"a response head over {MAX_HEAD} bytes"))
                return b""
            if end < 0:
                return b""
            if held.count(b"\r\n", 0, end) > MAX_FIELDS:
                self._fail(self._malformed(f"more than {MAX_FIELDS} header fields"))
                return b""
            if held[9:10] != b"1":
                whole = bytes(held)
                held.clear()
                return whole
            if held[9:12] == b"101":
                break
            del held[: end + 4]
            if not held:
                return b""
        self._fail(self._malformed("what is not an HTTP/1.1 response"))
        return b""

    def _proceed(self) -> None:
        """The rare ways of a response: in pieces, empty, too long, or with something behind it."""
        log, receiver = self._log, self.receiver
        if receiver is None:
            self.abort()
            return
        self._warm = False
        end = next((index for index, item in enumerate(log) if item is True or item is False), -1)
        if not self._status:
            self._status = self._parser.get_status_code()
            # A stream may last; the piece of it that came with the head need not stay.
            self._head = self._head[: self._head.find(b"\r\n\r\n") + 4]
            fields = self.fields()
            length = fields.get(b"content-length", b"")
            self._close_delimited = not length and b"transfer-encoding" not in fields
            if end < 0:
                streaming = receiver.began(self._status, self)
                if self.receiver is receiver:
                    self._streaming = streaming
                receiver = self.receiver
                if receiver is None:
                    return
            if not self._streaming and length.isdigit() and int(length) > receiver.limit:
                self._fail(self._too_large(receiver.limit))
                return
        body = b"".join(log[1:end] if end >= 0 else log[1:])
        reusable = end == len(log) - 1 and log[end] is True
        del log[1:]
        if self._streaming:
            if body:
                receiver.chunk(body)
                receiver = self.receiver
                if receiver is None:
                    return
        else:
            self._body += body
            if len(self._body) > receiver.limit:
                self._fail(self._too_large(receiver.limit))
                return
        if end >= 0:
            self._finish(receiver, reusable)

    def _finish(self, receiver: Receiver, reusable: bool) -> None:
        status, streaming, body = self._status, self._streaming, bytes(self._body)
        self.receiver = None
        self._status = 0
        self._streaming = False
        self._body.clear()
        if streaming:
            receiver.ended()
        else:
            receiver.answered(status, self, body)
        if reusable:
            self._release()
        else:
            self.abort()

    def fields(self) -> dict[bytes, bytes]:
        """The response's header fields by lower-case name; the first of a repeated one. llhttp has vouched for them."""
        found: dict[bytes, bytes] = {}
        for line in self._head[: self._head.find(b"\r\n\r\n")].split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            found.setdefault(name.lower(), value.strip(b" \t"))
        return found

    @property
    def begun(self) -> bool:
        """Whether a byte of the response has come."""
        return bool(self._log or self._held)

    def usable(self) -> bool:
        """Whether an idle socket may still be written to: not too old, not closed, and nothing unread on it."""
        if self.transport.is_closing() or monotonic() - self.since > self._ttl:
            self.abort()
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        if self._poll.poll(0):
            self.abort()
            return False
        return True

    def drain(self) -> None:
        """What was wanted has come; read the rest for a moment so that the socket can be used again."""
        self.receiver = _Drain(self)
        self._streaming = True
        self.since = monotonic()

    def abort(self) -> None:
        """Close now, and tell nobody."""
        self.receiver = None
        self.transport.abort()

    def sweep(self, now: float, first_byte: float) -> None:
        """Called twice a second or so: what has waited too long."""
        waited = now - self.since
        receiver = self.receiver
        if receiver is None:
            if waited > self._ttl:
                self.abort()
        elif isinstance(receiver, _Drain):
            if waited > _DRAIN_SECONDS:
                self.abort()
        elif first_byte and waited > first_byte and not self._log and not self._held:
            detail = f"it sent nothing for {first_byte:g} s (first_byte_timeout)"
            self._fail(TransportError("connection_lost", provider=self._client.provider, detail=detail))

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.forget(self)
        receiver = self.receiver
        if receiver is None:
            return
        if exc is None and self._log and self._close_delimited:
            self._finish(receiver, reusable=False)
            return
        self.receiver = None
        when = "in the middle of its answer" if self._log or self._held else "before it answered"
        receiver.lost(
            TransportError(
                "connection_lost", provider=self._client.provider, detail=f"It closed the connection {when}."
            )
        )

    def _fail(self, error: HangarError) -> None:
        receiver = self.receiver
        self.abort()
        if receiver is not None:
            receiver.lost(error)

    def _malformed(self, what: str) -> ProtocolError:
        return ProtocolError("provider_protocol", provider=self._client.provider, detail=f"HTTP: it sent {what}.")

    def _too_large(self, limit: int) -> ProtocolError:
        return ProtocolError("message_too_large", provider=self._client.provider, limit=limit)


class _Drain:
    """Reads what is left of a response nobody needs."""

    __slots__ = ("_channel", "_seen", "limit")

    def __init__(self, channel: Channel) -> None:
        self.limit = _DRAIN_BYTES
        self._channel = channel
        self._seen = 0

    def answered(self, status: int, channel: Channel, body: bytes) -> None:
        pass

    def began(self, status: int, channel: Channel) -> bool:
        return True

    def chunk(self, data: bytes) -> None:
        self._seen += len(data)
        if self._seen > self.limit:
            self._channel.abort()

    def ended(self) -> None:
        pass

    def lost(self, error: HangarError) -> None:
        pass


class Reply:
    """A receiver for the cold paths: wait for the whole response."""

    __slots__ = ("_waiter", "limit", "owner")

    def __init__(self, limit: int, owner: object) -> None:
        self.limit = limit
        self.owner = owner
        """Whose it is, among the connections that share these sockets."""
        self._waiter: asyncio.Future[tuple[int, dict[bytes, bytes], bytes]] = asyncio.get_running_loop().create_future()

    async def wait(self) -> tuple[int, dict[bytes, bytes], bytes]:
        return await self._waiter

    def answered(self, status: int, channel: Channel, body: bytes) -> None:
        if not self._waiter.done():
            self._waiter.set_result((status, channel.fields(), body))

    def began(self, status: int, channel: Channel) -> bool:
        if status == 202:
            # All that matters of an accepted message is that it was; some servers leave the body open for ever.
            self.answered(status, channel, b"")
            channel.drain()
        return False

    def chunk(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        pass

    def lost(self, error: HangarError) -> None:
        if not self._waiter.done():
            self._waiter.set_exception(error)


class HttpClient:
    """The sockets to one origin. Belongs to one provider, so nothing here is ever shared between credentials."""

    def __init__(
        self,
        provider: str,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: Endpoint | None = None,
        connect_timeout: float = 10.0,
        first_byte_timeout: float = 0.0,
        sockets: int = SOCKETS,
    ) -> None:
        """`sockets`: how many there may be at once."""
        self.provider = provider
        self.endpoint = endpoint
        self.idle: list[Channel] = []
        """Newest last: the one most likely alive, and the rest may grow old and go."""
        self.channels: set[Channel] = set()
        self._tls = tls
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._first_byte_timeout = first_byte_timeout
        self._sockets = sockets
        self._dialling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def head(self, method: str, target: str) -> str:
        """The lines of a request head that never change; further lines and the blank one are the caller's."""
        lines = [f"Host: {self.endpoint.authority}", f"User-Agent: {USER_AGENT}", "Accept-Encoding: identity"]
        if self._proxy is not None and self.endpoint.scheme == "http":
            target = self.endpoint.origin + target
            if self._proxy.authorization:
                lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, ""])

    async def acquire(self) -> Channel:
        """A socket to write one request on: the newest idle one, else a new one. Raises `Unsent`."""
        while self.idle:
            channel = self.idle.pop()
            if channel.usable():
                channel.since = monotonic()
                return channel
        return await self.dial()

    async def dial(self) -> Channel:
        """A new socket, whatever is in the pool. Raises `Unsent` with the facts `detail` and `fix`."""
        if len(self.channels) + self._dialling >= self._sockets:
            detail = f"All {self._sockets} connections to it are in use."
            raise Unsent("provider_unreachable", provider=self.provider, detail=detail, fix="Try again later.")
        self._dialling += 1
        try:
            channel = await dial(
                self.endpoint,
                partial(Channel, self),
                tls=self._tls,
                proxy=self._proxy,
                timeout=self._connect_timeout,
            )
        except DialError as error:
            detail = f"{error.detail[:1].upper()}{error.detail[1:]}."
            raise Unsent("provider_unreachable", provider=self.provider, detail=detail, fix=error.fix) from None
        finally:
            self._dialling -= 1
        if self._closed:
            channel.abort()
            raise Unsent("provider_unreachable", provider=self.provider, detail="The connection was closed.")
        channel.since = monotonic()
        self._arm()
        return channel

    async def ask(
        self, request: bytes, limit: int, owner: object, *, again: bool = False
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """One request and its whole response, off the hot path.

        `again`: it may be sent a second time if a pooled socket is lost before it answers (GET, DELETE).
        """
        for attempt in (0, 1):
            pooled = bool(self.idle) and not attempt
            channel = await (self.dial() if attempt else self.acquire())
            reply = Reply(limit, owner)
            channel.receiver = reply
            channel.write(request)
            try:
                return await reply.wait()
            except TransportError:
                if not (again and pooled) or channel.begun:
                    raise
            except asyncio.CancelledError:
                if channel.receiver is reply:
                    channel.abort()
                raise
        raise AssertionError("unreachable: the second attempt returns or raises")

    def give_back(self, channel: Channel) -> None:
        """It was acquired, and nothing was written."""
        if not channel.transport.is_closing():
            self.idle.append(channel)

    def forget(self, channel: Channel) -> None:
        self.channels.discard(channel)
        with contextlib.suppress(ValueError):
            self.idle.remove(channel)

    def _arm(self) -> None:
        if self._timer is None and self.channels and not self._closed:
            step = min(_SWEEP, self._first_byte_timeout / 4) if self._first_byte_timeout else _SWEEP
            self._timer = asyncio.get_running_loop().call_later(step, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = monotonic()
        for channel in list(self.channels):
            channel.sweep(now, self._first_byte_timeout)
        self._arm()

    def close(self) -> None:
        """Every socket closes; receivers still waiting are told."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.idle.clear()
        closed = TransportError("connection_lost", provider=self.provider, detail="Hangar closed the connection.")
        for channel in list(self.channels):
            receiver = channel.receiver
            channel.abort()
            if receiver is not None:
                receiver.lost(closed)


def _idle_ttl(keep_alive: bytes) -> float:
    """Seconds, from a `Keep-Alive: timeout=N` field: a second less than the server means to wait."""
    for part in keep_alive.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit():
            return min(max(int(value) - 1.0, 0.5), _MAX_IDLE_TTL)
    return _IDLE_TTL
