# SPDX-License-Identifier: MIT
"""What is measured: how each target is started in front of an upstream, how it is called, and that it is ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import shapes
from benchmarks.load import Job
from benchmarks.measure import ROOT, TargetFailed
from benchmarks.shapes import Door, Shape

START_PATIENCE: Final = 60.0
TOKEN: Final = "a-token-that-only-the-benchmark-knows"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(
    command: list[str], log: Path, *, stdout: int | None = None, cwd: Path = ROOT, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours with its log in a file; ended by its own id, and killed if it does not listen.

    What it started and left behind is of its own process group, and ends with it.
    """
    with log.open("ab") as file:
        started = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=file if stdout is None else stdout,
            stderr=file,
            start_new_session=True,
        )
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(15)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            if started.stdout is not None:
                started.stdout.close()


def last_words(log: Path) -> str:
    """What a process said before it ended, as one line."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][-300:] if lines else "it said nothing"


# The upstream


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running one, over HTTP."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def counts(self) -> dict[str, int]:
        """Requests by method, since it runs."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/counts")
            counted: dict[str, int] = json.loads(connection.getresponse().read())
            return counted
        finally:
            connection.close()


def upstream_command(shape: Shape, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.upstream", "--era", shape.era, "--answer", shape.answer),
        *("--answer-bytes", str(shape.answer_bytes), *more),
    ]


@contextlib.contextmanager
def upstream(shape: Shape, folder: Path, *more: str) -> Iterator[Upstream]:
    """`benchmarks/upstream.py` as this shape of call needs it; `more` are options of its command line."""
    with process(upstream_command(shape, *more), folder / "upstream.log", stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        line = started.stdout.readline()
        if not line:
            raise TargetFailed(f"the upstream did not start: {last_words(folder / 'upstream.log')}")
        yield Upstream(json.loads(line)["port"], started.pid)


# What stands before it


@dataclass(frozen=True, slots=True)
class Running:
    """A started target: whose process tree is charged, and where it is called."""

    pid: int
    door: Door
    command: tuple[str, ...] = ()
    """A stdio provider that the load starts for itself: then there is neither door nor pid."""


Start = Callable[[Shape, Upstream, Path], contextlib.AbstractContextManager[Running]]


def post(door: Door, lines: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
    """One request outside of any measurement: status, session, body."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=120) as connection:
        connection.sendall(shapes.head(door, lines, len(body)) + body)
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        said = answer.read()
        return answer.status, answer.getheader("Mcp-Session-Id", ""), said


def open_session(door: Door) -> str:
    """Shakes hands as a legacy client does."""
    lines = shapes.era_lines("legacy", "initialize")
    status, session, said = post(door, lines, shapes.initialize_body())
    if status != 200:
        raise TargetFailed(f"initialize was answered with {status}: {said[:200]!r}")
    post(door, shapes.era_lines("legacy", "", session=session), shapes.INITIALIZED)
    return session


def job(shape: Shape, running: Running) -> Job:
    """The load for one shape at one door; a legacy one shakes hands first."""
    if running.command:
        before, after = shapes.call_body(shape, running.door)
    else:
        session = open_session(running.door) if shape.era == "legacy" else ""
        before, after = shapes.call_bytes(shape, running.door, session)
    return Job(
        before=before,
        after=after,
        first_id=shapes.FIRST_ID,
        in_flight=shape.in_flight,
        port=running.door.port,
        command=list(running.command),
        proof=shapes.PROOF,
    )


def await_answer(running: Running, shape: Shape, started: subprocess.Popen[bytes], log: Path) -> None:
    """Until a call is answered, however long it takes to start within reason."""
    end = time.monotonic() + START_PATIENCE
    said = "nothing"
    while time.monotonic() < end:
        if started.poll() is not None:
            raise TargetFailed(f"it ended with {started.returncode}: {last_words(log)}")
        with contextlib.suppress(OSError, http.client.HTTPException, TargetFailed):
            session = open_session(running.door) if shape.era == "legacy" else ""
            before, after = shapes.call_body(shape, running.door)
            lines = shapes.era_lines(shape.era, "tools/call", running.door.tool, session)
            status, _, body = post(running.door, lines, b"%b%d%b" % (before, shapes.FIRST_ID, after))
            if status == 200 and shapes.PROOF in body:
                return
            said = f"{status} {body[:300]!r}"
        time.sleep(0.1)
    raise TargetFailed(f"no call was answered within {START_PATIENCE:.0f} s; the last answer was {said}")


def hangar_config(folder: Path, port: int, providers: dict[str, Any]) -> Path:
    """All that Hangar does on the call path is on: token, rules, hashed arguments, an audit file."""
    settings = {
        "version": 1,
        "server": {"listen": f"127.0.0.1:{port}", "token": TOKEN},
        "state": {"dir": str(folder / "state")},
        "audit": {"sink": str(folder / "audit.jsonl"), "arguments": "hash"},
        "defaults": {"limits": {"concurrency": 1024}},
        "providers": providers,
    }
    path = folder / "hangar.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


RULES: Final = {"allow": ["echo", "tool-*", "read_*"], "deny": ["*_secret", "drop_*", "delete_*"]}


def provider_settings(shape: Shape, upstream: Upstream) -> dict[str, Any]:
    if shape.stdio:
        return {"mode": "subprocess", "command": upstream_command(shape, "--stdio"), "cwd": str(ROOT), "tools": RULES}
    return {"mode": "remote", "url": upstream.url, "protocol": shape.era, "tools": RULES}


def hangar_command(config: Path) -> list[str]:
    return [str(Path(sys.executable).parent / "hangar"), "serve", "--log-level", "warning", "--config", str(config)]


@contextlib.contextmanager
def hangar(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    port = free_port()
    config = hangar_config(folder, port, {"up": provider_settings(shape, upstream)})
    log = folder / "hangar.log"
    with process(hangar_command(config), log) as started:
        running = Running(started.pid, Door(port=port, tool="up__echo", token=TOKEN))
        await_answer(running, shape, started, log)
        yield running


@contextlib.contextmanager
def yardstick(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    port = free_port()
    log = folder / "yardstick.log"
    command = [sys.executable, str(ROOT / "benchmarks/yardstick.py"), str(port), str(upstream.port)]
    with process(command, log) as started:
        running = Running(started.pid, Door(port=port))
        await_answer(running, shape, started, log)
        yield running


@contextlib.contextmanager
def direct(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    """Nothing between: the provider itself is called, and its own CPU is what is told."""
    if shape.stdio:
        yield Running(0, Door(port=0), command=tuple(upstream_command(shape, "--stdio")))
    else:
        yield Running(upstream.pid, Door(port=upstream.port))


OURS: Final[dict[str, Start]] = {"direct": direct, "yardstick": yardstick, "hangar": hangar}
