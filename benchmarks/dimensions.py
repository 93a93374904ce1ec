# SPDX-License-Identifier: MIT
"""What grows, one function each: a Hangar at every size, windows of calls in turn, and what was found as curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.asking import Asker, House, cost, fastest, house, remote, rss_bytes
from benchmarks.curves import Curve
from benchmarks.load import Job
from benchmarks.measure import Loading, Subject, TargetFailed, interleaved
from benchmarks.shapes import Shape
from benchmarks.targets import Running, Upstream, job, upstream

KIB: Final = 1024
SMALL_RECORD: Final = {"events": {"keep": "64KiB"}}
"""So that what is kept of calls (64 MiB by default) does not hide what is measured."""
SETTLE_SECONDS: Final = 12.0
"""Until a thousand catalogues that were just met are on disk, and the connections that they came over are closed."""
ROOMY: Final = {"server": {"limits": {"sessions": 20_000, "sessions_per_caller": 20_000}}}


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look."""

    windows: int
    seconds: float
    repeats: int
    sizes: int
    """How many sizes of each dimension, from the smallest on."""

    def of(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return sizes[: self.sizes]


FULL: Final = Effort(windows=5, seconds=0.4, repeats=15, sizes=99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure with its bound."""

    text: str
    bound: str
    measured: str
    met: bool | None


Found = tuple[list[Curve], list[Fact]]
Dimension = Callable[[Effort, Path], Found]


def curve(of: str, unit: str, over: str, points: dict[int, float], per: float = 1) -> Curve:
    return Curve(of=of, unit=unit, over=over, points=[(round(x / per, 1), y) for x, y in sorted(points.items())])


def call_costs(effort: Effort, jobs: dict[int, tuple[House, Job]]) -> dict[int, float]:
    """Microseconds of CPU per call at each size; windows of all sizes take turns."""
    with ExitStack() as opened:
        subjects = {}
        for size, (running, each) in jobs.items():
            load = opened.enter_context(Loading(each))
            load.connect()
            subjects[str(size)] = Subject(load, running.pid)
        figures = interleaved(subjects, windows=effort.windows, seconds=effort.seconds)
        return {int(size): found.cpu_us for size, found in figures.items()}


def small_call(running: House, shape: Shape = Shape()) -> Job:  # noqa: B008 - frozen
    return job(shape, Running(running.pid, running.door))


def megabytes(running: House) -> float:
    return rss_bytes(running.pids) / 1e6


def await_tools(running: House, count: int) -> Asker:
    """Until all are listed: providers that nobody has met yet are started in the background."""
    asker = Asker(running.door)
    for _ in range(60):
        if len(asker.tools()) >= count:
            return asker
    raise TargetFailed(f"fewer than {count} tools were listed within a minute of asking")


def list_cost(effort: Effort, running: House, asker: Asker) -> float:
    """Milliseconds of CPU; the best of several, each of a few lists."""
    return min(cost(running.pids, 3, asker.tools) for _ in range(effort.repeats)) / 1000


# Providers


def many_providers(count: int, up: Upstream) -> dict[str, Any]:
    """One process behind many addresses, so that their own weight is not measured."""
    return {"up" if number == 0 else f"up-{number}": remote(f"{up.url}/{number}") for number in range(count)}


def providers(effort: Effort, folder: Path) -> Found:
    sizes = effort.of((1, 10, 100, 1_000))
    starts: dict[int, float] = {}
    lists: dict[int, float] = {}
    memory: dict[int, float] = {}
    with ExitStack() as opened:
        up = opened.enter_context(upstream(Shape(), folder, "--tools", "2"))
        jobs = {}
        for size in sizes:
            running = opened.enter_context(house(folder / str(size), many_providers(size, up), SMALL_RECORD))
            starts[size] = running.started_seconds
            with await_tools(running, 2 * size) as asker:
                time.sleep(SETTLE_SECONDS * size / 1_000)
                lists[size] = list_cost(effort, running, asker)
            memory[size] = megabytes(running)
            jobs[size] = (running, small_call(running))
        calls = call_costs(effort, jobs)
    over = "remote providers, all of them warm"
    return [
        curve("CPU of a call", "us", over, calls),
        curve("CPU of a list of all their tools, two each", "ms", over, lists),
        curve("memory", "MB", over, memory),
        curve("CPU from start to ready", "s", over, starts),
    ], []


def fifty(effort: Effort, folder: Path) -> Found:
    """Fifty providers with five tools each: what one call and one list cost there."""
    count = 100
    with (
        upstream(Shape(), folder, "--tools", "5") as up,
        house(folder / "fifty", many_providers(50, up)) as running,
        await_tools(running, 250) as asker,
    ):
        asker.call()
        before = asked(up)
        for _ in range(count):
            asker.call()
        requests = (asked(up) - before) / count
        before = asked(up)
        quickest = fastest(effort.repeats * 4, asker.tools)
        used = cost(running.pids, effort.repeats * 4, asker.tools) / 1000
        listed = asked(up) - before
    return [], [
        Fact(
            text="upstream requests of a call, with 50 warm providers",
            bound="exactly 1",
            measured=f"{requests:g}",
            met=requests == 1,
        ),
        Fact(
            text="a list of 250 tools of 50 providers, from the cache",
            bound="at most 5 ms",
            measured=f"{quickest:.1f} ms until it is read, {used:.1f} ms of CPU, {listed} upstream requests",
            met=quickest <= 5 and not listed,
        ),
    ]


def asked(up: Upstream) -> int:
    """Requests that have reached it, whatever they were."""
    return sum(up.counts().values())


# Tools


def tools(effort: Effort, folder: Path) -> Found:
    lists: dict[int, float] = {}
    memory: dict[int, float] = {}
    with ExitStack() as opened:
        jobs = {}
        for size in effort.of((10, 100, 500, 1_000, 2_500, 5_000)):
            place = folder / str(size)
            place.mkdir()
            up = opened.enter_context(upstream(Shape(), place, "--tools", str(size)))
            running = opened.enter_context(house(place, {"up": remote(up.url)}, SMALL_RECORD))
            with await_tools(running, size) as asker:
                lists[size] = list_cost(effort, running, asker)
            memory[size] = megabytes(running)
            jobs[size] = (running, small_call(running))
        calls = call_costs(effort, jobs)
    over = "tools of one provider"
    return [
        curve("CPU of a call", "us", over, calls),
        curve("CPU of a list of all of them", "ms", over, lists),
        curve("memory", "MB", over, memory),
    ], []


# Sessions


def sessions(effort: Effort, folder: Path) -> Found:
    """One Hangar, in which ever more sessions are open; each has made the handshake and a call."""
    legacy = Shape(era="legacy")
    opens: dict[int, float] = {}
    calls: dict[int, float] = {}
    memory: dict[int, float] = {}
    with ExitStack() as opened:
        up = opened.enter_context(upstream(legacy, folder))
        providers = {"up": remote(up.url, "legacy", sessions="shared")}
        running = opened.enter_context(house(folder / "sessions", providers, {**SMALL_RECORD, **ROOMY}))
        load = opened.enter_context(Loading(small_call(running, legacy)))
        load.connect()
        asker = opened.enter_context(Asker(running.door))
        there = 1
        for size in effort.of((1, 10, 100, 1_000, 3_000, 10_000)):
            opens[size] = cost(running.pids, max(size - there, 10), lambda: open_and_call(asker))
            there = max(size, there + 10)
            figures = interleaved({"one": Subject(load, running.pid)}, windows=effort.windows, seconds=effort.seconds)
            calls[size] = figures["one"].cpu_us
            memory[size] = megabytes(running)
    over = "open sessions"
    return [
        curve("CPU of a call", "us", over, calls),
        curve("CPU of opening one more, with its first call", "us", over, opens),
        curve("memory", "MB", over, memory),
    ], []


def open_and_call(asker: Asker) -> None:
    said = asker.initialize()
    if said.status != 200:
        raise TargetFailed(f"initialize was answered with {said.status}: {said.body[:200]!r}")
    asker.initialized(said.session)
    answer = asker.call("legacy", said.session)
    if answer.status != 200:
        raise TargetFailed(f"a call was answered with {answer.status}: {answer.body[:200]!r}")


# Callers


@contextmanager
def one_house(folder: Path, shape: Shape, settings: dict[str, Any] | None = None) -> Iterator[tuple[House, Upstream]]:
    with upstream(shape, folder) as up, house(folder / "one", {"up": remote(up.url, shape.era)}, settings) as running:
        yield running, up


def connections(effort: Effort, folder: Path) -> Found:
    """Callers that call all the time, a connection each. Core knows one token, so they are one caller to it. A provider
    is called over at most 256 connections at a time."""
    sizes = effort.of((1, 4, 16, 64, 128, 240))
    roomy = {**SMALL_RECORD, "defaults": {"limits": {"concurrency": 2_000}}}
    memory: dict[int, float] = {}
    calls: dict[int, float] = {}
    with one_house(folder, Shape(), roomy) as (running, _):
        for size in sizes:  # one after the other: connections that rest are memory, too
            calls |= call_costs(effort, {size: (running, small_call(running, Shape(in_flight=size)))})
            memory[size] = megabytes(running)
    over = "connections, each with a call in flight"
    return [curve("CPU of a call", "us", over, calls), curve("memory", "MB", over, memory)], []


# Rules


def rules(count: int) -> dict[str, list[str]]:
    """Half allow, half deny; none of them is the one that lets the call through."""
    half = max(count // 2, 1)
    allow = [f"team-{number}-*" for number in range(half - 1)] + ["echo", "tool-*"]
    return {"allow": allow, "deny": [f"secret-{number}-*" for number in range(half)]}


def policies(effort: Effort, folder: Path) -> Found:
    starts: dict[int, float] = {}
    lists: dict[int, float] = {}
    memory: dict[int, float] = {}
    with ExitStack() as opened:
        up = opened.enter_context(upstream(Shape(), folder, "--tools", "250"))
        jobs = {}
        for size in effort.of((1, 10, 100, 1_000, 10_000)):
            provider = remote(up.url) | {"tools": rules(size)}
            running = opened.enter_context(house(folder / str(size), {"up": provider}, SMALL_RECORD))
            starts[size] = running.started_seconds
            with await_tools(running, 250) as asker:
                lists[size] = list_cost(effort, running, asker)
            memory[size] = megabytes(running)
            jobs[size] = (running, small_call(running))
        calls = call_costs(effort, jobs)
    over = "rules in tools.allow and tools.deny"
    return [
        curve("CPU of a call", "us", over, calls),
        curve("CPU of a list of 250 tools", "ms", over, lists),
        curve("memory", "MB", over, memory),
        curve("CPU from start to ready", "s", over, starts),
    ], []


# Payload


PAYLOADS: Final = (205, KIB, 16 * KIB, 64 * KIB, 256 * KIB, KIB * KIB, 4 * KIB * KIB)


def payload(effort: Effort, folder: Path) -> Found:
    """Arguments that grow, then answers that grow. Both are hashed or passed on, never read. Arguments wait in the
    backlog until they are hashed: sixteen of 4 MiB would fill the usual one."""
    sizes = effort.of(PAYLOADS)
    limits = {"body_bytes": "8MiB"}
    roomy = {"server": {"limits": limits}, "events": {"keep": "64KiB", "backlog_bytes": "1GiB"}}
    with one_house(folder, Shape(), roomy) as (running, _):
        jobs = {size: (running, small_call(running, Shape(request_bytes=max(size, 227)))) for size in sizes}
        asked = call_costs(effort, jobs)
    with ExitStack() as opened:
        jobs = {}
        for size in sizes:
            shape = Shape(answer_bytes=max(size, 226))
            place = folder / f"answer-{size}"
            place.mkdir()
            running, _ = opened.enter_context(one_house(place, shape, roomy))
            jobs[size] = (running, small_call(running, shape))
        answered = call_costs(effort, jobs)
    return [
        curve("CPU of a call", "us", "KiB of arguments", asked, KIB),
        curve("CPU of a call", "us", "KiB of the answer", answered, KIB),
    ], []


DIMENSIONS: Final[dict[str, Dimension]] = {
    "providers": providers,
    "fifty": fifty,
    "tools": tools,
    "sessions": sessions,
    "connections": connections,
    "policies": policies,
    "payload": payload,
}
