# SPDX-License-Identifier: MIT
"""What was measured, in words: tables for the terminal and for the docs. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.measure import Figures
from benchmarks.stages import Row


def ratio(of: Figures | None, to: Figures | None) -> float | None:
    return of.cpu_us / to.cpu_us if of and to and to.cpu_us else None


def times(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}x" if value < 10 else f"{value:,.0f}x"


def added_p50(row: Row, name: str) -> float | None:
    """Microseconds over a direct connection with as many calls in flight."""
    direct = row.figures.get("direct")
    return row.figures[name].p50_us - direct.p50_us if direct and name != "direct" else None


HEADER = (
    "target",
    "CPU us/call",
    "user",
    "system",
    "x yardstick",
    "p50 us",
    "added p50",
    "p99 us",
    "calls/s",
    "MB",
    "upstream requests",
)


def cells(row: Row) -> Iterable[tuple[str, ...]]:
    for name, figures in row.figures.items():
        added = added_p50(row, name)
        yield (
            name,
            f"{figures.cpu_us:,.0f}",
            f"{figures.user_us:,.0f}",
            f"{figures.system_us:,.0f}",
            times(ratio(figures, row.figures.get("yardstick"))),
            f"{figures.p50_us:,.0f}",
            "-" if added is None else f"{added:,.0f}",
            f"{figures.p99_us:,.0f}",
            f"{figures.per_second:,.0f}",
            f"{figures.resident_mb:,.0f}",
            f"{row.upstream_requests[name]:g}" if name in row.upstream_requests else "-",
        )


def plain_table(row: Row) -> str:
    lines = [HEADER, *cells(row)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
