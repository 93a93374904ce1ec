# SPDX-License-Identifier: MIT
"""What must not stand in the tree: names that hide a concept, paths of one machine, addresses of registries."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from scripts.repository import ROOT, files

VAGUE: Final = frozenset({"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})

# Each is written in two pieces, so that this file does not contain what it forbids.
PLACES: Final = re.compile(
    "|".join(
        [
            r"(?<![\w.-])/" + "work/",
            r"(?<![\w.-])/tmp/" + r"w\b",
            r"(?<![\w.-])/" + "root/",
            r"(?<![\w.-])/opt/" + "(wheels|pypi)",
            r"\bpypi" + r"\.org",
            "pythonhosted" + r"\.org",
            r"registry\.npm" + "js",
            r"deb\.debian" + r"\.org",
        ]
    )
)


def vague_names(paths: list[Path]) -> list[str]:
    """Modules and folders named by a word that says nothing of what is inside."""
    named = ((path, part) for path in paths if path.suffix == ".py" for part in (*path.parts[:-1], path.stem))
    return sorted({f"{path}: '{part}' names no concept" for path, part in named if VAGUE & set(part.split("_"))})


def places(path: Path, text: str) -> list[str]:
    lines = enumerate(text.splitlines(), start=1)
    return [f"{path}:{number}: names a place: {found[0]}" for number, line in lines if (found := PLACES.search(line))]


def wrong_words() -> list[str]:
    paths = files()
    problems = vague_names(paths)
    for path in paths:
        try:
            problems += places(path, (ROOT / path).read_text())
        except UnicodeDecodeError:
            continue
    return problems


def main() -> int:
    problems = wrong_words()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"words: {len(problems)} wrong" if problems else "words: no vague module, no machine's path, no registry")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
