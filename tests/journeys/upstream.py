# SPDX-License-Identifier: MIT
"""A provider that writes down what it was sent, keeps state, and misbehaves when asked to. Standard library only.

Over HTTP it lives in a thread of the test (`recording`); over stdio it is this file, run as a program, and writes what
it got to the file that `RECORD` names (`stdio_command`, `read_record`). The tools are the same on both wires.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
HUGE = 100 * 1024 * 1024
_OBJECT: Json = {"type": "object"}

RICH: Json = {
    "name": "odd",
    "title": "An odd one",
    "description": "Answers with what few servers say.",
    "inputSchema": {
        "type": "object",
        "properties": {"size": {"$ref": "#/$defs/size"}, "limit": {"type": "number", "maximum": 1.0}},
        "$defs": {"size": {"type": "integer", "maximum": 18446744073709551615}},
        "x-unknown": {"kept": [1, 1.0, 1e3]},
    },
    "outputSchema": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}},
    "annotations": {"title": "Odd", "readOnlyHint": True, "idempotentHint": True, "x-hint": "kept"},
    "icons": [{"src": "data:image/png;base64,AA==", "mimeType": "image/png"}],
    "_meta": {"example.com/kept": {"deep": [None, True]}},
    "x-future": 1.0,
}
TOOLS: list[Json] = [
    {"name": name, "description": f"It does: {name}.", "inputSchema": _OBJECT}
    for name in (
        *("echo", "count", "sleep", "hang", "fails", "vanish", "wrong_id", "twice", "deep", "invalid_utf8"),
        *("not_json", "huge", "bomb", "junk", "stderr", "long_stream", "block", "cut"),
    )
] + [RICH]
ODD_RESULT = (
    '{"content":[{"type":"hologram","depth":1.0,"\\u0061":[{}]},{"type":"text","text":"caf\\u00e9 é","x-new":null}],'
    '"structuredContent":{"n":1.0,"m":1,"e":1E+2,"big":123456789012345678901234567890,"b":18446744073709551616,'
    '"small":0.10000000000000000555,"z":1,"a":2},"x-unknown":{"kept":true},"isError":false}'
).encode()
"""Spellings and members that a parse and a rebuild would lose."""
CUT_EMOJI = (
    rb'{"content":[{"type":"text","text":"fine: \ud83d\ude00, cut: \ud83d"}],"structuredContent":{"\udc00":1.0}}'
)
"""What JavaScript writes of a string that was cut in the middle of a character."""


class Vanished(Exception):
    """The provider is gone, in the middle of a call."""


@dataclass(frozen=True)
class Whole:
    """An HTTP answer as bytes, where the usual one is not meant."""

    head: str
    pieces: Callable[[], Iterator[bytes]]


_HUGE_BEGIN = b'"result":{"content":[{"type":"text","text":"'
_HUGE_END = b'"}]}}'


def huge_pieces(before: bytes) -> Iterator[bytes]:
    """A response of `HUGE` bytes and a little more."""
    yield before + _HUGE_BEGIN
    piece = b"x" * (1 << 20)
    for _ in range(HUGE // len(piece)):
        yield piece
    yield _HUGE_END


def text(words: str, **more: Any) -> bytes:
    return json.dumps({"content": [{"type": "text", "text": words}], **more}).encode()


@dataclass
class Server:
    """What is said, whatever the wire."""

    era: str = "legacy"
    tools: list[Json] = field(default_factory=lambda: list(TOOLS))
    counts: dict[str, int] = field(default_factory=dict)
    capabilities: Json = field(default_factory=lambda: {"tools": {"listChanged": True}})
    before: Callable[[str], Awaitable[None]] | None = None
    """Awaited with the method before each answer."""
    restless: bool = False
    """Says after each list that the list has changed (stdio)."""

    def answer_to(self, message: Json) -> Json | None:
        """The result of what is no tool call; None for an unknown method."""
        method = message["method"]
        if method == "initialize" and self.era == "legacy":
            info = {"name": "upstream", "version": "1"}
            return {"protocolVersion": LEGACY, "capabilities": self.capabilities, "serverInfo": info}
        if method == "server/discover" and self.era == "modern":
            return {"resultType": "complete", "supportedVersions": [MODERN], "capabilities": self.capabilities}
        if method == "ping" and self.era == "legacy":
            return {}
        if method == "tools/list":
            listed: Json = {"tools": self.tools}
            return listed if self.era == "legacy" else {"resultType": "complete", **listed}
        return None

    async def payload(self, message: Json, session: str) -> bytes | Whole:
        """The message that answers a request, as bytes."""
        before = b'{"jsonrpc":"2.0","id":%b,' % json.dumps(message["id"]).encode()
        if self.before is not None:
            await self.before(message["method"])
        if message["method"] == "tools/call":
            return await self._called(message["params"], before, session)
        result = self.answer_to(message)
        if result is None:
            return before + b'"error":{"code":-32601,"message":"Method not found"}}'
        return before + b'"result":' + json.dumps(result).encode() + b"}"

    async def _called(self, params: Json, before: bytes, session: str) -> bytes | Whole:
        name, arguments = params["name"], params.get("arguments", {})
        match name:
            case "count":
                self.counts[session] = self.counts.get(session, 0) + 1
                said = text(str(self.counts[session]))
            case "sleep":
                await asyncio.sleep(arguments["seconds"])
                said = text("slept")
            case "block":
                time.sleep(arguments["seconds"])
                said = text("busy no more")
            case "hang":
                await asyncio.Event().wait()
                said = b"{}"
            case "fails":
                said = text("It went wrong.", isError=True)
            case "odd":
                said = ODD_RESULT
            case "wrong_id":
                return b'{"jsonrpc":"2.0","id":987654321,"result":%b}' % text("for nobody")
            case "twice":
                return before + b'"result":%b,"result":%b}' % (text("first"), text("second"))
            case "deep":
                said = b'{"content":[],"structuredContent":{"a":%b%b}}' % (b"[" * 200_000, b"]" * 200_000)
            case "invalid_utf8":
                said = b'{"content":[{"type":"text","text":"\xff\xfe\xc3"}]}'
            case "cut":
                said = CUT_EMOJI
            case "not_json":
                return before + b'"result":{"content":[}'
            case "vanish":
                raise Vanished
            case "huge":
                size = len(before) + len(_HUGE_BEGIN) + HUGE + len(_HUGE_END)
                return Whole(f"Content-Length: {size}", lambda: huge_pieces(before))
            case "long_stream":
                return Whole("Transfer-Encoding: chunked", lambda: chunked(endless_event(before)))
            case "bomb":
                body = gzip.compress(b"".join(huge_pieces(before)), 6)
                return Whole(f"Content-Encoding: gzip\r\nContent-Length: {len(body)}", lambda: iter([body]))
            case "junk":
                sys.stdout.write('A log line on stdout\n{"level":"info","msg":"structured"}\n\n[1,2\n')
                said = text("after the junk")
            case "stderr":
                for number in range(100_000):
                    sys.stderr.write(f"{number} {'noise ' * 20}\n")
                said = text("after the flood")
            case _:
                said = text(json.dumps(arguments))
        if self.era == "modern" and name != "odd":
            said = b'{"resultType":"complete",' + said[1:]
        return before + b'"result":' + said + b"}"


def endless_event(before: bytes) -> Iterator[bytes]:
    yield b"event: message\ndata: "
    yield from huge_pieces(before)
    yield b"\n\n"


def chunked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


# Over HTTP


@dataclass(frozen=True)
class Seen:
    """One request."""

    verb: str
    headers: list[tuple[str, str]]
    body: bytes
    message: Json

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


class Upstream:
    """A provider over HTTP. What it answers may be changed while it runs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen: list[Seen] = []
        self.sessions: set[str] = set()
        self.port = 0
        self.redirect = ""
        """Where to send every POST instead of answering it."""
        self.on_get = 405
        self.drop_after_send = 0
        """So many tool calls run, and then their connection breaks instead of the answer."""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def asked(self, method: str) -> list[Seen]:
        return [each for each in list(self.seen) if each.method == method]

    def called(self, tool: str) -> list[Seen]:
        return [each for each in self.asked("tools/call") if each.message["params"]["name"] == tool]

    async def serve(self, ready: Callable[[], None], end: asyncio.Event) -> None:
        listener = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = listener.sockets[0].getsockname()[1]
        ready()
        await end.wait()
        listener.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, Vanished):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        body = await reader.readexactly(int(dict(headers).get("content-length", "0")))
        message = json.loads(body) if body else {}
        seen = Seen(first.split()[0], headers, body, message)
        self.seen.append(seen)
        writer.write(await self._response(seen, writer))
        await writer.drain()
        return True

    async def _response(self, seen: Seen, writer: asyncio.StreamWriter) -> bytes:
        session = seen.header("mcp-session-id")
        if seen.verb == "GET":
            return _head(self.on_get)
        if seen.verb == "DELETE":
            self.sessions.discard(session)
            return _head(200)
        if self.redirect:
            return _head(307, f"Location: {self.redirect}")
        if seen.method == "initialize" and self.server.era == "legacy":
            session = uuid.uuid4().hex
            self.sessions.add(session)
        elif self.server.era == "legacy" and session not in self.sessions and seen.method != "server/discover":
            return _head(404)
        if "id" not in seen.message or not seen.method:
            return _head(202)
        payload = await self.server.payload(seen.message, session)
        if seen.method == "tools/call" and self.drop_after_send:
            self.drop_after_send -= 1
            raise Vanished
        kind = "Content-Type: application/json"
        if isinstance(payload, Whole):
            if "chunked" in payload.head:
                kind = "Content-Type: text/event-stream"
            writer.write(f"HTTP/1.1 200 OK\r\n{kind}\r\n{payload.head}\r\n\r\n".encode())
            for piece in payload.pieces():
                writer.write(piece)
                await writer.drain()
            return b""
        extra = f"{kind}\r\nMcp-Session-Id: {session}" if seen.method == "initialize" else kind
        return _head(200, extra, payload)


