# SPDX-License-Identifier: MIT
"""What a soak found, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.curves import SettledVerdict, settled
from benchmarks.machine import Machine
from benchmarks.measure import ROOT
from benchmarks.report import aligned, table

LATEST: Final = ROOT / "benchmarks/results/soak.json"
STEADY_PART: Final = 0.03
"""What memory may rise by after the warm-up, as a part of it: an allocator's pages come and go."""
STEADY_MB: Final = 2.0
STEADY_COUNT: Final = 3.0
"""Tasks, threads: a sample may catch a few that are on their way out."""
STEADY_DESCRIPTORS: Final = 12.0
"""As many upstream connections as sessions that have not expired yet may have in the pool."""
STEADY_OBJECTS: Final = 0.02
CACHED: Final = 6_000
"""Objects that bounded caches may keep of expired sessions: a thousand heads of requests, known by their bytes."""
KEPT_PAGES: Final = 0.15
"""By so much of what the first wave took may a later one rise above it."""
HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    memory_mb: float
    descriptors: int
    threads: int
    tasks: int
    objects: int
    """What Python's collector of garbage knows of: what grows here grows in memory, sooner or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Sessions opened and abandoned: before, with all of them open, and once they have expired."""

    sessions: int
    before: Sample
    top: Sample
    after: Sample

    @property
    def freed(self) -> bool:
        """Whether Hangar keeps nothing of them. Of the pages, the allocator may keep some for those who come next."""
        return self.after.objects - self.before.objects <= CACHED


def reused(waves: Sequence[Wave]) -> bool:
    """Whether later waves live in the pages that the first one took."""
    first = waves[0]
    room = KEPT_PAGES * (first.top.memory_mb - first.before.memory_mb) + STEADY_MB
    return all(wave.top.memory_mb <= first.top.memory_mb + room for wave in waves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """All of one run; `results/soak.json` is this."""

    machine: Machine
    seconds: float
    rounds: int
    done: dict[str, int]
    samples: list[Sample]
    waves: list[Wave]


def grown(soak: Soak) -> list[str]:
    """What does not hold; nothing, if all is well."""
    found = [what for what, verdict in verdicts(soak.samples).items() if verdict == "grows"]
    if not all(wave.freed for wave in soak.waves):
        found.append("what expired sessions leave behind")
    if not reused(soak.waves):
        found.append("memory from wave to wave")
    return found


def verdicts(samples: Sequence[Sample]) -> dict[str, SettledVerdict]:
    return {
        "memory": settled([each.memory_mb for each in samples], part=STEADY_PART, whole=STEADY_MB),
        "descriptors": settled([float(each.descriptors) for each in samples], whole=STEADY_DESCRIPTORS),
        "threads": settled([float(each.threads) for each in samples], whole=STEADY_COUNT),
        "tasks": settled([float(each.tasks) for each in samples], whole=STEADY_COUNT),
        "objects": settled([float(each.objects) for each in samples], part=STEADY_OBJECTS),
    }


HEADER: Final = ("after round", "memory, MB", "descriptors", "threads", "tasks", "objects")
WAVE_HEADER: Final = (
    *("sessions opened and abandoned", "memory before, MB", "all open", "expired"),
    *("objects before", "all open", "expired", "freed"),
)


def lines(samples: Sequence[Sample], shown: int = 10) -> list[tuple[str, ...]]:
    """Some of the samples, the last among them, and what all of them say."""
    step = max(len(samples) // shown, 1)
    chosen = [number for number in range(len(samples)) if (len(samples) - 1 - number) % step == 0]
    told = [
        (
            f"{number + 1}",
            f"{each.memory_mb:.1f}",
            *(f"{value:,}" for value in (each.descriptors, each.threads, each.tasks, each.objects)),
        )
        for number, each in ((number, samples[number]) for number in chosen)
    ]
    return [*told, ("verdict", *verdicts(samples).values())]


def wave_lines(waves: Sequence[Wave]) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.sessions:,}",
            *(f"{moment.memory_mb:.1f}" for moment in (each.before, each.top, each.after)),
            *(f"{moment.objects:,}" for moment in (each.before, each.top, each.after)),
            "yes" if each.freed else "NO",
        )
        for each in waves
    ]


def told_of(waves: Sequence[Wave]) -> str:
    first, last = waves[0], waves[-1]
    each = (first.top.memory_mb - first.before.memory_mb) * 1e6 / first.sessions / 1024
    said = f"A session takes {each:.1f} KiB. What Hangar keeps of it once it has expired: " + (
        "nothing." if all(wave.freed for wave in waves) else "MORE THAN NOTHING, see the objects."
    )
    if len(waves) > 1:
        how = "no more than" if reused(waves) else "MORE THAN"
        said += (
            f" The allocator keeps pages, and wave {len(waves)} needs {how} the first: "
            f"{last.top.memory_mb:.1f} MB against {first.top.memory_mb:.1f} MB."
        )
    return said


def plain(soak: Soak) -> str:
    return "\n\n".join(
        [
            equivalence(soak),
            aligned([HEADER, *lines(soak.samples)]),
            aligned([WAVE_HEADER, *wave_lines(soak.waves)]),
            told_of(soak.waves),
        ]
    )


def equivalence(soak: Soak) -> str:
    """What the rounds amount to, said plainly."""
    done = soak.done
    each = {what: f"{HOUR / max(count, 1):,.{0 if count < 1_000 else 2}f} s" for what, count in done.items()}
    return (
        f"{soak.rounds} rounds in {soak.seconds:,.0f} s: {done['calls']:,} calls, {done['sessions']:,} legacy sessions "
        f"with an upstream session each (half of them left open), {done['vanished']:,} clients that vanished, "
        f"{done['cancelled']:,} cancelled calls, {done['changes']:,} list changes with a list after each, "
        f"{5 * done['errors']:,} errors of five kinds. By count that is an hour of a Hangar with "
        f"{done['calls'] / HOUR:,.0f} calls a second, a session each {each['sessions']}, a client that vanishes each "
        f"{each['vanished']} and a list change each {each['changes']}. What only time brings about, it cannot show."
    )


def soaked(soak: Soak) -> str:
    """The part of `docs/growth.md`."""
    return "\n\n".join(
        [
            "## A soak",
            equivalence(soak),
            "The first third is warm-up. *Steady*: the line through the rest rises by no more than noise.",
            table(HEADER, lines(soak.samples)),
            "Sessions that are opened, used once and never closed; `server.session_idle` is shortened so that they "
            "expire while we watch:",
            table(WAVE_HEADER, wave_lines(soak.waves)),
            told_of(soak.waves),
        ]
    )
