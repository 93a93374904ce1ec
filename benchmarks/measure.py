# SPDX-License-Identifier: MIT
"""What calls cost, by the kernel's own counters: CPU of a process tree, its memory, windows side by side.

The other modules to build on are `targets.py` (starts what is measured) and `load.py` (makes the calls):

    shape = Shape(in_flight=16)
    with targets.upstream(shape, folder) as upstream, targets.hangar(shape, upstream, folder) as running:
        with Loading(targets.job(shape, running)) as load:
            load.connect()
            figures = interleaved({"hangar": Subject(load, running.pid)}, windows=4, seconds=0.6)["hangar"]

Windows of all subjects alternate, so that a neighbour who makes the machine slow for a while does it to each of them;
the best window is quoted. Total CPU is exact to the nanosecond (`schedstat`). How it parts into user and system the
kernel finds by looking at each tick, so the share is taken over all windows of a subject together.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from benchmarks.load import Job, Result

ROOT: Final = Path(__file__).resolve().parent.parent
PROC: Final = Path("/proc")
TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class TargetFailed(Exception):
    """A target that cannot be measured here; what it said."""


# The kernel's counters


@dataclass(frozen=True, slots=True)
class Cpu:
    """What a process tree has used so far, or between two moments."""

    total_ns: int = 0
    user_ticks: int = 0
    system_ticks: int = 0

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(
            self.total_ns + other.total_ns,
            self.user_ticks + other.user_ticks,
            self.system_ticks + other.system_ticks,
        )

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(
            self.total_ns - other.total_ns,
            self.user_ticks - other.user_ticks,
            self.system_ticks - other.system_ticks,
        )

    @property
    def used_ns(self) -> int:
        """The exact count, but for threads that ended meanwhile: those are only in the ticks."""
        ticked = (self.user_ticks + self.system_ticks) * TICK_NS
        return self.total_ns if ticked < self.total_ns * 1.1 + 5 * TICK_NS else ticked

    @property
    def user_share(self) -> float:
        ticks = self.user_ticks + self.system_ticks
        return self.user_ticks / ticks if ticks else 0.5


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in (PROC / str(parent) / "task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def parse_stat(text: str) -> tuple[int, int]:
    """User and system ticks in `/proc/PID/stat`; the name before them may hold anything."""
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[11]), int(fields[12])


def cpu(pids: Iterable[int]) -> Cpu:
    """What these processes have used. One that is gone counts nothing."""
    used = Cpu()
    for pid in pids:
        process = PROC / str(pid)
        with contextlib.suppress(OSError):
            user, system = parse_stat((process / "stat").read_text())
            total = 0
            for task in (process / "task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
            used += Cpu(total, user, system)
    return used


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes, what they share counted once (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


# The load


class Loading:
    """A load process: `python -m benchmarks.load` with its job."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._write(msgspec.json.encode(job))

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise TargetFailed("the load ended") from None

    def _ask(self, **order: Any) -> dict[str, Any]:
        self._write(msgspec.json.encode(order))
        assert self._process.stdout is not None
        said: dict[str, Any] = msgspec.json.decode(self._process.stdout.readline() or b'{"error":"the load ended"}')
        if "error" in said:
            raise TargetFailed(said["error"])
        return said

    def connect(self) -> int:
        """Every connection is there and has made a checked call. Returns the pid of a stdio provider, else 0."""
        return int(self._ask(connect=True).get("pid", 0))

    def run(self, *, seconds: float = 0, calls: int = 0) -> Result:
        return msgspec.convert(self._ask(seconds=seconds, calls=calls), Result)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


# Windows


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of calls, and what they took."""

    result: Result
    used: Cpu

    @property
    def cpu_us(self) -> float:
        return self.used.used_ns / 1000 / max(self.result.calls, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of a subject, per call; times in microseconds. The best of its windows."""

    cpu_us: float
    user_us: float
    system_us: float
    p50_us: float
    p99_us: float
    calls: int
    """In all windows."""
    per_second: float
    resident_mb: float


@dataclass(slots=True)
class Subject:
    """What is called in turn with others: its load, and the process whose tree is charged (0: nobody's)."""

    load: Loading
    pid: int
    seconds: float | None = None
    """Of its windows, where it is to have shorter or longer ones than the others."""


def best(windows: list[Window], resident: int = 0) -> Figures:
    """The cheapest window's CPU, the fastest window's median; user and system by the share of all of them."""
    cost = min(window.cpu_us for window in windows)
    share = sum((window.used for window in windows), Cpu()).user_share
    return Figures(
        cpu_us=cost,
        user_us=cost * share,
        system_us=cost * (1 - share),
        p50_us=min(window.result.p50_us for window in windows),
        p99_us=min(window.result.p99_us for window in windows),
        calls=sum(window.result.calls for window in windows),
        per_second=max(window.result.calls / window.result.seconds for window in windows),
        resident_mb=resident / 1e6,
    )


def window(subject: Subject, seconds: float) -> Window:
    subject.load.connect()
    pids = tree(subject.pid) if subject.pid else []
    before = cpu(pids)
    result = subject.load.run(seconds=subject.seconds or seconds)
    return Window(result, cpu(pids) - before)


def interleaved(
    subjects: Mapping[str, Subject],
    *,
    windows: int,
    seconds: float,
    failed: Callable[[str, TargetFailed], None] | None = None,
) -> dict[str, Figures]:
    """Windows in turn, each subject's best. One that fails is left out if `failed` wants to hear of it."""
    kept: dict[str, list[Window]] = {name: [] for name in subjects}
    for _ in range(windows):
        for name in list(kept):
            try:
                kept[name].append(window(subjects[name], seconds))
            except TargetFailed as error:
                if failed is None:
                    raise
                failed(name, error)
                del kept[name]
    return {
        name: best(taken, resident_bytes(tree(subjects[name].pid)) if subjects[name].pid else 0)
        for name, taken in kept.items()
    }
