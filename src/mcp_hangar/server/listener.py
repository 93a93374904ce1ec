# SPDX-License-Identifier: MIT
"""The HTTP front: uvicorn with httptools, told what uvicorn keeps to itself (pinned range, see pyproject.toml).

A handler that awaits a provider does not learn that its client has left; `HangarProtocol` tells those who registered
in `scope["state"]["leaving"]`. It also bounds the request head in bytes and in time, which uvicorn's httptools
protocol does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mcp_hangar.domain.errors import ConfigError, ConfigProblem

KEEP_ALIVE = 120
HEAD_SECONDS = 20.0
"""Seconds within which a request must be whole once its first byte has come."""
_MOST_READ = 256 * 1024
"""Bytes that the event loop hands over at once."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Leaving(Protocol):
    """Something to end when the client has gone: a flight, a stream's task, what upstream keeps for the connection."""

    def cancel(self, detail: str, /) -> object: ...


class HangarProtocol(HttpToolsProtocol):
    header_bytes = 32 * 1024
    open_connections: ClassVar[set[HangarProtocol]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.leaving: dict[Leaving, None] = {}
        self.app_state = {"leaving": self.leaving, "clients": {}}
        self.in_head = True
        """What comes next is a head, or more of one."""
        self.unread = 0
        """Bytes since the head began, or since the last piece of a body."""
        self.tail = b""
        self.since = 0.0
        """When the request that is arriving began; 0 between requests."""
        self.open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.unread + len(data) > self.header_bytes and self.in_head and self._head_ends(data) > self.header_bytes:
            self._refuse_head()
            return
        self.unread += len(data)
        super().data_received(data)
        if self.in_head:
            self.tail = data[-3:]
        elif self.unread > self.header_bytes + _MOST_READ:  # trailers without end
            self._refuse_head()

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

    def on_body(self, body: bytes) -> None:
        self.unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_head, self.unread, self.since = True, 0, 0.0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.open_connections.discard(self)
        for each in list(self.leaving):
            each.cancel("The client has gone.")

    @classmethod
    def sweep(cls) -> None:
        """Close connections whose request has been arriving for too long."""
        now = time.monotonic()
        for connection in list(cls.open_connections):
            if connection.since and connection.flow.read_paused:
                connection.since = now  # it is we who do not read
            elif connection.since and now - connection.since > HEAD_SECONDS:
                connection.transport.close()


class HangarServer(uvicorn.Server):
    """Signals are the house's: it finishes calls before it lets go of the listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: Any, header_bytes: int) -> HangarServer:
    protocol = type("BoundedProtocol", (HangarProtocol,), {"header_bytes": header_bytes})
    return HangarServer(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
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
            what=f"Hangar cannot listen on {where}: something else does, maybe another Hangar.",
            fix="Stop it, or set server.listen to another port (`hangar status` shows a Hangar that runs).",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigProblem(
            what=f"Hangar may not listen on {where}.",
            fix="Ports below 1024 need rights; use a higher one in server.listen.",
        )
    return ConfigProblem(
        what=f"Hangar cannot listen on {where}: {error.strerror or error}.",
        fix="Set server.listen to an address of this machine.",
    )
