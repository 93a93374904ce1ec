# SPDX-License-Identifier: MIT
"""What one pattern covers of another, against matching names one by one."""

from __future__ import annotations

import fnmatch
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_hangar.server.config.glob_overlap import Globs, can_meet, is_covered

globs = st.text("ab*?", min_size=1, max_size=4)
NAMES = ["".join(letters) for length in range(7) for letters in itertools.product("abz", repeat=length)]


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@settings(max_examples=60, deadline=None)
@given(globs, st.lists(globs, max_size=3))
def test_covered_means_that_no_name_escapes(pattern: str, by: list[str]) -> None:
    # Patterns of at most four pieces that differ do so on a name of at most six letters.
    covered = all(matches(name, by) for name in NAMES if matches(name, [pattern]))
    assert Globs(by).cover(pattern) is covered
    assert is_covered(pattern, by) is covered


@settings(max_examples=60, deadline=None)
@given(globs, st.lists(globs, max_size=3))
def test_meeting_means_that_some_name_fits_both(pattern: str, others: list[str]) -> None:
    assert Globs(others).meet(pattern) is any(matches(name, others) for name in NAMES if matches(name, [pattern]))


@pytest.mark.parametrize(
    ("pattern", "by", "covered"),
    [
        ("get_a", ["get_*"], True),
        ("get_*", ["get_a"], False),
        ("*", ["?*"], False),
        ("*", ["*"], True),
        ("a?", ["a*"], True),
        ("*a*", ["*a", "a*"], False),
        ("anything", [], False),
    ],
)
def test_examples_of_covering(pattern: str, by: list[str], covered: bool) -> None:
    assert Globs(by).cover(pattern) is covered


def test_patterns_made_to_explode_end_soon_and_let_the_rule_stand() -> None:
    hostile = "*" + "?a*" * 20
    assert is_covered(hostile, ["*a" + "?" * 40, "*b" + "?" * 40]) is False
    assert Globs(["*a" + "?" * 40, "*b" + "?" * 40]).cover(hostile) is False
    assert can_meet(hostile, "b" * 60 + "?") in (True, False)


@pytest.mark.parametrize("shape", ["team-{}-*", "*-{}", "tool_{}", "a{}?b*"])
def test_of_thousands_only_those_that_begin_or_end_alike_are_compared(shape: str) -> None:
    many = Globs(shape.format(f"{number:04}") for number in range(5000))
    like = shape.format("0017")
    assert list(many.near(like.replace("*", "x").replace("?", "y"))) == [like]
    assert many.cover(like)
    assert not many.cover(shape.format("none"))
    assert not many.meet(shape.format("none").replace("*", "x"))
