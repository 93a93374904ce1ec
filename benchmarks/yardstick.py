# SPDX-License-Identifier: MIT
"""The yardstick: a plain HTTP proxy in Python, which Hangar's cost is divided by. FROZEN.

A raw ASGI app on uvicorn (httptools, uvloop) and a pooled client on httptools: what a good engineer writes in an
afternoon. It forwards the bytes of a request and the bytes of its answer, decodes neither, governs nothing. It is never
optimised and never slowed down: a ratio recorded last year means something only if this file is what it was. Whoever
must change it (a library's interface changed) records all ratios anew and says why.

    python benchmarks/yardstick.py LISTEN_PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

import httptools
import uvicorn

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = {b"connection", b"content-length", b"host", b"keep-alive", b"transfer-encoding", b"upgrade"}


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body: list[bytes] = []


class UpstreamConnection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._waiter: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def request(self, data: bytes) -> asyncio.Future[Answer]:
        self._answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._fail(error or ConnectionResetError("the upstream closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # httptools calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._answer.body.append(body)

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.transport.close()
            self.closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)


class Pool:
    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.idle: list[UpstreamConnection] = []

    async def request(self, data: bytes) -> Answer:
        connection = None
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                break
            connection = None
        if connection is None:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(UpstreamConnection, self.host, self.port)
        answer = await connection.request(data)
        if not connection.closed:
            self.idle.append(connection)
        return answer


def forwardable(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP]


class Proxy:
    def __init__(self, host: str, port: int) -> None:
        self.pool = Pool(host, port)
        self.host = f"{host}:{port}".encode()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        lines = [b"%b %b HTTP/1.1" % (scope["method"].encode(), scope["raw_path"]), b"host: " + self.host]
        lines += [b"%b: %b" % header for header in forwardable(scope["headers"])]
        lines.append(b"content-length: %d" % len(body))
        try:
            answer = await self.pool.request(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        except (OSError, httptools.HttpParserError):
            answer = Answer()
            answer.status = 502
        content = b"".join(answer.body)
        headers = forwardable(answer.headers)
        headers.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def main() -> None:
    listen, upstream = (int(argument) for argument in sys.argv[1:3])
    uvicorn.run(
        Proxy("127.0.0.1", upstream),
        host="127.0.0.1",
        port=listen,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
