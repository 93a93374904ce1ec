# SPDX-License-Identifier: MIT
"""How commands print: tables on a terminal, plain columns in a pipe, JSON when asked. Strangers' text cannot move the
terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def safe(text: object) -> str:
    """Text of a stranger (a provider, a client) for the terminal: control characters become visible."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match.group()):02x}", str(text))


def cell(text: object) -> str:
    """The same on one line."""
    return safe(text).replace("\n", " ").replace("\t", " ")


def print_json(value: Any) -> None:
    """One document; what could move a terminal is escaped, as JSON does it."""
    print(json.dumps(value, indent=2, ensure_ascii=sys.stdout.isatty()))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """For people on a terminal; elsewhere columns parted by tabs, the names first."""
    cells = [[cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in cells:
            print("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        shown.add_row(*row)
    # rich reads NO_COLOR by itself, but takes an empty one for none.
    Console(no_color="NO_COLOR" in os.environ, markup=False, highlight=False).print(shown)
