# SPDX-License-Identifier: MIT
"""The HTTP front: uvicorn with httptools, told what uvicorn keeps to itself (pinned range, see pyproject.toml).

A handler that awaits a provider does not learn that its client has left; `HangarProtocol` tells those who registered
in `scope["state"]["leaving"]`. It also bounds the request head in bytes and in time, which uvicorn's httptools
protocol does not.

Beside uvicorn's way there is a lane of ours, for what agents do all day: a POST to MCP whose head is, byte for byte,
one that uvicorn's parser and the door have accepted before (`http_head.Known`). Nothing is parsed again; the body goes
straight to `McpEndpoint.take`, and an answer that is one JSON message is one write. Whatever else happens on the
connection, before, after or in the answer, is uvicorn's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import uvicorn
from msgspec.structs import replace
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mcp_hangar.domain.errors import ConfigError, ConfigProblem
from mcp_hangar.server.asgi import App, Send
from mcp_hangar.server.http_head import Head, Known, without_trace

STREAM_PATH = b"/api/v1/stream"
STREAM_MESSAGE_BYTES = 16 * 1024
"""The largest message that a reader of the stream may send."""
KEEP_ALIVE = 120
HEAD_SECONDS = 20.0
"""Seconds within which a request must be whole once its first byte has come."""
_MOST_READ = 256 * 1024
"""Bytes that the event loop hands over at once."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


_FORGET = 10
"""Sweeps after which a connection that rests gives up its task; another request makes another."""
_MOST_HELD = 64 * 1024
"""Bytes that may come behind a request before its answer; more are left to the kernel."""


class Leaving(Protocol):
    """Something to end when the client has gone: a flight, a stream's task, what upstream keeps for the connection."""

    def cancel(self, detail: str, /) -> object: ...


class Door(Protocol):
    """What the lane leads to: an ASGI app that also takes requests whose head it knows."""

    known: dict[bytes, Known]

    def take(
        self,
        head: Head,
        provider: str,
        body: bytes,
        state: dict[str, Any],
        send: Send,
        write: Callable[[bytes], None] | None,
    ) -> Coroutine[Any, Any, None]: ...


