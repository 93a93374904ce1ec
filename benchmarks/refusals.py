# SPDX-License-Identifier: MIT
"""What is over a bound is refused at once, and the refusal costs less than a served call: each bound, in turn.

What is to be full is filled by the same means as in life: a provider that does not answer (its process is stopped for
the while), a client that listens, an audit file on a full disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import shapes
from benchmarks.asking import Answer, Asker, House, cost, house, remote
from benchmarks.dimensions import Effort
from benchmarks.measure import TargetFailed
from benchmarks.shapes import Door, Shape
from benchmarks.targets import Upstream, upstream

FEW: Final = {"server": {"limits": {"sessions": 2, "sessions_per_caller": 2}}}
NARROW: Final = {"defaults": {"limits": {"concurrency": 1, "instances": 1, "call_timeout": "10m"}}}
FULL_DISK: Final = {"audit": {"sink": "/dev/full"}, "events": {"backlog_bytes": "64KiB"}}
SETTLE: Final = 0.3
"""Seconds until what was sent without waiting for an answer has surely arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What one costs, beside a call that the same Hangar serves to the same client."""

    bound: str
    answer: str
    """Status, and the code or the words that prove it was this bound."""
    refused_us: float
    served_us: float

    @property
    def cheap(self) -> bool:
        return self.refused_us < self.served_us


def post(door: Door, body: bytes, more: dict[str, str] | None = None, length: int = 0) -> bytes:
    lines = {**shapes.era_lines("modern", "tools/call", door.tool), **(more or {})}
    return shapes.head(door, lines, length or len(body)) + body


def small(door: Door) -> bytes:
    before, after = shapes.call_bytes(Shape(), door, "")
    return b"%b%d%b" % (before, shapes.FIRST_ID, after)


def nested(door: Door, depth: int) -> bytes:
    before, after = shapes.call_body(Shape(request_bytes=0), door)
    deep = b'"' + b"text" + b'":' + b"[" * depth + b"]" * depth
    return b"%b%d%b" % (before, shapes.FIRST_ID, after.replace(b'"text":""', deep))


def renamed(door: Door, tool: str, token: str = "") -> bytes:
    return small(Door(port=door.port, tool=tool, token=token or door.token))


@contextmanager
def plain(folder: Path, era: shapes.Era, settings: dict[str, Any]) -> Iterator[tuple[House, Upstream]]:
    with (
        upstream(Shape(era=era), folder) as up,
        house(folder / "house", {"up": remote(up.url, era)}, settings) as running,
    ):
        yield running, up


def measured(effort: Effort, folder: Path) -> list[Refusal]:
    count = max(effort.repeats * 20, 40)
    found: list[Refusal] = []
    for number, scene in enumerate((at_the_door, sessions_taken, provider_busy, instances_taken, record_full)):
        place = folder / str(number)
        place.mkdir(parents=True)
        found += scene(place, count)
    return found


def judged(bound: str, proof: bytes, running: House, ask: Callable[[], Answer], count: int, served: float) -> Refusal:
    said = ask()
    if proof not in said.body and str(said.status).encode() != proof:
        raise TargetFailed(f"{bound}: expected {proof!r}, got {said.status} {said.body[:300]!r}")
    return Refusal(
        bound=bound,
        answer=f"{said.status}",
        refused_us=floor(running, count, ask),
        served_us=served,
    )


GROUPS: Final = 5


def floor(running: House, count: int, ask: Callable[[], object]) -> float:
    """The cheapest of a few groups, as for windows of calls."""
    return min(cost(running.pids, max(count // GROUPS, 1), ask) for _ in range(GROUPS))


def served(running: House, asker: Asker, count: int) -> float:
    for _ in range(10):
        answer = asker.call()
        if answer.status != 200 or shapes.PROOF not in answer.body:
            raise TargetFailed(f"a call was answered with {answer.status}: {answer.body[:300]!r}")
    return floor(running, count, asker.call)


def at_the_door(folder: Path, count: int) -> list[Refusal]:
    """What is wrong with the request itself."""
    with plain(folder, "modern", {}) as (running, _), Asker(running.door) as asker:
        usual = served(running, asker, count)
        door = running.door
        requests = {
            "server.token: a wrong one": (b"401", renamed(door, "up__echo", "not-it")),
            "tools.deny of a provider (said to be unknown)": (b"unknown_tool", renamed(door, "up__drop_all")),
            "a tool that nobody offers": (b"up__nothing", renamed(door, "up__nothing")),
            "server.limits.depth": (b"too_deep", post(door, nested(door, 100))),
        }
        found = [
            judged(bound, proof, running, partial(asker.send, request), count, usual)
            for bound, (proof, request) in requests.items()
        ]
        usual = floor(running, count, partial(on_its_own, door, small(door)))
        closing = {
            "server.limits.header_bytes (on a new connection)": (b"431", post(door, b"{}", {"X-Long": "x" * 40_000})),
            # Only the head is sent: the answer must not wait for the body.
            "server.limits.body_bytes: 100 MB announced (on a new connection)": (b"413", post(door, b"", {}, 10**8)),
        }
        return found + [
            judged(bound, proof, running, partial(on_its_own, door, request), count, usual)
            for bound, (proof, request) in closing.items()
        ]


def on_its_own(door: Door, request: bytes) -> Answer:
    with Asker(door) as asker:
        return asker.send(request)


def sessions_taken(folder: Path, count: int) -> list[Refusal]:
    """Each of the few sessions is listened to, so that none can make room."""
    with ExitStack() as opened:
        running, _ = opened.enter_context(plain(folder, "legacy", FEW))
        asker = opened.enter_context(Asker(running.door))
        for _ in range(2):
            session = asker.initialize().session
            asker.initialized(session)
            opened.enter_context(listening(running.door, session))
        usual = floor(running, count, lambda: asker.call("legacy", session))
        return [
            judged(
                "server.limits.sessions_per_caller", b"server.limits.sessions", running, asker.initialize, count, usual
            )
        ]


@contextmanager
def listening(door: Door, session: str) -> Iterator[None]:
    lines = {"Host": f"127.0.0.1:{door.port}", "Accept": "text/event-stream", "Authorization": f"Bearer {door.token}"}
    lines |= shapes.era_lines("legacy", "", session=session)
    said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as connection:
        connection.sendall(f"GET {door.path} HTTP/1.1\r\n{said}\r\n".encode())
        if b" 200 " not in connection.recv(65536).split(b"\r\n")[0]:
            raise TargetFailed("a session could not be listened to")
        yield


@contextmanager
def stopped(up: Upstream) -> Iterator[None]:
    """The provider takes what it is sent and says nothing."""
    os.kill(up.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(up.pid, signal.SIGCONT)


@contextmanager
def under_way(door: Door, request: bytes) -> Iterator[None]:
    """A call that is not answered for the while."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", door.port), timeout=30)) as connection:
        connection.sendall(request)
        time.sleep(SETTLE)
        yield


