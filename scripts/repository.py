# SPDX-License-Identifier: MIT
"""The files of this repository, as the checks see them: what git has or would take, so no check reads a cache."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def files(*suffixes: str) -> list[Path]:
    """Paths relative to `ROOT`, sorted; with `suffixes`, only names that end so."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    found = (Path(name) for name in listed.stdout.split("\0") if name)
    return sorted(path for path in found if (ROOT / path).is_file() and (not suffixes or path.name.endswith(suffixes)))