def _head(status: int, extra: str = "", body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *([extra] if extra else []), "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.contextmanager
def recording(era: str = "legacy", server: Server | None = None, port: int = 0) -> Iterator[Upstream]:
    """A running one, in a thread of its own: tests may block while Hangar talks to it."""
    upstream = Upstream(server or Server(era))
    upstream.port = port
    loop = asyncio.new_event_loop()
    end = asyncio.Event()
    ready = threading.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(upstream.serve(ready.set, end))

    thread = threading.Thread(target=run, name="upstream")
    thread.start()
    try:
        assert ready.wait(60)
        yield upstream
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


# Over stdio


def stdio_command(era: str = "legacy", *more: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), era, *more]


def read_record(path: Path) -> list[Json]:
    """What stdio upstreams were sent so far, in order; `{"started": pid}` for each that came up."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def _speak(server: Server, record: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()

    async def respond(message: Json) -> None:
        try:
            payload = await server.payload(message, "stdio")
        except Vanished:
            os.kill(os.getpid(), signal.SIGKILL)
            return
        sys.stdout.flush()
        for piece in payload.pieces() if isinstance(payload, Whole) else [payload]:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.write(b"\n")
        if server.restless and message["method"] == "tools/list":
            sys.stdout.buffer.write(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n')
        sys.stdout.buffer.flush()

    while line := await reader.readline():
        record(line.decode())
        message = json.loads(line)
        if "id" in message and "method" in message:
            task = asyncio.create_task(respond(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def main() -> None:
    target = os.environ.get("RECORD", "")

    def record(line: str) -> None:
        if target:
            with Path(target).open("a") as file:
                file.write(line)

    record(json.dumps({"started": os.getpid()}) + "\n")
    arguments = sys.argv[1:]
    delay = float(arguments[arguments.index("--slow-start") + 1]) if "--slow-start" in arguments else 0.0

    async def wait(method: str) -> None:
        if method in ("initialize", "server/discover"):
            await asyncio.sleep(delay)

    server = Server(arguments[0], before=wait)
    server.restless = "--restless" in arguments
    if "--tools" in arguments:
        names = arguments[arguments.index("--tools") + 1].split(",")
        server.tools = [{"name": name, "inputSchema": _OBJECT} for name in names]
    asyncio.run(_speak(server, record))


if __name__ == "__main__":
    main()
