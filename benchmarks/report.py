# SPDX-License-Identifier: MIT
"""What was measured, in words: tables for the terminal, for `docs/benchmarks.md` and for the README. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from benchmarks.claims import Claim, judged, times
from benchmarks.idle import PROVIDERS, Idle
from benchmarks.machine import Machine
from benchmarks.measure import Figures
from benchmarks.shapes import Shape
from benchmarks.stages import Row

BEGIN: Final = "<!-- benchmarks: begin -->"
END: Final = "<!-- benchmarks: end -->"
NAMES: Final = {
    "direct": "no gateway (the provider itself)",
    "nginx": "nginx, passing through",
    "yardstick": "yardstick: a plain Python proxy",
    "hangar": "**MCP Hangar, everything on**",
    "starlette+httpx": "Starlette + httpx, doing nothing",
    "earlier-hangar": "mcp-hangar 2.34.4",
    "fastmcp": "FastMCP's proxy",
    "contextforge": "ContextForge, as shipped",
    "contextforge-lean": "ContextForge, all that can be off is off",
}
"""In the order of tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All of one run; `results/latest.json` is this."""

    machine: Machine
    rows: list[Row]
    left_out: dict[str, str]
    idle: Idle | None


def over(of: Figures | None, to: Figures | None) -> str:
    """How many times the CPU."""
    return times(of.cpu_us / to.cpu_us) if of and to else "-"


def over_direct(row: Row, name: str, percentile: str) -> str:
    """Microseconds over a direct connection with as many calls in flight."""
    direct = row.figures.get("direct")
    if direct is None or name == "direct" or name not in row.figures:
        return "-"
    return f"{getattr(row.figures[name], percentile) - getattr(direct, percentile):,.0f}"


# For the terminal

HEADER: Final = (
    *("target", "CPU us", "user", "system", "x yardstick", "added p50", "added p99", "p50 us", "p99 us"),
    *("calls/s", "MB", "upstream requests"),
)


def cells(row: Row) -> Iterable[tuple[str, ...]]:
    for name, figures in row.figures.items():
        yield (
            name,
            *(f"{value:,.0f}" for value in (figures.cpu_us, figures.user_us, figures.system_us)),
            over(figures, row.figures.get("yardstick")),
            over_direct(row, name, "p50_us"),
            over_direct(row, name, "p99_us"),
            *(f"{value:,.0f}" for value in (figures.p50_us, figures.p99_us, figures.per_second, figures.resident_mb)),
            f"{row.upstream_requests[name]:g}" if name in row.upstream_requests else "-",
        )


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Columns of equal width; numbers stand to the right, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *cells[1:]]) for line, cells in zip(lines, padded, strict=True)
    )


def plain_table(row: Row) -> str:
    return aligned([HEADER, *cells(row)])


def verdict(claim: Claim) -> str:
    return {True: "met", False: "NOT met", None: "-"}[claim.met]


def plain_claims(claims: Iterable[Claim]) -> str:
    return "\n".join(f"{verdict(claim):7}  {claim.text}: {claim.bound}; {claim.measured}" for claim in claims)


# For the docs


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def title(shape: Shape) -> str:
    if shape.stdio:
        return f"Provider over stdio, {shape.era} era"
    size = f"{shape.request_bytes // 1024} KiB" if shape.request_bytes >= 1024 else f"{shape.request_bytes} bytes"
    blanks = "" if shape.blanks else " without a blank"
    answer = f", an answer of {shape.answer_bytes // 1024} KiB" if shape.answer_bytes >= 1024 else ""
    return f"{shape.era.capitalize()} era, a call of {size}{blanks}{answer}, {shape.answer.upper()}"


def cost(figures: Figures | None) -> str:
    """All of it (user + system)."""
    if figures is None:
        return "-"
    return f"{figures.cpu_us:,.0f} ({figures.user_us:,.0f} + {figures.system_us:,.0f})"


def group_table(rows: Sequence[Row]) -> str:
    """Rows that differ only in how many calls are in flight, beside one another."""
    flights = [row.shape.in_flight for row in rows]
    header = ["", *(f"CPU us, {n} in flight" for n in flights), *(f"x yardstick, {n}" for n in flights)]
    header += [*(f"added p50 us, {n}" for n in flights), "added p99 us, 1", "MB", "upstream requests"]
    lines = []
    for name, label in NAMES.items():
        if not any(name in row.figures for row in rows):
            continue
        found = [row.figures.get(name) for row in rows]
        requests = [row.upstream_requests[name] for row in rows if name in row.upstream_requests]
        lines.append(
            [
                label,
                *map(cost, found),
                *(over(each, row.figures.get("yardstick")) for each, row in zip(found, rows, strict=True)),
                *(over_direct(row, name, "p50_us") for row in rows),
                over_direct(rows[0], name, "p99_us"),
                f"{max(each.resident_mb for each in found if each):,.0f}",
                f"{max(requests):.1f}".removesuffix(".0") if requests else "-",
            ]
        )
    return table(header, lines)


def page(results: Results) -> str:
    """`docs/benchmarks.md`."""
    claims = judged(results.rows, results.idle)
    parts = [_PREFACE, told(results.machine), "## What is promised, and what was measured"]
    parts.append(
        table(
            ["on the call path", "bound", "measured", ""],
            ([claim.text, claim.bound, claim.measured, verdict(claim)] for claim in claims),
        )
    )
    if results.idle:
        parts.append(
            f"Idle, with {PROVIDERS} cold providers: {results.idle.resident_mb:.0f} MB, "
            f"{results.idle.cpu_percent:.2f} % of a core; from start to ready {results.idle.ready_seconds:.2f} s."
        )
    parts.append(_ALL)
    for (stage, name), rows in groupby(results.rows, key=lambda row: (row.stage, title(row.shape))):
        beside = ", slow peers" if stage.startswith("peers") else ""
        parts.append(f"### {name}{beside}\n\n{group_table(list(rows))}")
    if results.left_out:
        parts.append("## Left out\n\n" + "\n".join(f"- {name}: {why}" for name, why in results.left_out.items()))
    return "\n\n".join(parts) + "\n"


_ALL: Final = """## All figures

