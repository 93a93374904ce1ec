# SPDX-License-Identifier: MIT
"""A client that asks one thing after another, and a Hangar with the settings that a question needs.

Where a closed loop of calls will not do (lists, sessions, refusals), what is charged is still only Hangar's CPU, so
the client may be slow.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from benchmarks import shapes
from benchmarks.idle import READY_PATIENCE, healthy
from benchmarks.measure import PROC, TargetFailed, cpu, tree
from benchmarks.shapes import Door, Era
from benchmarks.targets import RULES, TOKEN, free_port, hangar_command, hangar_config, last_words, process

PATIENCE: Final = 120.0
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
META: Final = {
    "io.modelcontextprotocol/protocolVersion": shapes.MODERN_VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Answer(NamedTuple):
    status: int
    session: str
    body: bytes


class Asker:
    """One connection, opened anew when the other side has closed it."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._socket: socket.socket | None = None

    def post(self, lines: dict[str, str], body: bytes) -> Answer:
        return self.send(shapes.head(self.door, lines, len(body)) + body)

    def send(self, request: bytes) -> Answer:
        """Bytes as they are. The answer may come before all of them have been taken."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.door.port), timeout=PATIENCE)
        with contextlib.suppress(ConnectionError):  # refused on the way: the answer is there all the same
            self._socket.sendall(request)
        answer = http.client.HTTPResponse(self._socket, method="POST")
        answer.begin()
        said = Answer(answer.status, answer.getheader("Mcp-Session-Id", ""), answer.read())
        if answer.will_close:
            self.close()
        return said

    def modern(self, method: str, params: dict[str, Any], name: str = "") -> Answer:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
        return self.post(shapes.era_lines("modern", method, name), json.dumps(body).encode())

    def tools(self) -> list[str]:
        """All pages of the list."""
        names: list[str] = []
        cursor: dict[str, Any] = {}
        while True:
            said = self.modern("tools/list", cursor)
            if said.status != 200:
                raise TargetFailed(f"tools/list was answered with {said.status}: {said.body[:300]!r}")
            result = json.loads(said.body)["result"]
            names += [tool["name"] for tool in result["tools"]]
            if "nextCursor" not in result:
                return names
            cursor = {"cursor": result["nextCursor"]}

    def initialize(self) -> Answer:
        return self.post(shapes.era_lines("legacy", "initialize"), shapes.initialize_body())

    def initialized(self, session: str) -> None:
        self.post(shapes.era_lines("legacy", "", session=session), shapes.INITIALIZED)

    def delete(self, session: str) -> None:
        lines = {"Host": f"127.0.0.1:{self.door.port}", "Authorization": f"Bearer {self.door.token}"}
        lines |= shapes.era_lines("legacy", "", session=session)
        said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"DELETE {self.door.path} HTTP/1.1\r\n{said}\r\n".encode())

    def call(self, era: Era = "modern", session: str = "") -> Answer:
        """The small call of the other benchmarks."""
        before, after = shapes.call_bytes(shapes.Shape(era=era), self.door, session)
        return self.send(b"%b%d%b" % (before, shapes.FIRST_ID, after))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class House:
    """A running Hangar that was given its settings here."""

    pid: int
    door: Door
    started_seconds: float
    """CPU from its start until it was ready; by the clock it would be the machine's other work as well."""

    @property
    def pids(self) -> list[int]:
        return tree(self.pid)


def merged(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Key by key, as deep as both are mappings."""
    both = dict(settings)
    for key, value in more.items():
        kept = both.get(key)
        both[key] = merged(kept, value) if isinstance(kept, dict) and isinstance(value, dict) else value
    return both


@contextlib.contextmanager
def house(
    folder: Path,
    providers: dict[str, Any],
    settings: dict[str, Any] | None = None,
    *,
    tool: str = "up__echo",
    command: Callable[[Path], list[str]] = hangar_command,
) -> Iterator[House]:
    """Everything on, as in the other benchmarks, and `settings` over that."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = hangar_config(folder, port, providers)
    config.write_text(json.dumps(merged(json.loads(config.read_text()), settings or {})))
    log = folder / "hangar.log"
    began = time.monotonic()
    with process(command(config), log) as running:
        while not healthy(port):
            if running.poll() is not None or time.monotonic() - began > READY_PATIENCE:
                raise TargetFailed(f"Hangar was not ready: {last_words(log)}")
            time.sleep(0.005)
        yield House(running.pid, Door(port=port, tool=tool, token=TOKEN), cpu(tree(running.pid)).used_ns / 1e9)


def remote(url: str, era: Era = "modern", **more: Any) -> dict[str, Any]:
    return {"mode": "remote", "url": url, "protocol": era, "tools": RULES, **more}


def rss_bytes(pids: list[int]) -> int:
    """Memory of these processes, whoever else has a part in it: what several Hangars share must not seem to shrink."""
    return sum(int((PROC / str(pid) / "statm").read_text().split()[1]) for pid in pids) * PAGE


def cost(pids: list[int], count: int, ask: Callable[[], object]) -> float:
    """CPU of these processes for each of `count` questions, in microseconds."""
    before = cpu(pids)
    for _ in range(count):
        ask()
    return (cpu(pids) - before).used_ns / 1000 / count


def fastest(repeats: int, ask: Callable[[], object]) -> float:
    """Milliseconds of the quickest one."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return min(times) * 1000
