# SPDX-License-Identifier: MIT
"""MCP over a pair of pipes: one JSON message a line, many requests under way, and whatever else a program writes.

The pipes are the event loop's own transports, so a call costs one write, one callback and one future: no task, lock or
thread. What runs at the other end is a `Process` that somebody else started and ends; this file only carries messages.

Strangers write here. A line that is no message is counted and skipped; one over the limit is skipped to its end while
nothing of it is kept but head and tail; a flood of tiny lines yields to the loop in between. A pipe does not relate a
provider's question to a request, so it goes to the only call in flight, else to the listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import IO, Final, Protocol, TypeVar, cast

import msgspec

from mcp_hangar.application.ports.connection import Listener, Outgoing
from mcp_hangar.domain.errors import CallTimeout, HangarError, ProtocolError, ProviderDied, Unsent
from mcp_hangar.domain.mcp.envelope import Message, Raw, encode, notification, read_message
from mcp_hangar.domain.mcp.eras import SUBSCRIPTION_ID

T = TypeVar("T")

TERM_GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL, where `stop_grace` is not shorter."""
_KILL_WAIT: Final = 5.0
"""Seconds that `close` waits after SIGKILL: only a process stuck in the kernel takes longer."""
_LINGER: Final = 0.5
_LINGERS: Final = 4
"""So often so many seconds lie between the end of a pipe and giving the provider up. How it exited is mostly known
within a millisecond; several short waits, since after a moment in which nothing ran at all one long wait would be over
before the news is read."""
_LINES_PER_TURN: Final = 256
_DRAIN_BYTES: Final = 1024 * 1024
_EDGE: Final = 256
"""How much of an oversized line is kept at either end, to tell what it answered."""
_TELL_PER_SECOND: Final = 20
_LATE: Final = 1024

_HEAD_ANSWER: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+)\s*,\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"(?:result|error)"\s*:'
)
_HEAD_VALUE: Final = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"(?:result|error)"\s*:')
_HEAD_OWN: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?(?:"id"\s*:\s*(?:\d+|"[^"\\]*")\s*,\s*)?(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"method"\s*:'
)
_TAIL_ID: Final = re.compile(rb',\s*"id"\s*:\s*(\d+)\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z')

_RELATED: Final = frozenset({"notifications/message", "notifications/cancelled"})
"""Notifications that most probably speak of the only call in flight."""


