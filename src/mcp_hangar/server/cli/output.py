# SPDX-License-Identifier: MIT
"""How commands print: tables on a terminal, plain columns in a pipe, JSON when asked. Strangers' text cannot move the
terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
PATIENCE: Final = 0.7
"""Seconds of silence; what takes longer says what it does."""
_GAP: Final = 2
_FOLDED: Final = 8
"""Characters that a column keeps that is wrapped because nothing else is left to shorten."""
_COLOURS: Final = {
    "ready": "green", "ok": "green", "completed": "green",
    "starting": "cyan", "running": "cyan", "cold": "dim",
    "degraded": "yellow", "stopped": "yellow", "tool_error": "yellow", "denied": "yellow",
    "dead": "red", "failed": "red", "refusing": "bold red", "stopping": "yellow",
    "destructive": "red", "writes": "yellow", "reads": "green",
}  # fmt: skip
"""By the first word of a cell; a table names the columns it holds for."""


def safe(text: object) -> str:
    """Text of a stranger (a provider, a client) for the terminal: control characters become visible."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match.group()):02x}", str(text))


def cell(text: object) -> str:
    """The same on one line."""
    return safe(text).replace("\n", " ").replace("\t", " ")


def print_json(value: Any) -> None:
    """One document; what could move a terminal is escaped, as JSON does it."""
    print(json.dumps(value, indent=2, ensure_ascii=sys.stdout.isatty()))


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    # rich reads NO_COLOR by itself, but takes an empty one for none.
    return Console(no_color="NO_COLOR" in os.environ, markup=False, highlight=False, stderr=stderr)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    coloured: Sequence[str] = (),
    cut: Mapping[str, int] | None = None,
    spare: Sequence[str] = (),
    stream: TextIO | None = None,
) -> None:
    """For people on a terminal; elsewhere columns parted by tabs, the names first, nothing cut.

    Cells of the `coloured` columns take a colour by their first word. Where the terminal is narrow, the `spare` columns
    go first, one by one; those in `cut` are shortened, down to so many characters; what still does not fit is wrapped.
    """
    cells = [[cell(value) for value in row] for row in rows]
    target = stream or sys.stdout
    if not target.isatty():
        print("\t".join(columns), file=target)
        for row in cells:
            print("\t".join(row), file=target)
        return
    out = console(stderr=target is sys.stderr)
    out.print(shown_table(columns, cells, out.width, coloured=coloured, cut=cut or {}, spare=spare))


def shown_table(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    width: int,
    *,
    coloured: Sequence[str] = (),
    cut: Mapping[str, int],
    spare: Sequence[str] = (),
) -> Table:
    """The table for a terminal of this width. A column without a single value is left out there."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    numbers = [n for n in range(len(columns)) if not cells or any(row[n] not in ("", "-") for row in cells)]
    kept, widths = fit([columns[n] for n in numbers], [[row[n] for n in numbers] for row in cells], width, cut, spare)
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    chosen = [numbers[k] for k in kept]
    for number, room in zip(chosen, widths, strict=True):
        figures = bool(cells) and all(row[number] == "-" or row[number].isdigit() for row in cells)
        one_line = columns[number] in cut
        shown.add_column(
            columns[number],
            justify="right" if figures else "left",
            width=room,
            no_wrap=one_line,
            overflow="ellipsis" if one_line else "fold",
        )
    for row in cells:
        styles = [_COLOURS.get(row[n].split(" ")[0], "") if columns[n] in coloured else "" for n in chosen]
        shown.add_row(*(Text(row[n], style=style) for n, style in zip(chosen, styles, strict=True)))
    return shown


def fit(
    names: Sequence[str], cells: Sequence[Sequence[str]], width: int, cut: Mapping[str, int], spare: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide each is."""
    from rich.cells import cell_len

    natural = [max(map(cell_len, [name, *(row[n] for row in cells)])) for n, name in enumerate(names)]
    kept = list(range(len(names)))

    def least() -> int:
        return sum(min(natural[n], max(cut.get(names[n], natural[n]), len(names[n]))) + _GAP for n in kept) - _GAP

    for name in spare:
        if name in names and least() > width:
            kept.remove(names.index(name))
    widths = {n: natural[n] for n in kept}
    for flexible, floor in ((True, 0), (False, _FOLDED)):
        while sum(widths.values()) + _GAP * (len(kept) - 1) > width:
            floors = {n: max(cut.get(names[n], floor), floor) for n in kept if (names[n] in cut) is flexible}
            able = [n for n, bottom in floors.items() if widths[n] > bottom]
            if not able:
                break
            widths[max(able, key=lambda n: widths[n])] -= 1
    return kept, [widths[n] for n in kept]


def tell(text: str, stream: TextIO | None = None) -> None:
    """A paragraph; on a terminal its lines break between words. A line that is indented goes on indented."""
    out = stream or sys.stdout
    if not out.isatty():
        print(text, file=out)
        return
    width = max(shutil.get_terminal_size().columns, 20)
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        deeper = indent + "    " if indent else ""
        print(textwrap.fill(line, width, subsequent_indent=deeper, break_on_hyphens=False) or "", file=out)


@contextmanager
def waiting(what: str, *, at_once: bool = False) -> Iterator[Callable[[str], None]]:
    """Says on a terminal's stderr what takes long, and for how many seconds; the words can be changed on the way."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
    )
    task = progress.add_task(cell(what), total=None)
    timer = threading.Timer(0 if at_once else PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda text: progress.update(task, description=cell(text))
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
