# SPDX-License-Identifier: MIT
"""Real processes for tests: started in a session of their own, waited for by connecting, ended by their id."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

START_LIMIT = 120.0
"""Seconds a process may take until it listens; machines that run tests are slow and shared."""
STOP_LIMIT = 60.0

Environment = Mapping[str, str]


def plain_environment(**more: str) -> dict[str, str]:
    """What a process needs to run at all, so that nothing of the developer's own shell decides a test."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    """A port to listen on in a moment. Not one of those that the kernel gives to whoever connects somewhere, or it
    might be taken before that moment comes; and drawn by the system, since the plugin that mixes tests seeds `random`
    alike in every worker."""
    while True:
        port = secrets.choice(_LISTENING)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _LISTENING.remove(port)  # never the same one again
            return port


def _own_ports() -> list[int]:
    first, last = 32768, 60999
    with contextlib.suppress(OSError):
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return [port for port in range(10_000, 65_536) if not first <= port <= last]


_LISTENING = _own_ports()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses every connection: it is held by somebody who does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@dataclass
class Running:
    """A started process. Its stderr (and its stdout, unless piped) is in `log`."""

    process: subprocess.Popen[bytes]
    log: Path
    begun: int = 0
    """How much somebody else had written there before."""
    known: set[int] = field(default_factory=set)

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_port(self, port: int) -> None:
        """Until something accepts connections there, or the process is gone."""
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before it listened:\n{self.said()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError(f"nothing listens on port {port} after {START_LIMIT:g} s:\n{self.said()}")

    def wait_until_said(self, pattern: str) -> re.Match[str]:
        """Until what it wrote matches, or the process is gone."""
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until:
            ended = self.process.poll()
            if found := re.search(pattern, self.log.read_bytes()[self.begun :].decode(errors="replace")):
                return found
            if ended is not None:
                raise AssertionError(f"ended with {ended} before it said {pattern}:\n{self.said()}")
            time.sleep(0.05)
        raise AssertionError(f"did not say {pattern} within {START_LIMIT:g} s:\n{self.said()}")

    def first_line(self) -> str:
        """The first line of a piped stdout."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_LIMIT)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise AssertionError(f"said nothing on stdout (exit status {self.process.poll()}):\n{self.said()}")
        return line.decode().strip()

    def end(self) -> int:
        """SIGTERM, wait, SIGKILL to what is left of its own session. Returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(STOP_LIMIT)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to this one process, as the out-of-memory killer would."""
        self.process.kill()
        self.process.wait(STOP_LIMIT)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Environment | None = None,
    cwd: Path | None = None,
    pipe: bool = False,
) -> Iterator[Running]:
    begun = log.stat().st_size if log.exists() else 0
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else sink,
            stderr=sink,
            env=dict(env) if env is not None else plain_environment(),
            cwd=cwd,
            start_new_session=True,
        )
    started = Running(process, log, begun)
    try:
        yield started
    finally:
        started.end()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


# What the kernel says about processes


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    """All below `pid`, its own children first."""
    found: list[int] = []
    rest = children(pid)
    while rest:
        child = rest.pop(0)
        if child not in found:
            found.append(child)
            rest += children(child)
    return found


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def marked(mark: str) -> list[int]:
    """Living processes whose environment or command line holds `mark`: those one test brought to life."""
    wanted = mark.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            if wanted in (entry / "environ").read_bytes() or wanted in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def wait_until_gone(mark: str, limit: float = STOP_LIMIT) -> list[int]:
    """Processes with `mark` that are still there in the end; an empty list is what one hopes for."""
    until = time.monotonic() + limit
    left = marked(mark)
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = marked(mark)
    return left


def lives(pid: int) -> bool:
    """Whether it still runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_none_lives(pids: Sequence[int], limit: float = STOP_LIMIT) -> list[int]:
    """Those of `pids` that still run in the end."""
    until = time.monotonic() + limit
    while any(lives(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    return [pid for pid in pids if lives(pid)]


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