def provider_busy(folder: Path, count: int) -> list[Refusal]:
    with plain(folder, "modern", NARROW) as (running, up), Asker(running.door) as asker:
        usual = served(running, asker, count)
        with stopped(up), under_way(running.door, small(running.door)):
            bound = "limits.concurrency of a provider"
            return [judged(bound, b"limits.concurrency", running, asker.call, count, usual)]


def instances_taken(folder: Path, count: int) -> list[Refusal]:
    """One instance is allowed and has a call in flight; another session's call needs another one."""
    with plain(folder, "legacy", NARROW) as (running, up), Asker(running.door) as asker:
        first, second = (asker.initialize().session for _ in range(2))
        for session in (first, second):
            asker.initialized(session)
        for _ in range(10):
            asker.call("legacy", first)
        usual = floor(running, count, lambda: asker.call("legacy", first))
        before, after = shapes.call_bytes(Shape(era="legacy"), running.door, first)
        with stopped(up), under_way(running.door, b"%b%d%b" % (before, shapes.FIRST_ID, after)):
            bound = "limits.instances of a provider"
            return [judged(bound, b"limits.instances", running, lambda: asker.call("legacy", second), count, usual)]


def record_full(folder: Path, count: int) -> list[Refusal]:
    """No call runs without a trace: once nothing can be written and the backlog is full, calls are refused."""
    with plain(folder, "modern", {}) as (running, _), Asker(running.door) as asker:
        usual = served(running, asker, count)
    (folder / "full").mkdir()
    with plain(folder / "full", "modern", FULL_DISK) as (running, _), Asker(running.door) as asker:
        for _ in range(5_000):
            if b"record_unavailable" in asker.call().body:
                break
        bound = "events.backlog_bytes: the audit file's disk is full"
        return [judged(bound, b"record_unavailable", running, asker.call, count, usual)]
