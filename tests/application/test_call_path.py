# SPDX-License-Identifier: MIT
"""The warm call is a straight line: few frames of ours, no task, no thread, no lock, one request upstream."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import mcp_hangar
from mcp_hangar.server.bootstrap.background import loops
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config import load
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.listener import bind, make_server
from mcp_hangar.server.mcp_endpoint import McpEndpoint

pytestmark = pytest.mark.anyio

MOST_FRAMES = 12
"""Of the call itself, from the door to its answer."""
ATTEMPTS = 5
"""A socket that has rested for a moment is looked at before it is used again: the fewest frames count."""
CALLBACKS = {
    "listener.HangarProtocol.data_received",
    "listener.HangarProtocol._answer",
    "listener.HangarProtocol.write",
    "http1.Channel.data_received",
    "streamable_http.HttpExchange.answered",
}
"""The connections' own: what the event loop calls when bytes arrive, the one task of the agent's, and its write."""
PAGE = Path(__file__).parents[2] / "docs/life-of-a-tool-call.md"
SOURCE = str(Path(mcp_hangar.__file__).parent)
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


class Upstream:
    """A modern MCP server over HTTP in thirty lines, which counts what reaches it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                request = msgspec.json.decode(await reader.readexactly(length))
                self.requests.append(request)
                body = msgspec.json.encode({"jsonrpc": "2.0", "id": request["id"], "result": self.result(request)})
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def result(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["method"]:
            case "server/discover":
                return {
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "ttlMs": 0,
                    "cacheScope": "public",
                }
            case "tools/list":
                tool = {"name": "echo", "inputSchema": {"type": "object"}}
                return {"resultType": "complete", "tools": [tool], "ttlMs": 600_000, "cacheScope": "public"}
        return {"resultType": "complete", "content": [{"type": "text", "text": "hi"}]}


def post(port: int, name: str) -> bytes:
    """A modern `tools/call`, as an agent sends it over and over."""
    params = {"name": name, "arguments": {"text": "hi"}, "_meta": META}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        "accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\n"
        f"mcp-method: tools/call\r\nmcp-name: {name}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Agent:
    """A connection to the door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self._reader, self._writer, self._port = reader, writer, port

    async def call(self, name: str) -> dict[str, Any]:
        self._writer.write(post(self._port, name))
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer: dict[str, Any] = msgspec.json.decode(await self._reader.readexactly(length))
        return answer


class Frames:
    """Counts the frames of ours that are entered, each once however often it is resumed."""

    def __init__(self) -> None:
        self.seen: dict[int, FrameType] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            self.seen[id(frame)] = frame

    @property
    def names(self) -> list[str]:
        return [f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}" for frame in self.seen.values()]


async def test_a_warm_call_takes_few_frames_and_no_task_thread_or_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = tmp_path / "hangar.yaml"
    config.write_text(
        f"version: 1\nstate: {{dir: {tmp_path}/state}}\naudit: {{sink: none}}\nproviders:\n"
        f"  up: {{mode: remote, url: 'http://127.0.0.1:{port}/mcp', tools: {{deny: ['drop_*']}}}}\n"
    )
    house = House(load(config, {}), environment={}, hash_key=b"k" * 32, state=None, subscribers=[])
    running = list(loops(house))
    listener = bind("127.0.0.1", 0)
    door = listener.getsockname()[1]
    doors = Doors(host="127.0.0.1", port=door, allowed_hosts=(), allowed_origins=())

    async def nothing(*_: object) -> None:
        raise AssertionError("not MCP")

    endpoint = McpEndpoint(
        methods=house.methods,
        sessions=house.sessions,
        doors=doors,
        token="",
        body_bytes=1 << 22,
        depth=64,
        batch=50,
        other=nothing,
    )
    front = make_server(endpoint, 32768, endpoint)
    serving = asyncio.create_task(front.serve(sockets=[listener]), name="http")
    reader, writer = await asyncio.open_connection("127.0.0.1", door)
    agent = Agent(reader, writer, door)
    try:
        for _ in range(3):
            answer = await agent.call("up__echo")
            assert answer["result"]["content"][0]["text"] == "hi"
        for task in running:  # the record is drained beside the calls, not by them
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await agent.call("up__echo")
        before = len(upstream.requests)
        tasks, locks = count(monkeypatch, asyncio.get_running_loop())
        threads = set(threading.enumerate())
        seen: list[list[str]] = []
        for _ in range(ATTEMPTS):
            frames = Frames()
            sys.setprofile(frames)
            try:
                await agent.call("up__echo")
            finally:
                sys.setprofile(None)
            seen.append([name for name in frames.names if name not in CALLBACKS])
        names = min(seen, key=len)
        assert len(upstream.requests) == before + ATTEMPTS, "a warm call is one upstream request"
        assert names == told(PAGE.read_text()), "docs/life-of-a-tool-call.md tells another story"
        assert len(names) <= MOST_FRAMES, "\n".join(names)
        asyncio.get_running_loop().set_task_factory(None)
        assert (tasks, locks) == ([], [])
        assert set(threading.enumerate()) <= threads
    finally:
        for task in running:
            task.cancel()
        await house.stop(1)
        writer.close()
        front.should_exit = True
        await serving
        server.close()


def told(page: str) -> list[str]:
    """The functions in the page's table, as `Frames.names` has them."""
    return [f"{file}.{name}" for file, name in re.findall(r"^\| \d+ \| `\S*?(\w+)\.py` `([\w.]+)`", page, re.MULTILINE)]


def test_every_file_and_function_that_the_page_names_is_there() -> None:
    page = PAGE.read_text()
    for file in re.findall(r"`((?:application|domain|server|infrastructure)/[\w/]+\.py)`", page):
        assert (Path(SOURCE) / file).is_file(), file
    for file, name in re.findall(r"`(\S+\.py)` `([\w.]+)`", page):
        source = (Path(SOURCE) / file).read_text()
        assert all(re.search(rf"\b(def|class) {part}\b", source) for part in name.split(".")), (file, name)


def count(monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop) -> tuple[list[str], list[str]]:
    """Lists that fill with every task created on the loop, and every lock made, from here on."""
    tasks: list[str] = []
    locks: list[str] = []

    def wrapped(kind: Any, names: list[str]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            names.append(str(args))
            return kind(*args, **kwargs)

        return make

    def task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        tasks.append(str(work))
        return asyncio.Task(work, loop=loop, **options)

    loop.set_task_factory(task)
    for name in ("Lock", "Semaphore", "Event", "Condition"):
        monkeypatch.setattr(asyncio, name, wrapped(getattr(asyncio, name), locks))
    monkeypatch.setattr(threading, "Lock", wrapped(threading.Lock, locks))
    return tasks, locks
