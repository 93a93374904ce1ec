# SPDX-License-Identifier: MIT
"""What Hangar promises of the call path, each with the bound, what was measured, and whether it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.idle import Idle
from benchmarks.shapes import LARGE, SMALL
from benchmarks.stages import Row

YARDSTICK: Final = 1.4
ADDED_P50_US: Final = 300.0
LESS_THAN: Final = {"starlette+httpx": 10, "earlier-hangar": 40, "fastmcp": 150, "contextforge": 150}
STDIO_ADDED_US: Final = 400.0
SAME: Final = 1.1
"""Two figures that are the same but for noise."""
IDLE_MB: Final = 120.0
IDLE_PERCENT: Final = 0.5
"""Rounds to none."""
READY_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    text: str
    bound: str
    measured: str
    met: bool | None
    """None where it was not measured, or only reported."""


def _ratios(rows: Iterable[Row], of: str, to: str) -> dict[str, float]:
    """CPU of one target over that of another, by stage and shape."""
    return {
        f"{row.stage}: {row.shape.name}": row.figures[of].cpu_us / row.figures[to].cpu_us
        for row in rows
        if of in row.figures and to in row.figures
    }


def times(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else f"{value:,.0f}x"


def _spread(ratios: dict[str, float]) -> str:
    """From the least to the most, and where that was."""
    if not ratios:
        return "not measured"
    least, most = (pick(ratios, key=lambda name: ratios[name]) for pick in (min, max))
    return f"{times(ratios[least])} ({least}) to {times(ratios[most])} ({most})"


def _remote(rows: Sequence[Row], size: int, answer: str = "json", *, traced: bool = False) -> list[Row]:
    return [
        row
        for row in rows
        if not row.shape.stdio
        and row.shape.request_bytes == size
        and row.shape.answer == answer
        and row.shape.answer_bytes < LARGE
        and row.shape.traced is traced
    ]


def _against_yardstick(rows: Sequence[Row]) -> Iterable[Claim]:
    for era in ("modern", "legacy"):
        small = [row for row in _remote(rows, SMALL) if row.shape.era == era]
        ratios = _ratios(small, "hangar", "yardstick")
        yield Claim(
            text=f"CPU per call, {era} era, against the yardstick's",
            bound=f"at most {YARDSTICK}x",
            measured=_spread(ratios),
            met=max(ratios.values()) <= YARDSTICK if ratios else None,
        )
        added = [
            row.figures["hangar"].p50_us - row.figures["direct"].p50_us
            for row in small
            if row.shape.in_flight == 1 and {"hangar", "direct"} <= row.figures.keys()
        ]
        yield Claim(
            text=f"added p50, {era} era, one call in flight",
            bound=f"at most {ADDED_P50_US:.0f} us",
            measured=f"{min(added):.0f} us" if added else "not measured",
            met=min(added) <= ADDED_P50_US if added else None,
        )


def _traced(rows: Sequence[Row]) -> Claim:
    return Claim(
        text="CPU per call against the yardstick's, where each request has a traceparent of its own",
        bound="reported",
        measured=_spread(_ratios(_remote(rows, SMALL, traced=True), "hangar", "yardstick")),
        met=None,
    )


def _against_peers(rows: Sequence[Row]) -> Iterable[Claim]:
    for peer, times in LESS_THAN.items():
        ratios = _ratios(_remote(rows, SMALL), peer, "hangar")
        yield Claim(
            text=f"CPU of {peer} against Hangar's",
            bound=f"at least {times}x",
            measured=_spread(ratios),
            met=min(ratios.values()) >= times if ratios else None,
        )
    yield Claim(
        text="CPU per call against nginx's, which governs nothing",
        bound="reported",
        measured=_spread(_ratios(_remote(rows, SMALL), "hangar", "nginx")),
        met=None,
    )


def _one_request(rows: Sequence[Row]) -> Claim:
    most = max((row.upstream_requests["hangar"] for row in rows if "hangar" in row.upstream_requests), default=None)
    return Claim(
        text="upstream requests of a warm call",
        bound="exactly 1",
        measured="not measured" if most is None else f"{most:g}",
        met=None if most is None else most == 1,
    )


def _large(rows: Sequence[Row]) -> Iterable[Claim]:
    small = _ratios(_remote(rows, SMALL), "hangar", "yardstick")
    large = _ratios(_remote(rows, LARGE), "hangar", "yardstick")
    yield Claim(
        text="ratio to the yardstick with a 76 KiB call",
        bound="no worse than with 227 bytes",
        measured=f"{_spread(large)}; with 227 bytes {_spread(small)}" if large and small else "not measured",
        met=max(large.values()) <= max(small.values()) if large and small else None,
    )
    costs = {
        row.shape.blanks: row.figures["hangar"].cpu_us
        for row in rows
        if row.stage == "blanks" and "hangar" in row.figures
    }
    both = len(costs) == 2
    yield Claim(
        text="a 64 KiB argument without a blank",
        bound="what one with blanks costs",
        measured=f"{costs[False]:,.0f} us; with blanks {costs[True]:,.0f} us" if both else "not measured",
        met=costs[False] <= costs[True] * SAME if both else None,
    )


def _stdio(rows: Sequence[Row]) -> Claim:
    added = {
        row.shape.name: row.figures["hangar"].cpu_us - row.figures["direct"].cpu_us
        for row in rows
        if row.shape.stdio and {"hangar", "direct"} <= row.figures.keys()
    }
    return Claim(
        text="CPU added to a call of a stdio provider",
        bound=f"at most {STDIO_ADDED_US:.0f} us",
        measured=", ".join(f"{us:,.0f} us ({name})" for name, us in added.items()) or "not measured",
        met=max(added.values()) <= STDIO_ADDED_US if added else None,
    )


def _idle(idle: Idle | None) -> Iterable[Claim]:
    yield Claim(
        text="memory with 100 cold providers",
        bound=f"at most {IDLE_MB:.0f} MB",
        measured=f"{idle.resident_mb:.0f} MB" if idle else "not measured",
        met=idle.resident_mb <= IDLE_MB if idle else None,
    )
    yield Claim(
        text="CPU while idle",
        bound="rounds to 0 % of a core",
        measured=f"{idle.cpu_percent:.2f} %" if idle else "not measured",
        met=idle.cpu_percent < IDLE_PERCENT if idle else None,
    )
    yield Claim(
        text="start to ready with 100 providers",
        bound=f"below {READY_SECONDS} s",
        measured=f"{idle.ready_seconds:.2f} s" if idle else "not measured",
        met=idle.ready_seconds < READY_SECONDS if idle else None,
    )


def judged(rows: Sequence[Row], idle: Idle | None) -> list[Claim]:
    return [
        *_against_yardstick(rows),
        _traced(rows),
        *_against_peers(rows),
        _one_request(rows),
        *_large(rows),
        _stdio(rows),
        *_idle(idle),
    ]
