# SPDX-License-Identifier: MIT
"""The files of this repository, as the checks see them: what git has or would take, so no check reads a cache.

Without git, or in an unpacked archive: everything but what is made by tools.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

MADE: Final = frozenset({"__pycache__", "build", "dist", "htmlcov", "node_modules"})
"""Folders that tools make, beside the hidden ones; the same as in .gitignore."""


def files(*suffixes: str) -> list[Path]:
    """Paths relative to `ROOT`, sorted; with `suffixes`, only names that end so."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
        found = [Path(name) for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = walked()
    return sorted(path for path in found if (ROOT / path).is_file() and (not suffixes or path.name.endswith(suffixes)))


def walked() -> list[Path]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        kept = [name for name in folders if name not in MADE and not name.endswith(".egg-info")]
        folders[:] = [name for name in kept if not name.startswith(".") or name in {".ci", ".github"}]
        found += [here / name for name in names if not name.endswith(".pyc")]
    return found
