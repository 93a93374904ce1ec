# SPDX-License-Identifier: MIT
"""Which of the servers that were found are taken: asked on a terminal, on stderr as all that is not the answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from mcp_hangar.server.cli.onboarding.adoption import Candidate
from mcp_hangar.server.cli.onboarding.references import written
from mcp_hangar.server.cli.output import cell, table


def ask(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Which of them? On stderr, as all that is not the answer."""
    print("MCP servers found on this machine:", file=sys.stderr)
    rows = [(number, one.name, titles(one), runs(one)) for number, one in enumerate(candidates, 1)]
    table(["", "name", "from", "runs"], rows, cut={"runs": 20, "from": 12}, stream=sys.stderr)
    while True:
        said = typer.prompt("Which ones? Numbers such as 1,3-5, or", default="all", err=True)
        try:
            return [candidates[number - 1] for number in numbers(said, len(candidates))]
        except ValueError as error:
            print(error, file=sys.stderr)


def numbers(said: str, most: int) -> list[int]:
    """`all`, `none`, or numbers and ranges. `ValueError` says what was not understood."""
    if said.strip().lower() in ("all", "none"):
        return list(range(1, most + 1)) if said.strip().lower() == "all" else []
    chosen: set[int] = set()
    for part in said.replace(",", " ").split():
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and 1 <= int(end) <= most for end in ends):
            raise ValueError(f"{cell(part)} is no number from 1 to {most}.")
        chosen.update(range(int(ends[0]), int(ends[1]) + 1))
    return sorted(chosen)


def runs(one: Candidate) -> str:
    return " ".join(one.command) if one.command else written(one.url)


def titles(one: Candidate) -> str:
    return ", ".join(dict.fromkeys(found.place.title for found in one.found))
