# SPDX-License-Identifier: MIT
"""A client of the HTTP door that minds its bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.inside import PATIENCE, Inside
from tests.journeys.wire import ModernWire

LINES = [
    "POST /mcp HTTP/1.1",
    "host: 127.0.0.1",
    "content-type: application/json",
    "accept: application/json, text/event-stream",
    "mcp-protocol-version: 2026-07-28",
    "mcp-method: tools/call",
]


class Peer:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next response: status, headers, body."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return int(head[0].split(" ")[1]), fields, body

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def peer(house: Inside) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


def body(tool: str = "echo", id: int = 1, **arguments: Any) -> bytes:
    params = ModernWire("")._dress({"name": f"time__{tool}", "arguments": arguments})
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()


def head(*more: str, tool: str = "echo") -> bytes:
    return "\r\n".join([*LINES, f"mcp-name: time__{tool}", *more, "", ""]).encode()


def request(tool: str = "echo", id: int = 1, **arguments: Any) -> bytes:
    content = body(tool, id, **arguments)
    return head(f"content-length: {len(content)}", tool=tool) + content


def said(answer: tuple[int, dict[str, str], bytes]) -> Any:
    return json.loads(answer[2])
