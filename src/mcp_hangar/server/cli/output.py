# SPDX-License-Identifier: MIT
"""How commands print: tables on a terminal, plain columns in a pipe, JSON when asked. Strangers' text cannot move the
terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
PATIENCE: Final = 0.7
"""Seconds of silence; what takes longer says what it does."""
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
) -> None:
    """For people on a terminal; elsewhere columns parted by tabs, the names first, nothing cut.

    Cells of the `coloured` columns take a colour by their first word. Columns in `cut` may be shortened where the
    terminal is narrow, down to so many characters; all others wrap.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in cells:
            print("\t".join(row))
        return
    console().print(shown_table(columns, cells, coloured=coloured, cut=cut))


def shown_table(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    coloured: Sequence[str] = (),
    cut: Mapping[str, int] | None = None,
) -> Table:
    """The table for a terminal. A column without a single value is left out there."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    kept = [number for number in range(len(columns)) if any(row[number] not in ("", "-") for row in cells) or not cells]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number in kept:
        name = columns[number]
        right = bool(cells) and all(row[number].isdigit() or row[number] == "-" for row in cells)
        narrow = (cut or {}).get(name, 0)
        shown.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=bool(narrow),
            overflow="ellipsis" if narrow else "fold",
            min_width=narrow or None,
        )
    for row in cells:
        styles = [_COLOURS.get(row[n].split(" ")[0], "") if columns[n] in coloured else "" for n in kept]
        shown.add_row(*(Text(row[n], style=style) for n, style in zip(kept, styles, strict=True)))
    return shown


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
