# SPDX-License-Identifier: MIT
"""Targets are ended, with whatever they started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.targets import last_words, process
from tests.processes import lives, wait_until_none_lives

LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
child.wait()
"""


def test_what_a_target_started_ends_with_it(tmp_path: Path) -> None:
    with process([sys.executable, "-c", LEAVES_A_CHILD], tmp_path / "log", stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        child = int(started.stdout.readline())
        assert lives(child)
    assert wait_until_none_lives([started.pid, child]) == []


def test_the_last_line_of_a_target_that_ended_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == "it said nothing"
    with process([sys.executable, "-c", "raise SystemExit('no such port')"], log) as started:
        assert started.wait(60) == 1
    assert last_words(log) == "no such port"
