# SPDX-License-Identifier: MIT
"""A server of raw bytes for tests: it reads HTTP requests and answers exactly what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

PATIENCE = 60.0
"""Seconds after which a wait counts as one that never ends."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    head: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[Request]) -> None:
        self._seen = seen
        self.reader = reader
        self.writer = writer
        self.pending: list[Request] = []
        """For handlers that read a request and leave its answer to another."""

    async def request(self) -> Request:
        """The next request. Raises `IncompleteReadError` when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *rest = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        fields = {}
        for each in rest:
            name, _, value = each.partition(":")
            assert name.lower() not in fields, f"{name} was sent twice"
            fields[name.lower()] = value.strip()
        body = await self.reader.readexactly(int(fields.get("content-length", "0")))
        self._seen.append(Request(method, target, fields, body, head))
        return self._seen[-1]

    def say(self, data: bytes) -> None:
        """Raises `ConnectionResetError` when the client is gone: uvloop would say so with a bare `RuntimeError`."""
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)

    def answer(self, body: bytes, status: str = "200 OK", kind: str = "application/json", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.say(head.encode() + body)

    def stream(self, more: str = "") -> None:
        """The head of an event stream, chunked."""
        self.say(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{more}\r\n".encode()
        )

    def event(self, data: bytes, before: bytes = b"") -> None:
        self.chunk(before + b"data: " + data + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.say(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.say(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Until the client has closed; what it still says is read and dropped."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while await self.reader.read(65536):
                    pass

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Wire:
    server: asyncio.Server = field(init=False)
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    failures: list[BaseException] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"


Handler = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """`handler` gets every connection; a failed assertion in it fails the test. Ends with every socket closed."""
    wire = Wire()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        wire.connections += 1
        wire.open += 1
        try:
            await handler(Peer(reader, writer, wire.requests))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            wire.failures.append(error)
        finally:
            wire.open -= 1
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=2**20)
    wire.server = server
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
    for failure in wire.failures:
        raise failure


async def until(enough: Callable[[], bool]) -> None:
    """Waits by turns of the loop, for what no event tells."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if enough():
                return
            await asyncio.sleep(0.005)


def id_of(request: Request) -> bytes:
    return request.body.partition(b'"id":')[2].partition(b",")[0]


def result(request: Request, value: bytes = b'{"ok":true}') -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id_of(request), value)
