# SPDX-License-Identifier: MIT
"""Every known way in which systems like this one failed has a test that would notice it, or a reason why it cannot
happen yet. The table is `tests/pitfalls.toml`."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NUMBERS = [*range(1, 46), 68, 69, 70]
TABLE: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests/pitfalls.toml").read_text())
SHORTEST_REASON = 30


def defined_in(path: Path) -> set[str]:
    """The tests that a module defines, not those that are commented out or skipped for good."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
            if "mark.skip" not in marks and "xfail" not in marks:
                found.add(node.name)
    return found


def test_the_table_has_a_row_for_each_pitfall_and_no_other() -> None:
    assert list(TABLE) == [f"{number:02}" for number in NUMBERS]


@pytest.mark.parametrize("number", [f"{number:02}" for number in NUMBERS])
def test_a_pitfall_has_living_tests_or_a_reason(number: str) -> None:
    row = TABLE[number]
    assert set(row) <= {"what", "tests", "not_yet"}
    assert row["what"]
    assert row.get("tests") or "not_yet" in row
    assert "not_yet" not in row or len(row["not_yet"]) >= SHORTEST_REASON
    for node in row.get("tests", []):
        file, _, name = node.partition("::")
        assert (ROOT / file).exists(), node
        assert name in defined_in(ROOT / file), node
    assert len(set(row.get("tests", []))) == len(row.get("tests", []))


def test_each_test_that_is_named_after_a_pitfall_stands_in_its_row() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in defined_in(path):
            if name.startswith("test_pitfall_"):
                number = name.split("_")[2]
                assert f"{path.relative_to(ROOT)}::{name}" in TABLE[number].get("tests", []), name
