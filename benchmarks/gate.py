# SPDX-License-Identifier: MIT
"""`python -m benchmarks.gate`: fails if a call has become dearer than what is recorded. Under three minutes.

What is held holds on noisy and on different machines: user CPU per call as a multiple of the yardstick's in the same
run (the kernel's work costs two or three times more on one machine than on another, Python's does not), system calls
and frames, which are whole numbers. p99 is shown and judged by nobody. `--record "why"` records what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import machine, syscalls, targets
from benchmarks.machine import Machine
from benchmarks.measure import ROOT, Figures, Loading, Subject, TargetFailed, Window, best, window
from benchmarks.shapes import LARGE, Shape

RECORDED: Final = ROOT / "benchmarks/recorded.json"
TOLERANCE: Final = 1.25
WINDOWS: Final = 8
SECONDS: Final = 1.2
ATTEMPTS: Final = 2
"""A shape that seems too dear gets as many windows again, of both sides, before it is said to be."""
SHAPES: Final = (Shape(in_flight=16), Shape(era="legacy", in_flight=16))
"""Enough in flight that the target never waits: what runs on a timer, and every wait for a turn on a busy machine,
would be charged to the few calls of a slow closed loop. (With one in flight, a machine with fourteen others waiting
showed 1.2x and 3.3x within a minute.)"""
TOLD: Final = Shape(request_bytes=LARGE, in_flight=16)
"""Shown, and judged by nobody: most of it is moving memory, the yardstick's in the kernel and ours in scanning and
hashing, so its user ratio went from 2.1x to 2.8x within ten minutes of one machine."""
COUNTED: Final = (Shape(), Shape(era="legacy"))
"""System calls are counted with these: the same wherever uvloop runs."""
NICE: Final = -10
PAGE: Final = ROOT / "docs/life-of-a-tool-call.md"
FRAMES_TEST: Final = "tests/application/test_call_path.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    ratios: dict[str, float]
    """Hangar's user CPU per call over the yardstick's, by shape."""
    syscalls: dict[str, dict[str, int]]
    """Per call, by shape and name."""
    frames: int
    """Functions of ours that a warm call enters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    reason: str
    machine: Machine
    measured: Measured


# Judged (pure)


def judged(measured: Measured, recorded: Measured) -> list[str]:
    """What is worse than recorded; nothing, if all holds."""
    return [
        *_dearer(measured.ratios, recorded.ratios),
        *(
            f"{shape}: {line}"
            for shape, counts in measured.syscalls.items()
            for line in _more(counts, recorded.syscalls.get(shape, {}))
        ),
        *_more({"frames": measured.frames}, {"frames": recorded.frames}),
    ]


def _dearer(ratios: Mapping[str, float], recorded: Mapping[str, float]) -> Iterable[str]:
    for shape, ratio in ratios.items():
        if shape not in recorded:
            yield f"{shape}: nothing is recorded for it"
        elif ratio > recorded[shape] * TOLERANCE:
            yield (
                f"{shape}: user CPU is {ratio:.2f}x the yardstick's; {recorded[shape]:.2f}x is recorded, and "
                f"{recorded[shape] * TOLERANCE:.2f}x would still do"
            )


def _more(counts: Mapping[str, int], recorded: Mapping[str, int]) -> Iterable[str]:
    for name, count in counts.items():
        if count > recorded.get(name, 0):
            yield f"{count} {name} per call; {recorded.get(name, 0)} is recorded"


def fewer(measured: Measured, recorded: Measured) -> bool:
    """Whether something has become so much cheaper that the record should be drawn tighter."""
    return any(recorded.ratios.get(shape, 0) > ratio * TOLERANCE for shape, ratio in measured.ratios.items())


# Measured


