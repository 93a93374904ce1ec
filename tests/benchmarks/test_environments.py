# SPDX-License-Identifier: MIT
"""Peers are installed by hash, in a Python that they run on, or said to be missing."""

from __future__ import annotations

import sys

import pytest

from benchmarks import environments
from benchmarks.environments import FILES, python_for
from benchmarks.measure import TargetFailed


def test_every_peer_is_pinned_with_hashes() -> None:
    names = {path.stem for path in FILES.glob("*.in")}
    assert names == {path.stem for path in FILES.glob("*.txt")}
    for name in names:
        lines = (FILES / f"{name}.txt").read_text().splitlines()
        pinned = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pinned and all("==" in line for line in pinned), name
        assert "--hash=sha256:" in "".join(lines)


def test_our_own_python_is_taken_where_it_will_do() -> None:
    assert python_for("fastmcp") == sys.executable


def test_a_python_that_the_machine_lacks_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environments.OLDEST, "contextforge", (3, 90))
    monkeypatch.setitem(environments.NEWEST, "contextforge", (3, 91))
    with pytest.raises(TargetFailed, match=r"needs Python 3\.90 to 3\.91"):
        python_for("contextforge")
