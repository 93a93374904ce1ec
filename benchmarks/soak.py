# SPDX-License-Identifier: MIT
"""`python -m benchmarks.soak`: rounds of churn, and whether memory, descriptors or tasks grow."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks import churn, growth, machine, soak_page
from benchmarks.asking import Asker, House, house, remote, rss_bytes
from benchmarks.churn import Round
from benchmarks.dimensions import ROOMY, SMALL_RECORD, open_and_call
from benchmarks.measure import PROC, TargetFailed
from benchmarks.shapes import Shape
from benchmarks.soak_page import LATEST, Sample, Soak, Wave
from benchmarks.targets import upstream

PATIENCE: Final = 60.0
SETTLE_SECONDS: Final = 1.0
SWEPT_WITHIN: Final = 12.0
"""Seconds after their idle time until the last sessions are surely swept, and what they kept upstream has ended."""
CHURNED: Final = {**SMALL_RECORD, "server": {"session_idle": "3s", **ROOMY["server"]}}


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    work: Round
    waves: int
    sessions: int
    idle_seconds: int


FULL: Final = Plan(
    rounds=45,
    work=Round(calls=4_000, sessions=60, vanished=96, cancelled=10, changes=6, errors=20),
    waves=2,
    sessions=10_000,
    idle_seconds=40,
)
QUICK: Final = Plan(
    rounds=8,
    work=Round(calls=400, sessions=8, vanished=32, cancelled=3, changes=2, errors=4),
    waves=1,
    sessions=1_000,
    idle_seconds=8,
)

BEGAN: Final = time.monotonic()


def say(line: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {line}", file=sys.stderr, flush=True)


def counted_command(file: Path) -> Callable[[Path], list[str]]:
    def command(config: Path) -> list[str]:
        module = [sys.executable, "-m", "benchmarks.counted", str(file)]
        return [*module, "serve", "--log-level", "error", "--config", str(config)]

    return command


def sample(running: House, file: Path) -> Sample:
    """Of the Hangar process alone."""
    time.sleep(SETTLE_SECONDS)
    file.unlink(missing_ok=True)
    os.kill(running.pid, signal.SIGUSR1)
    end = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > end:
            raise TargetFailed("Hangar did not count its tasks")
        time.sleep(0.01)
    told = json.loads(file.read_text())
    return Sample(
        memory_mb=rss_bytes([running.pid]) / 1e6,
        descriptors=len(list((PROC / str(running.pid) / "fd").iterdir())),
        threads=len(list((PROC / str(running.pid) / "task").iterdir())),
        tasks=told["tasks"],
        objects=told["objects"],
    )


@contextlib.contextmanager
def churned_house(folder: Path, file: Path) -> Iterator[House]:
    with ExitStack() as opened:
        places = {era: folder / era for era in ("modern", "legacy")}
        for place in places.values():
            place.mkdir()
        modern = opened.enter_context(upstream(Shape(), places["modern"]))
        legacy = opened.enter_context(upstream(Shape(era="legacy"), places["legacy"]))
        providers = churn.providers(modern, legacy)
        yield opened.enter_context(house(folder / "house", providers, CHURNED, command=counted_command(file)))


def rounds(plan: Plan, folder: Path) -> list[Sample]:
    file = folder / "counted.json"
    samples = []
    with churned_house(folder, file) as running:
        with Asker(running.door) as asker:
            asker.tools()  # all are met
        for number in range(plan.rounds):
            churn.run(running, plan.work)
            samples.append(sample(running, file))
            say(f"round {number + 1} of {plan.rounds}: {samples[-1]}")
    return samples


def waves(plan: Plan, folder: Path) -> Iterator[Wave]:
    settings: dict[str, Any] = {**SMALL_RECORD, "server": {**ROOMY["server"], "session_idle": f"{plan.idle_seconds}s"}}
    legacy = Shape(era="legacy")
    file = folder / "counted.json"
    with ExitStack() as opened:
        up = opened.enter_context(upstream(legacy, folder))
        providers = {"up": remote(up.url, "legacy", sessions="shared")}
        command = counted_command(file)
        running = opened.enter_context(house(folder / "house", providers, settings, command=command))
        asker = opened.enter_context(Asker(running.door))
        for _ in range(50):
            open_and_call(asker)
        for number in range(plan.waves):
            before = sample(running, file)
            for _ in range(plan.sessions):
                open_and_call(asker)
            last = asker.initialize().session
            top = sample(running, file)
            asker.close()
            time.sleep(plan.idle_seconds + SWEPT_WITHIN)
            if asker.call("legacy", last).status != 404:
                raise TargetFailed("a session was still there after server.session_idle")
            yield Wave(sessions=plan.sessions, before=before, top=top, after=sample(running, file))
            say(f"wave {number + 1} of {plan.waves}")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n")[0])
    options.add_argument("--quick", action="store_true", help="half a minute; prints only")
    plan = QUICK if options.parse_args().quick else FULL
    described = machine.described(peers=False)
    with tempfile.TemporaryDirectory(prefix="hangar-soak-") as place:
        folder = Path(place)
        (folder / "waves").mkdir()
        began = time.monotonic()
        samples = rounds(plan, folder)
        seconds = time.monotonic() - began
        soak = Soak(
            machine=described,
            seconds=seconds,
            rounds=plan.rounds,
            done=plan.work.times(plan.rounds),
            samples=samples,
            waves=list(waves(plan, folder / "waves")),
        )
    print(f"\n{soak_page.plain(soak)}", flush=True)
    if plan is FULL:
        LATEST.parent.mkdir(exist_ok=True)
        LATEST.write_bytes(msgspec.json.format(msgspec.json.encode(soak), indent=1) + b"\n")
        growth.render_latest()
    if found := soak_page.grown(soak):
        say(f"grows: {', '.join(found)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
