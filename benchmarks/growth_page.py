# SPDX-License-Identifier: MIT
"""What grew and what it cost, in words: tables for the terminal and `docs/growth.md`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.curves import Curve
from benchmarks.dimensions import Fact
from benchmarks.machine import Machine
from benchmarks.refusals import Refusal
from benchmarks.report import aligned, told
from benchmarks.report import table as table_of
from benchmarks.soak_page import Soak, soaked

IMAGES: Final = "images"
TITLES: Final = {
    "providers": "Providers",
    "tools": "Tools",
    "sessions": "Sessions",
    "connections": "Callers",
    "policies": "Rules",
    "payload": "Payload",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A curve with what was found of it, as it is kept and plotted."""

    of: str
    unit: str
    over: str
    points: list[tuple[float, float]]
    begin: float
    slope: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """All of one run; `results/growth.json` is this."""

    machine: Machine
    curves: dict[str, list[Drawn]]
    facts: list[Fact]
    refusals: list[Refusal]
    left_out: dict[str, str]


def drawn(curve: Curve) -> Drawn:
    begin, slope = curve.line
    return Drawn(
        of=curve.of,
        unit=curve.unit,
        over=curve.over,
        points=[(x, rounded(y)) for x, y in curve.points],
        begin=rounded(begin),
        slope=rounded(slope),
        verdict=curve.verdict,
    )


def rounded(value: float) -> float:
    """Four digits: more are noise."""
    return float(f"{value:.4g}")


def shown(value: float) -> str:
    """Three digits, without an exponent."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):.10f}".rstrip("0").rstrip(".")
    return text if text != "-0" else "0"


def slope(curve: Drawn) -> str:
    """What a thousand more cost, or one more where a thousand is far beyond what was measured."""
    many = 1_000 if curve.points[-1][0] >= 1_000 else 1
    return f"{shown(curve.slope * many)} {curve.unit} per {many:,} more"


def rows(curves: Sequence[Drawn]) -> list[list[str]]:
    return [
        [f"{curve.of}, {curve.unit}", *(shown(y) for _, y in curve.points), slope(curve), curve.verdict]
        for curve in curves
    ]


def header(curves: Sequence[Drawn]) -> list[str]:
    return [curves[0].over, *(f"{x:,g}" for x, _ in curves[0].points), "slope", "verdict"]


def by_over(curves: Iterable[Drawn]) -> dict[str, list[Drawn]]:
    """Curves over the same thing share a table."""
    found: dict[str, list[Drawn]] = {}
    for curve in curves:
        found.setdefault(curve.over, []).append(curve)
    return found


def plain(curves: Sequence[Drawn]) -> str:
    return "\n\n".join(
        aligned([tuple(line) for line in [header(group), *rows(group)]]) for group in by_over(curves).values()
    )


def plain_facts(facts: Iterable[Fact]) -> str:
    return "\n".join(f"{met(fact):7}  {fact.text}: {fact.bound}; {fact.measured}" for fact in facts)


def met(fact: Fact) -> str:
    return "met" if fact.met else "NOT met"


REFUSAL_HEADER: Final = ("over its bound", "status", "CPU us of a refusal", "of a served call", "cheaper")


def refusal_rows(refusals: Iterable[Refusal]) -> list[tuple[str, ...]]:
    return [
        (each.bound, each.answer, shown(each.refused_us), shown(each.served_us), "yes" if each.cheap else "NO")
        for each in refusals
    ]


def plain_refusals(refusals: Iterable[Refusal]) -> str:
    return aligned([REFUSAL_HEADER, *refusal_rows(refusals)])


_PREFACE: Final = """<!-- SPDX-License-Identifier: MIT -->
# How costs grow

Made by `make bench-growth` and `make bench-soak`, which measure all of this again on your machine; do not edit.

Each Hangar here has everything on, as in [what a call costs](benchmarks.md), and Hangars of all sizes take turns. The
line is fitted by least squares of the relative error. *Flat*: it rises by no more than a quarter from the smallest size
to the largest. *Linear*: what is added grows no faster than the size does."""
_REFUSALS: Final = """## What is over a bound

It is refused at once. CPU of the refusal, beside a call that the same Hangar serves to the same client, one at a
time:"""


def page(growth: Growth, soak: Soak | None) -> str:
    """`docs/growth.md`."""
    parts = [_PREFACE, told(growth.machine), "## With many providers"]
    parts.append(
        table_of(
            ["", "bound", "measured", ""],
            ([fact.text, fact.bound, fact.measured, met(fact)] for fact in growth.facts),
        )
    )
    for name, curves in growth.curves.items():
        parts.append(f"## {TITLES[name]}")
        parts += [table_of(header(group), rows(group)) for group in by_over(curves).values()]
        said = "; ".join(f"{curve.of}: {curve.verdict}" for curve in curves)
        parts.append(f"![{TITLES[name]}: {said}]({IMAGES}/growth-{name}.svg)")
    if growth.refusals:
        parts += [_REFUSALS, table_of(REFUSAL_HEADER, refusal_rows(growth.refusals))]
    if soak is not None:
        parts.append(soaked(soak))
    if growth.left_out:
        parts.append("## Left out\n\n" + "\n".join(f"- {name}: {why}" for name, why in growth.left_out.items()))
    return "\n\n".join(parts) + "\n"