class Process(Protocol):
    """What runs at the other end of the pipes."""

    on_exit: Callable[[str], None]
    """Called once when it ended, with a sentence or two on how; set by the connection."""

    async def gone(self, within: float) -> bool:
        """Wait until nothing of its tree is left, for so many seconds."""

    def end(self, grace: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after `grace` seconds."""

    async def close(self) -> None:
        """Let go of it. What still runs then is ended by others."""


class StdioExchange(msgspec.Struct, eq=False):
    """One request under way. A Struct, so that making one costs no frame."""

    connection: StdioConnection
    key: bytes
    method: str
    listens: bool
    waiter: asyncio.Future[Message | None] | None = None
    waiting: deque[tuple[Message, int]] | None = None
    """Messages without a reader, each with its size."""
    size: int = 0
    """Bytes of those."""
    answered: bool = False
    error: HangarError | None = None
    error_now: bool = False
    """Raise before what is waiting, not after."""

    async def next(self) -> Message:
        waiting = self.waiting
        if waiting and not self.error_now:
            first, size = waiting.popleft()
            self.size -= size
            return first
        if self.error is not None:
            raise self.error
        if self.answered:
            raise RuntimeError("the exchange is over: its response was taken")
        waiter: asyncio.Future[Message | None] = self.connection.loop.create_future()
        self.waiter = waiter
        try:
            message = await waiter
        except asyncio.CancelledError:
            # Whoever waited gave up in the very moment the message came: it stays for the next reader.
            if waiter.done() and not waiter.cancelled() and (message := waiter.result()) is not None:
                self._unread().appendleft((message, 0))
            raise
        finally:
            self.waiter = None
        if message is None:
            assert self.error is not None
            raise self.error
        return message

    def fail(self, error: HangarError) -> None:
        if self.error is not None or (self.answered and not self.waiting):
            return
        self.error_now = True
        self._end(error)
        self.connection.forget(self, error)

    def give(self, message: Message, size: int) -> None:
        """Hand over one message, the response among them."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(message)
            return
        if self.waiting and self.size + size > self.connection.limit and not message.is_response:
            detail = f"It sent more than {self.connection.limit} bytes about one call faster than the client reads."
            self.fail(ProtocolError("provider_protocol", provider=self.connection.provider, detail=detail))
            return
        self.size += size
        self._unread().append((message, size))

    def lose(self, error: HangarError) -> None:
        """The connection is over; what came before it went is still delivered."""
        if self.error is None:
            self._end(error)

    def _end(self, error: HangarError) -> None:
        self.error = error
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _unread(self) -> deque[tuple[Message, int]]:
        if self.waiting is None:
            self.waiting = deque()
        return self.waiting


class _Related(msgspec.Struct):
    """The members of `params` by which a message names a request."""

    progressToken: Raw = Raw(b"")
    requestId: Raw = Raw(b"")
    meta: dict[str, Raw] = msgspec.field(name="_meta", default_factory=dict)


_related = msgspec.json.Decoder(_Related)
_NOTHING: Final = _Related()


class StdioConnection(asyncio.Protocol):
    """Keeps the `Connection` port over two pipes."""

    def __init__(self, provider: str, limit: int, stop_grace: float, process: Process) -> None:
        self.loop = asyncio.get_running_loop()
        self.listener = Listener()
        self.refused = 0
        self.provider = provider
        self.limit = limit
        self._stop_grace = stop_grace
        self._process = process
        process.on_exit = self._exited

        self._open: dict[bytes, StdioExchange] = {}
        self._calls = 0
        """Open exchanges that are no subscription: those a provider's question may belong to."""
        self._late: dict[bytes, None] = {}
        """Ids that we gave up: their answers may still come, and are nobody's fault."""

        self._held = bytearray()
        """The beginning of a line whose end has not come."""
        self._skipping = False
        self._head = b""
        self._tail = b""
        self._rest = b""
        """Lines that wait for the loop's next turn."""
        self._draining = False
        self._second = 0.0
        self._told = 0

        self._over: str | None = None
        """Why nothing can be sent any more."""
        self._ended = False
        self._told_how: asyncio.Future[None] = self.loop.create_future()
        """Done once it is known how it ended."""
        self._lingering: asyncio.TimerHandle | None = None
        self._stdout: IO[bytes] | None = None
        self._reader: asyncio.ReadTransport | None = None
        self._writing = _Writing(self)
        self._writer: asyncio.WriteTransport | None = None
        self._reader_closed: asyncio.Future[None] = self.loop.create_future()

    async def open(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        """Speak over these pipes."""
        self._stdout = stdout
        try:
            await uncut(self.loop.connect_write_pipe(lambda: self._writing, stdin))
            await uncut(self.loop.connect_read_pipe(lambda: self, stdout))
        except BaseException:
            self._hang_up()
            raise
        if self._ended:
            self._hang_up()

    def writes_to(self, writer: asyncio.WriteTransport) -> None:
        self._writer = writer

    # --- to the provider --------------------------------------------------------------------------------------------

    async def send(self, request: Outgoing) -> StdioExchange:
        if self._over is not None or self._writing.paused is not None:
            await self._until_writable()
        assert self._writer is not None
        key = b"%d" % request.id
        method = request.method
        exchange = StdioExchange(self, key, method, method == "subscriptions/listen")
        self._open[key] = exchange
        if not exchange.listens:
            self._calls += 1
        payload = request.payload
        if b"\n" in payload or b"\r" in payload:
            payload = _one_line(payload)
        self._writer.write(payload + b"\n")
        return exchange

    async def post(self, payload: bytes) -> None:
        if self._over is not None or self._writing.paused is not None:
            await self._until_writable()
        assert self._writer is not None
        self._writer.write(_one_line(payload) + b"\n")

    async def listen(self) -> None:
        """A pipe is always open both ways."""

    def set_version(self, version: str) -> None:
        """A pipe names no version."""

    async def _until_writable(self) -> None:
        while self._over is None and self._writing.paused is not None:
            # Shielded: many wait for the same pipe, and one of them giving up is no matter of the others.
            await asyncio.shield(self._writing.paused)
        if self._over is not None:
            if not self._ended:  # a pipe broke, and why will be known in a moment
                await asyncio.shield(self._told_how)
            raise Unsent("provider_died", provider=self.provider, detail=self._over)

    def forget(self, exchange: StdioExchange, error: HangarError) -> None:
        """An exchange was given up: tell the provider, unless it has answered."""
        if self._open.pop(exchange.key, None) is None:
            return
        if not exchange.listens:
            self._calls -= 1
        self._late[exchange.key] = None
        if len(self._late) > _LATE:
            del self._late[next(iter(self._late))]
        if exchange.method != "initialize" and self._over is None and self._writer is not None:
            reason = "timed out" if isinstance(error, CallTimeout) else "cancelled"
            params = b'{"requestId":%b,"reason":%b}' % (exchange.key, encode(reason))
            self._writer.write(notification("notifications/cancelled", params) + b"\n")

    # --- from the provider: lines -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reader = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        end = data.find(b"\n")
        if end == len(data) - 1 and end <= self.limit and not (self._held or self._skipping or self._rest):
            if not self._ended and not data.isspace():  # a blank line that came alone is no message
                self._take(data)
            return
        if self._ended:
            return
        if self._rest:
            self._rest += data
            return
        self._split(data, end)

    def _split(self, data: bytes, end: int) -> None:
        start = lines = 0
        while end >= 0:
            self._line(data[start:end])
            start = end + 1
            lines += 1
            if lines == _LINES_PER_TURN and start < len(data) and not self._draining and self._reader is not None:
                self._rest = data[start:]
                self._reader.pause_reading()
                self.loop.call_soon(self._next_turn)
                return
            end = data.find(b"\n", start)
        if start < len(data):
            self._hold(data[start:] if start else data)

    def _next_turn(self) -> None:
        rest, self._rest = self._rest, b""
        if rest and not self._ended:
            self._split(rest, rest.find(b"\n"))
        if not self._rest and self._reader is not None and not self._reader.is_closing():
            self._reader.resume_reading()

    def _line(self, piece: bytes) -> None:
        if self._skipping:
            self._skip(piece)
            self._skipping = False
            self._too_large(self._head, self._tail)
            return
        size = len(self._held) + len(piece)
        if size > self.limit:
            head = bytes(self._held[:_EDGE]) + piece[:_EDGE]
            tail = bytes(self._held[-_EDGE:]) + piece[-_EDGE:]
            self._held = bytearray()
            self._too_large(head, tail)
            return
        if self._held:
            self._held += piece
            piece = bytes(self._held)
            self._held = bytearray()
        if piece and not piece.isspace():
            self._take(piece)

    def _hold(self, piece: bytes) -> None:
        """A line whose end has not come. Appending to one buffer keeps the cost linear however small the pieces are."""
        if self._skipping:
            self._skip(piece)
            return
        self._held += piece
        if len(self._held) > self.limit:
            self._skipping = True
            self._head, self._tail = bytes(self._held[:_EDGE]), bytes(self._held[-_EDGE:])
            self._held = bytearray()
            if answer := _HEAD_ANSWER.match(self._head):
                self._fail_too_large(answer[1])

    def _skip(self, piece: bytes) -> None:
        self._tail = (self._tail + piece[-_EDGE:])[-_EDGE:]

    # --- from the provider: messages --------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        try:
            message = read_message(line)
        except (msgspec.DecodeError, RecursionError):
            self._refuse("not a JSON-RPC message", line)
            if answer := _HEAD_ANSWER.match(line, 0, _EDGE):
                why = "It sent an answer that is not JSON, or nests too deep."
                self._fail(answer[1], ProtocolError("provider_protocol", provider=self.provider, detail=why))
            return
        valid = line.isascii() or _is_utf8(line)
        if message.method:
            if valid:
                self._take_own(message, len(line))
            else:
                self._refuse("a message that is not UTF-8", line)
            return
        exchange = self._open.get(bytes(message.id))
        if exchange is None:
            self._refuse_answer(message, line)
            return
        del self._open[exchange.key]
        if not exchange.listens:
            self._calls -= 1
        if valid and (len(message.result) or len(message.error)):
            exchange.answered = True
            exchange.give(message, len(line))
            return
        why = "an answer with neither result nor error" if valid else "an answer that is not UTF-8"
        self._refuse(why, line)
        exchange.fail(ProtocolError("provider_protocol", provider=self.provider, detail=f"It sent {why}."))

    def _take_own(self, message: Message, size: int) -> None:
        """A request or a notification of the provider."""
        exchange = self._belongs_to(message)
        if exchange is None:
            self.listener.on_message(message)
        else:
            exchange.give(message, size)

    def _belongs_to(self, message: Message) -> StdioExchange | None:
        method = message.method
        if method == "notifications/progress":
            return self._open.get(bytes(_names(message).progressToken))
        if len(self._open) > self._calls:
            named = _names(message)
            by_name = self._open.get(bytes(named.meta.get(SUBSCRIPTION_ID, b"")))
            if by_name is None and method == "notifications/cancelled":
                by_name = self._open.get(bytes(named.requestId))
            if by_name is not None and by_name.listens:
                return by_name
        if self._calls == 1 and (method in _RELATED or (len(message.id) and method != "ping")):
            return next(exchange for exchange in self._open.values() if not exchange.listens)
        return None

    # --- what is refused --------------------------------------------------------------------------------------------

    def _refuse_answer(self, message: Message, line: bytes) -> None:
        key = bytes(message.id)
        if key in self._late:
            del self._late[key]
            return
        if not key and not len(message.result) and not len(message.error):
            self._refuse("not a JSON-RPC message", line)
        else:
            self._refuse(f"an answer to an unknown request ({_excerpt(key) or 'no id'})", line)

    def _too_large(self, head: bytes, tail: bytes) -> None:
        """An oversized line is over. What it answered is read from its edges where that is certain: the members before
        the huge one, or those after it, whose closing brace ends the message."""
        self._refuse(f"a message of more than {self.limit} bytes", head)
        answer = _HEAD_ANSWER.match(head) or (_TAIL_ID.search(tail) if _HEAD_VALUE.match(head) else None)
        if answer:
            self._fail_too_large(answer[1])
        elif not _HEAD_OWN.match(head) and len(self._open) == 1:
            self._fail_too_large(next(iter(self._open)))

    def _fail_too_large(self, key: bytes) -> None:
        self._fail(key, ProtocolError("message_too_large", provider=self.provider, limit=self.limit))

    def _fail(self, key: bytes, error: ProtocolError) -> None:
        """The answer with this id has come, and is none that can be used."""
        exchange = self._open.pop(key, None)
        if exchange is None:
            return
        if not exchange.listens:
            self._calls -= 1
        exchange.fail(error)

    def _refuse(self, why: str, line: bytes) -> None:
        self.refused += 1
        now = self.loop.time()
        if now - self._second > 1:
            self._second, self._told = now, 0
        self._told += 1
        if self._told <= _TELL_PER_SECOND:
            self.listener.on_refused(f"{why}: {_excerpt(line)}")

    # --- the end ----------------------------------------------------------------------------------------------------

    def connection_lost(self, error: Exception | None) -> None:
        self._reader_closed.set_result(None)
        self.lost("It closed its standard output but went on running.")

    def lost(self, why: str) -> None:
        """A pipe broke. Mostly the provider has just exited, and how is worth a moment's wait."""
        if self._over is None:
            self._over = why
            self._wake_senders()
            self._linger(why, _LINGERS)

    def _linger(self, why: str, left: int) -> None:
        if left:
            self._lingering = self.loop.call_later(_LINGER, self._linger, why, left - 1)
        else:
            self._process.end(min(self._stop_grace, TERM_GRACE))
            self._finish(why)

    def _exited(self, how: str) -> None:
        """The process ended. What it wrote before is all in the pipe by now, so the last answers are read first."""
        if not self._ended:
            self._drain()
        self._finish(how)

    def _drain(self) -> None:
        if self._stdout is None or self._stdout.closed:
            return
        self._draining = True
        self._next_turn()
        read = 0
        with contextlib.suppress(OSError, ValueError):
            while read < _DRAIN_BYTES and (data := os.read(self._stdout.fileno(), 65536)):
                read += len(data)
                self.data_received(data)

    def _finish(self, how: str, told: bool = True) -> None:
        """Every open exchange fails, once; the owner hears of it unless it was the owner who closed."""
        if self._ended:
            return
        self._ended = True
        self._over = how
        self._told_how.set_result(None)
        if self._lingering is not None:
            self._lingering.cancel()
        exchanges = list(self._open.values())
        self._open.clear()
        self._calls = 0
        for exchange in exchanges:
            exchange.lose(ProviderDied("provider_died", provider=self.provider, detail=how))
        self._wake_senders()
        if told:
            self._hang_up()
            self.listener.on_closed(ProviderDied("provider_died", provider=self.provider, detail=how))

    def _wake_senders(self) -> None:
        if self._writing.paused is not None and not self._writing.paused.done():
            self._writing.paused.set_result(None)

    async def close(self) -> None:
        """Close stdin and wait; then SIGTERM and SIGKILL. Its last words are read and dropped: it must not block."""
        self._finish("Hangar stopped it.", told=False)
        if self._writer is not None:
            self._writer.close()
        term = min(self._stop_grace, TERM_GRACE)
        try:
            if not await self._process.gone(self._stop_grace):
                self._process.end(term)
                await self._process.gone(term + _KILL_WAIT)
        finally:
            self._hang_up()
            await self._process.close()
        closing = [f for f in (self._reader and self._reader_closed, self._writer and self._writing.closed) if f]
        if closing:
            await asyncio.wait(closing, timeout=_LINGER * _LINGERS)

    def _hang_up(self) -> None:
        """Both pipes closed, and nothing more written to one that is stuck."""
        if self._reader is not None:
            self._reader.close()
        writer = self._writer
        if writer is not None and (not writer.is_closing() or writer.get_write_buffer_size()):
            writer.abort()


class _Writing(asyncio.BaseProtocol):
    """The pipe to the provider: whether it is over its high-water mark, and whether it is still there."""

    def __init__(self, connection: StdioConnection) -> None:
        self._connection = connection
        self.paused: asyncio.Future[None] | None = None
        self.closed: asyncio.Future[None] = connection.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.writes_to(cast("asyncio.WriteTransport", transport))

    def pause_writing(self) -> None:
        if self.paused is None:
            self.paused = self._connection.loop.create_future()

    def resume_writing(self) -> None:
        paused, self.paused = self.paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)
        self._connection.lost("It closed its standard input but went on running.")


async def uncut(connecting: Awaitable[T]) -> T:
    """The making of a transport, to its end. It takes a turn of the loop; cancelled in that turn uvloop closes the
    descriptor, and whoever owns it would close it once more, or what has its number by then."""
    making = asyncio.ensure_future(connecting)
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await asyncio.wait([making])
        raise


def _one_line(payload: bytes) -> bytes:
    """Line breaks between members become blanks. Left alone they would end the message, and what follows them, which
    a caller wrote, would be a message of its own that nobody judged. Some readers break lines at a carriage return."""
    return payload.replace(b"\n", b" ").replace(b"\r", b" ")


def _names(message: Message) -> _Related:
    try:
        return _related.decode(message.params) if len(message.params) else _NOTHING
    except (msgspec.DecodeError, RecursionError):
        return _NOTHING


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _excerpt(line: bytes) -> str:
    """Some of what a provider wrote, harmless in a terminal and in a log."""
    text = line[:120].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.strip())