def measure_shape(shape: Shape, recorded: Measured | None, *, judged: bool = True) -> float:
    """User CPU per call, over the yardstick's."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hangar-bench-")))
        upstream = stack.enter_context(targets.upstream(shape, folder))
        subjects = {}
        for name in ("yardstick", "hangar"):
            running = stack.enter_context(targets.OURS[name](shape, upstream, folder))
            load = stack.enter_context(Loading(targets.job(shape, running)))
            subjects[name] = Subject(load, running.pid)
        taken: dict[str, list[Window]] = {name: [] for name in subjects}
        for attempt in range(1, ATTEMPTS + 1):
            for _ in range(WINDOWS):
                for name, subject in subjects.items():
                    taken[name].append(window(subject, SECONDS))
            ours, theirs = best(taken["hangar"]), best(taken["yardstick"])
            ratio = ours.user_us / theirs.user_us
            _show(shape, ours, theirs)
            seems_dear = judged and (recorded is None or list(_dearer({shape.name: ratio}, recorded.ratios)))
            if attempt == ATTEMPTS or not seems_dear:
                return ratio
            print("once more, to be sure", flush=True)
    raise AssertionError


def count_syscalls(shape: Shape) -> dict[str, int]:
    """Nothing where the machine does not let one process look at another; it says so."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hangar-bench-")))
        upstream = stack.enter_context(targets.upstream(shape, folder))
        running = stack.enter_context(targets.hangar(shape, upstream, folder))
        load = stack.enter_context(Loading(targets.job(shape, running)))
        try:
            counts = syscalls.counted(running.pid, load)
        except syscalls.NotAllowed as error:
            print(f"system calls are not counted here: {error}", flush=True)
            return {}
    print(f"{shape.name}: {', '.join(f'{count} {name}' for name, count in counts.items())}", flush=True)
    return counts


def frames() -> int:
    """As the page tells them, which a test compares with what a call really enters."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", FRAMES_TEST]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetFailed(f"{FRAMES_TEST} fails:\n{done.stdout[-2000:]}")
    return len(re.findall(r"^\| \d+ \| `", PAGE.read_text(), re.MULTILINE))


def measure(recorded: Measured | None) -> Measured:
    ratios = {shape.name: measure_shape(shape, recorded) for shape in SHAPES}
    measure_shape(TOLD, recorded, judged=False)
    return Measured(
        ratios=ratios,
        syscalls={shape.name: counts for shape in COUNTED if (counts := count_syscalls(shape))},
        frames=frames(),
    )


def _show(shape: Shape, ours: Figures, theirs: Figures) -> None:
    print(
        f"{shape.name}: user CPU {ours.user_us:.0f} us against {theirs.user_us:.0f} us, "
        f"{ours.user_us / theirs.user_us:.2f}x; with system {ours.cpu_us:.0f} against {theirs.cpu_us:.0f}, "
        f"{ours.cpu_us / theirs.cpu_us:.2f}x; p99 {ours.p99_us:,.0f} us against {theirs.p99_us:,.0f}",
        flush=True,
    )


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.split("\n")[0])
    options.add_argument("--record", metavar="REASON", help="record what is measured now, and why it may be so")
    reason = options.parse_args().record
    with contextlib.suppress(PermissionError):  # a busy neighbour takes less of the windows
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    kept = msgspec.json.decode(RECORDED.read_bytes(), type=Recorded) if RECORDED.exists() else None
    if kept is None and not reason:
        options.error('nothing is recorded yet; record it with --record "why"')
    try:
        measured = measure(None if reason or kept is None else kept.measured)
    except TargetFailed as error:
        print(f"the gate cannot measure: {error}", file=sys.stderr)
        return 2
    print(f"frames per call: {measured.frames}")
    if reason or kept is None:
        record = Recorded(reason=reason or "", machine=machine.described(peers=False), measured=measured)
        RECORDED.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
        print(f"recorded in {RECORDED.relative_to(ROOT)}")
        return 0
    worse = judged(measured, kept.measured)
    for line in worse:
        print(f"DEARER: {line}", file=sys.stderr)
    if worse:
        print(
            'Make it cheaper, or record it with its reason: python -m benchmarks.gate --record "why"', file=sys.stderr
        )
    elif fewer(measured, kept.measured):
        print("Much cheaper than recorded; record it, so that it stays so.")
    print(f"gate: {'CLOSED' if worse else 'open'}; recorded {kept.machine.date}: {kept.reason}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
