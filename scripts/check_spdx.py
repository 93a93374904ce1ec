# SPDX-License-Identifier: MIT
"""Every source file names its licence in its first line: BUSL-1.1 under enterprise/, MIT elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scripts.repository import ROOT, files

SOURCES: Final = (".py", ".sh", ".js", ".mjs", ".ts", ".css")


def expected(path: Path) -> str:
    return "BUSL-1.1" if path.parts[0] == "enterprise" else "MIT"


def judge(path: Path, text: str) -> str | None:
    """What is wrong with the file, or None."""
    lines = text.splitlines()
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    wanted = f"SPDX-License-Identifier: {expected(path)}"
    first = lines[0] if lines else ""
    if first.lstrip("#/* ").removesuffix(" */") == wanted:
        return None
    return f"{path}: the first line is not '{wanted}' as a comment"


def wrong_files() -> list[str]:
    found = (judge(path, (ROOT / path).read_text()) for path in [*files(*SOURCES), Path(".ci/run")])
    return [problem for problem in found if problem]


def main() -> int:
    problems = wrong_files()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"SPDX: {len(problems)} wrong" if problems else "SPDX: every source file names its licence")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