CPU is of the target's whole process tree, per call: all of it (user + system). Added times are over a direct connection
with as many calls in flight."""
_PREFACE: Final = """<!-- SPDX-License-Identifier: MIT -->
# What a call costs

Made by `make bench`, which measures all of this again on your machine; do not edit. How it is done is told in
[benchmarks/README.md](../benchmarks/README.md)."""


def told(machine: Machine) -> str:
    versions = "; ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"Measured {machine.date} at commit {machine.commit} on {machine.cores} cores of {machine.processor}, "
        f"{machine.memory_gb:g} GB, {machine.system}, kernel {machine.kernel}, Python {machine.python}. "
        f"Load of the machine before: {machine.load_before}. Versions: {versions}."
    )


def readme_table(results: Results) -> str:
    """The small modern call, one and sixteen in flight; what each target says of it in its own stage."""
    shapes = [Shape(), Shape(in_flight=16)]
    lines = []
    for name, label in NAMES.items():
        found = [
            next((row for row in results.rows if row.shape == shape and name in row.figures), None) for shape in shapes
        ]
        one = found[0]
        if one is None or name == "direct":
            continue
        figures = one.figures[name]
        lines.append(
            [
                label,
                *(f"{row.figures[name].cpu_us:,.0f}" if row else "-" for row in found),
                over(figures, one.figures.get("yardstick")),
                over_direct(one, name, "p50_us"),
                f"{figures.resident_mb:,.0f}",
                f"{one.upstream_requests.get(name, 0):.1f}".removesuffix(".0"),
            ]
        )
    header = ["", "CPU us per call", "16 in flight", "x yardstick", "added p50 us", "MB", "upstream requests per call"]
    machine = results.machine
    said = (
        f"A tool call of 227 bytes, one in flight unless said; {machine.date[:10]}, {machine.cores} cores of "
        f"{machine.processor}, Python {machine.python}."
    )
    return f"{table(header, lines)}\n\n{said}"


def with_table(readme: str, results: Results) -> str:
    """The README with its table replaced."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no place for the table: {BEGIN} and {END} are missing.")
    return f"{before}{BEGIN}\n{readme_table(results)}\n{END}{after}"