class HangarProtocol(HttpToolsProtocol):
    header_bytes = 32 * 1024
    door: Door | None = None
    open_connections: ClassVar[set[HangarProtocol]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.leaving: dict[Leaving, None] = {}
        peer = f"{self.client[0]}:{self.client[1]}" if self.client else ""
        self.app_state = {"leaving": self.leaving, "clients": {}, "peer": peer, "head": b""}
        self.in_head = True
        """What comes next is a head, or more of one."""
        self.unread = 0
        """Bytes since the head began, or since the last piece of a body."""
        self.tail = b""
        self.since = 0.0
        """When the request that is arriving began; 0 between requests."""
        self.known = self.door.known if self.door is not None else {}
        self.busy = False
        """A request is on the lane: its body is arriving, or it is being answered."""
        self.held = b""
        """What came while the lane was busy."""
        self.closing = False
        self.coming: Known | None = None
        """The request whose body is not whole yet, which is then in `pieces`."""
        self.pieces: list[bytes] = []
        self.missing = 0
        self.said: RequestResponseCycle | None = None
        """uvicorn's writer, where an answer on the lane is more than one JSON message."""
        self.turn: asyncio.Future[tuple[Known, bytes]] | None = None
        """What `_answer` waits for; None while there is no such task."""
        self.rested = 0
        """Sweeps since the lane was last used; uvicorn has a timer of its own for each request."""
        self.open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.busy:
            self._more(data)
            return
        before: RequestResponseCycle | None = self.cycle
        if not self.since and (before is None or before.response_complete):
            end = data.find(b"\r\n\r\n") + 4
            head = data[:end]
            known = self.known.get(head)
            if known is None and b"\ntraceparent: " in head:
                known = self._traced(head)
            if known is not None:
                self.busy = True
                self.rested = 0
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
                if len(data) - end != known.length:
                    self._begin(known, data[end:])
                elif self.turn is not None:
                    self.turn.set_result((known, data[end:]))
                else:
                    self._take(known, data[end:])
                return
            if end > 4 and self.door is not None:
                self.app_state["head"] = head
        if self.unread + len(data) > self.header_bytes and self.in_head and self._head_ends(data) > self.header_bytes:
            self._refuse_head()
            return
        self.unread += len(data)
        super().data_received(data)
        if self.in_head:
            self.tail = data[-3:]
        elif self.unread > self.header_bytes + _MOST_READ:  # trailers without end
            self._refuse_head()

    # -- the lane

    def _traced(self, head: bytes) -> Known | None:
        """The known head that this one is but for its trace."""
        bare, trace = without_trace(head)
        known = self.known.get(bare) if trace else None
        if known is None:
            return None
        return Known(replace(known.head, trace=trace), known.provider, known.length)

    def _take(self, known: Known, body: bytes) -> None:
        if self.turn is None:
            self.turn = self.loop.create_future()
            answering = self.loop.create_task(self._answer(self.turn), name="lane")
            self.tasks.add(answering)  # uvicorn waits for these when it stops
            answering.add_done_callback(self.tasks.discard)
        self.turn.set_result((known, body))

    async def _answer(self, turn: asyncio.Future[tuple[Known, bytes]]) -> None:
        """Answers what comes on the lane, one after the other: a task for the connection, none for a call."""
        assert self.door is not None
        take, write = self.door.take, self.write
        try:
            while True:
                known, body = await turn
                await take(known.head, known.provider, body, self.app_state, self.send, write)
                if self.transport.is_closing():
                    return
                self.turn = turn = self.loop.create_future()
                self.busy = False
                if self.held or self.said is not None or self.closing or self.flow.write_paused:
                    await self._finish()
        except Exception as defect:  # the door answers its own; a client must not wait for what will never come
            self.logger.error("a request on the lane failed", exc_info=defect)
            self.transport.close()

    def _forget_task(self) -> None:
        """The task of `_answer` ends, if it rests. One that is answering ends by itself when the connection does."""
        if self.turn is not None and self.turn.cancel():
            self.turn = None

    def _begin(self, known: Known, data: bytes) -> None:
        self.coming, self.pieces, self.missing = known, [], known.length
        self.since = time.monotonic()
        self._more(data)

    def _more(self, data: bytes) -> None:
        """More of a body, or what comes behind a request that is being answered."""
        known = self.coming
        if known is None:
            self.held += data
            if len(self.held) > _MOST_HELD:
                self.flow.pause_reading()
            return
        if len(data) > self.missing:
            data, self.held = data[: self.missing], data[self.missing :]
        self.pieces.append(data)
        self.missing -= len(data)
        if not self.missing:
            body, self.coming, self.pieces, self.since = b"".join(self.pieces), None, [], 0.0
            self._take(known, body)

    def write(self, data: bytes) -> None:
        """A whole response, unless its client has left."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's way back, for an answer on the lane that is more than one JSON message."""
        if self.said is None:
            self.said = self.cycle = RequestResponseCycle(
                scope={"method": "POST"},  # type: ignore[typeddict-item]  # all that `send` looks at
                transport=self.transport,
                flow=self.flow,
                logger=self.logger,
                access_logger=self.access_logger,
                access_log=False,
                default_headers=self.server_state.default_headers,
                message_event=asyncio.Event(),
                expect_100_continue=False,
                keep_alive=not self.closing,
                on_response=lambda: None,
            )
            self.said.disconnected = self.transport.is_closing()
        await self.said.send(message)  # type: ignore[arg-type]

    async def _finish(self) -> None:
        """After an answer: wait until the client reads, close, take up what was held."""
        said, self.said = self.said, None
        if self.flow.write_paused:
            self.busy = True
            await self.flow.drain()
            self.busy = False
        if self.closing or (said is not None and not said.response_complete):  # stopping, or it broke off
            self.transport.close()
        elif not self.transport.is_closing():
            data, self.held = self.held, b""
            self.flow.resume_reading()
            if data:
                self.data_received(data)

    def shutdown(self) -> None:
        if self.busy and self.said is None:
            self.closing = True
        else:
            super().shutdown()

    @property
    def idle(self) -> bool:
        """Nothing is under way on either way, and uvicorn has not set a timer."""
        before: RequestResponseCycle | None = self.cycle
        under_way = self.busy or self.since or self.timeout_keep_alive_task
        return not under_way and (before is None or before.response_complete)

    # -- uvicorn's way

    def _head_ends(self, data: bytes) -> int:
        """Bytes of the head so far; with what follows it not counted."""
        end = (self.tail + data).find(b"\r\n\r\n")
        return self.unread + (len(data) if end < 0 else end + 4 - len(self.tail))

    def _refuse_head(self) -> None:
        before: RequestResponseCycle | None = self.cycle
        if before is None or before.response_complete:
            self.transport.write(_TOO_LARGE)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.since = time.monotonic()

    def on_headers_complete(self) -> None:
        self.in_head, self.unread, self.tail = False, 0, b""
        super().on_headers_complete()
        self.app_state["head"] = b""  # the bytes were this request's; what is behind it in the same piece has others

    def on_body(self, body: bytes) -> None:
        self.unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_head, self.unread, self.since = True, 0, 0.0
        super().on_message_complete()

    def _should_upgrade_to_ws(self) -> bool:
        """One path speaks WebSocket. A request for another is answered as if it had not asked."""
        return self.url.partition(b"?")[0] == STREAM_PATH

    def handle_websocket_upgrade(self) -> None:
        from mcp_hangar.server.stream_protocol import StreamProtocol  # not before somebody comes: it costs start time

        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            self.transport.close()  # two would write on one connection
            return
        self.ws_protocol_class = StreamProtocol
        super().handle_websocket_upgrade()
        self._let_go()  # from here on the connection, and its end, are another protocol's

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        self.open_connections.discard(self)
        self._forget_task()
        for each in list(self.leaving):
            each.cancel("The client has gone.")

    @classmethod
    def sweep(cls) -> None:
        """Close connections whose request has been arriving for too long, or which the lane left idle for too long."""
        now = time.monotonic()
        for connection in list(cls.open_connections):
            connection.rested += 1
            if connection.rested > _FORGET and connection.idle:
                connection._forget_task()
                if connection.rested > KEEP_ALIVE:
                    connection.transport.close()
            if connection.since and connection.flow.read_paused:
                connection.since = now  # it is we who do not read
            elif connection.since and now - connection.since > HEAD_SECONDS:
                connection.transport.close()


class HangarServer(uvicorn.Server):
    """Signals are the house's: it finishes calls before it lets go of the listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: App, header_bytes: int, door: Door | None = None) -> HangarServer:
    """`door`: where the lane leads to; without one there is none."""
    protocol = type("BoundedProtocol", (HangarProtocol,), {"header_bytes": header_bytes, "door": door})
    return HangarServer(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            ws_max_size=STREAM_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=5,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ConfigError` in words for a person."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError([_cannot_listen(host, port, error)]) from None
    listener.setblocking(False)
    return listener


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner may use; one left by a dead process is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as knock:
                if knock.connect_ex(str(path)) == 0:
                    raise OSError(errno.EADDRINUSE, "address in use")
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError([_cannot_listen(str(path), 0, error)]) from None
    listener.setblocking(False)
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigProblem:
    where = f"{host}:{port}" if port or ":" not in host else host
    if error.errno == errno.EADDRINUSE:
        return ConfigProblem(
            code="address_unavailable",
            what=f"Hangar cannot listen on {where}: something else does, maybe another Hangar.",
            fix="Stop it, or set server.listen to another port (`hangar status` shows a Hangar that runs).",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigProblem(
            code="address_unavailable",
            what=f"Hangar may not listen on {where}.",
            fix="Ports below 1024 need rights; use a higher one in server.listen.",
        )
    return ConfigProblem(
        code="address_unavailable",
        what=f"Hangar cannot listen on {where}: {error.strerror or error}.",
        fix="Set server.listen to an address of this machine.",
    )
