# SPDX-License-Identifier: MIT
"""The official suite, through Hangar, in both eras and across them; and the fixture by itself, so that we know whom
to believe when something fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.run import (
    PAGE,
    RUNS,
    Check,
    Expectations,
    Failure,
    Outcome,
    Run,
    column,
    compare,
    direct,
    expectations,
    through_hangar,
)
from tests.conftest import Node

DIRECT = RUNS[:2]


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.parametrize("run", DIRECT, ids=lambda run: run.name)
def test_the_fixture_itself_conforms(run: Run, node: Node, tmp_path: Path) -> None:
    outcome = direct(node, run, tmp_path)
    assert not outcome.failures(), outcome.log


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_official_suite_says_what_the_page_says(run: Run, node: Node, tmp_path: Path) -> None:
    outcome = through_hangar(node, run, tmp_path)
    assert not compare(outcome, expectations()), (tmp_path / "hangar.log").read_text()[-4000:]
    shown = column(PAGE.read_text(), run)
    assert {name: outcome.cell(name).replace("*", "") for name in outcome.scenarios} == {
        name: shown[name].replace("*", "") for name in outcome.scenarios
    }, "run python -m tests.conformance.run"


def test_each_expected_failure_has_a_reason_and_the_count_is_kept() -> None:
    assert expectations().problems() == []


def test_an_unexpected_failure_and_a_stale_expectation_are_both_told() -> None:
    run = RUNS[0]
    outcome = Outcome(
        run, {"ping": [Check("pong", "FAILURE", "silence")], "tools-list": [Check("t", "SUCCESS", "")]}, ""
    )
    expected = Expectations(1, (Failure(run.name, "tools-list", "t", "it was so once, but it is no longer"),))
    assert compare(outcome, expected) == ["ping pong: FAILURE: silence", "stale, remove it: tools-list t"]


def test_a_warning_and_a_scenario_without_a_result_count_as_failures() -> None:
    outcome = Outcome(RUNS[0], {"a": [Check("x", "WARNING", "hm")], "b": []}, "")
    assert [(failure.scenario, failure.check) for failure in outcome.failures()] == [("a", "x"), ("b", "*")]
