# SPDX-License-Identifier: MIT
"""A provider that costs next to nothing: what is measured is what stands before it.

It speaks MCP over Streamable HTTP in either era or both, or over stdio, and answers each `tools/call` with a result of
a fixed size. Only what is not a call is decoded. `python -m benchmarks.upstream --help` lists the options; the first
line it prints is `{"port": N}`. `GET /counts` tells how many requests of each method have come so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections import Counter
from typing import Any, Final, cast

import uvloop

from benchmarks.shapes import LEGACY_VERSION, MODERN_VERSION, SENTENCE

_ID: Final = re.compile(rb'"id"\s*:\s*(\d+|"[^"]*")')
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_NEAR: Final = 64
"""Most clients write the id before anything long; else it is looked for from the end."""
_KEPT_HEADS: Final = 1000


class Provider:
    """What is said, whatever the wire."""

    def __init__(self, *, era: str, answer_bytes: int, tools: int) -> None:
        self.counts: Counter[str] = Counter()
        self._modern = era in ("modern", "both")
        self._legacy = era in ("legacy", "both")
        self._tools = [tool(name) for name in ("echo", *(f"tool-{number}" for number in range(1, tools)))]
        self._after = self._result_of(answer_bytes)

    def _result_of(self, answer_bytes: int) -> bytes:
        """What follows the id: with an id of seven digits the whole message has `answer_bytes`."""
        complete = '"resultType":"complete",' if self._modern else ""
        frame = f',"result":{{{complete}"content":[{{"type":"text","text":"%s"}}],"isError":false}}}}'
        spare = answer_bytes - len('{"jsonrpc":"2.0","id":1000000') - len(frame % "")
        return (frame % (SENTENCE * (max(spare, 0) // len(SENTENCE) + 1))[: max(spare, 0)]).encode()

    def answer(self, body: bytes) -> bytes | None:
        """The message that answers this one; None if it is no request."""
        if b"tools/call" in body:
            self.counts["tools/call"] += 1
            at = body.find(b'"id"', 0, _NEAR)
            found = _ID.match(body, at if at >= 0 else max(body.rfind(b'"id"'), 0))
            if found:
                return b'{"jsonrpc":"2.0","id":' + found[1] + self._after
        return self._spelled_out(json.loads(body))

    def _spelled_out(self, message: dict[str, Any]) -> bytes | None:
        method = str(message.get("method", ""))
        self.counts[method] += 1
        if "id" not in message or not method:
            return None
        result = self._result(method)
        said = {"error": {"code": -32601, "message": "Method not found"}} if result is None else {"result": result}
        return json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}, separators=(",", ":")).encode()

    def _result(self, method: str) -> dict[str, Any] | None:
        info = {"name": "upstream", "version": "1"}
        capabilities: dict[str, Any] = {"tools": {}}
        if method == "server/discover" and self._modern:
            return {
                "resultType": "complete",
                "supportedVersions": [MODERN_VERSION],
                "capabilities": capabilities,
                "ttlMs": 3_600_000,
                "cacheScope": "public",
                "_meta": {"io.modelcontextprotocol/serverInfo": info},
            }
        if method == "initialize" and self._legacy:
            return {"protocolVersion": LEGACY_VERSION, "capabilities": capabilities, "serverInfo": info}
        if method == "ping":
            return {}
        if method == "tools/list":
            modern = {"resultType": "complete", "ttlMs": 3_600_000, "cacheScope": "public"} if self._modern else {}
            return {**modern, "tools": self._tools}
        return None


def tool(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Says what it was told, under the name {name}.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "What to say."}},
            "required": ["text"],
        },
    }


class Connection(asyncio.Protocol):
    """HTTP/1.1 with `Content-Length`, one request at a time, which is how every proxy uses a pooled connection."""

    heads: dict[bytes, tuple[bytes, int]] = {}  # noqa: RUF012 - of all connections
    """Verb and length of body, by the exact bytes of a head."""

    def __init__(self, provider: Provider, sse: bool) -> None:
        self._provider = provider
        self._sse = sse
        self._buffer = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < self._needed:
            return
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end == 3:
            return
        verb, length = self._head(bytes(self._buffer[:end]))
        self._needed = end + length
        if len(self._buffer) < self._needed:
            return
        body = bytes(self._buffer[end : self._needed])
        del self._buffer[: self._needed]
        self._needed = 0
        self._transport.write(self._response(verb, body))

    def _head(self, head: bytes) -> tuple[bytes, int]:
        known = self.heads.get(head)
        if known is None:
            if len(self.heads) > _KEPT_HEADS:
                self.heads.clear()
            length = _LENGTH.search(head)
            verb, path, _ = head.split(b" ", 2)
            known = b"COUNTS" if path == b"/counts" else verb, int(length[1]) if length else 0
            self.heads[head] = known
        return known

    def _response(self, verb: bytes, body: bytes) -> bytes:
        if verb == b"COUNTS":
            return _response(200, json.dumps(self._provider.counts).encode())
        if verb != b"POST":
            return _response(200 if verb == b"DELETE" else 405, b"")
        said = self._provider.answer(body)
        if said is None:
            return _response(202, b"")
        if b'"protocolVersion"' in said[:200]:
            return _response(200, said, b"Mcp-Session-Id: %b\r\n" % os.urandom(16).hex().encode())
        return _events(said) if self._sse else _response(200, said)


_REASONS: Final = {200: b"OK", 202: b"Accepted", 405: b"Method Not Allowed"}


def _response(status: int, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status,
        _REASONS[status],
        more,
        len(body),
        body,
    )


def _events(message: bytes) -> bytes:
    event = b"event: message\ndata: %b\n\n" % message
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
    )


async def serve(provider: Provider, sse: bool, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider, sse), "127.0.0.1", port, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


def speak(provider: Provider) -> None:
    """Over stdio: blocking reads and writes, for a pipe has one reader and nothing else is to be done meanwhile."""
    rest = b""
    while data := os.read(0, 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        said = [answer for line in lines if line and (answer := provider.answer(line)) is not None]
        left = memoryview(b"".join(answer + b"\n" for answer in said))
        while left:
            left = left[os.write(1, left) :]


def main() -> None:
    options = argparse.ArgumentParser(prog="benchmarks.upstream", description=__doc__.split("\n")[0])
    options.add_argument("--era", choices=("modern", "legacy", "both"), default="both")
    options.add_argument("--answer", choices=("json", "sse"), default="json", help="how answers come over HTTP")
    options.add_argument("--answer-bytes", type=int, default=226, help="size of the message that answers a call")
    options.add_argument("--tools", type=int, default=1, help="how many it lists; the first is called echo")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--stdio", action="store_true", help="speak on stdin and stdout instead")
    chosen = options.parse_args()
    provider = Provider(era=chosen.era, answer_bytes=chosen.answer_bytes, tools=chosen.tools)
    if chosen.stdio:
        speak(provider)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(provider, chosen.answer == "sse", chosen.port))
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
