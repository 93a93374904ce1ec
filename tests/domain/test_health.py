# SPDX-License-Identifier: MIT
from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.health import Evidence, Health, Verdict, missed, weigh
from mcp_hangar.domain.provider import HealthCheck

CHECK = HealthCheck(unhealthy_after=3, healthy_after=2)
A, L, B, S = Evidence.answered, Evidence.late, Evidence.busy, Evidence.silent

checks = st.builds(
    lambda unhealthy, healthy: HealthCheck(unhealthy_after=unhealthy, healthy_after=healthy),
    st.integers(1, 5),
    st.integers(1, 5),
)
histories = st.lists(st.sampled_from(Evidence), max_size=60)


def judge(history: list[Evidence], check: HealthCheck = CHECK) -> Health:
    return reduce(lambda health, evidence: weigh(health, evidence, check), history, Health())


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([], Verdict.healthy),
        ([S, S], Verdict.healthy),
        ([S, S, S], Verdict.unhealthy),
        ([S, A, S, A, S], Verdict.healthy),
        ([S, S, S, A], Verdict.unhealthy),
        ([S, S, S, A, A], Verdict.healthy),
        ([S, S, S, A, S, A], Verdict.unhealthy),
        ([S] * 5, Verdict.unhealthy),
        ([S] * 6, Verdict.dead),
        ([S] * 6 + [A] * 9, Verdict.dead),
        ([S, L] * 50, Verdict.unhealthy),
        ([B] * 50, Verdict.unhealthy),
        ([S] * 5 + [L] + [S] * 5, Verdict.unhealthy),
        ([S, L] * 50 + [A, A], Verdict.healthy),
    ],
)
def test_verdicts(history: list[Evidence], verdict: Verdict) -> None:
    assert judge(history).verdict is verdict


@given(histories, checks)
def test_slow_is_not_dead(history: list[Evidence], check: HealthCheck) -> None:
    assert judge([evidence for evidence in history if evidence is not S], check).verdict is not Verdict.dead


@given(histories, checks)
def test_only_a_whole_run_of_silence_is_dead(history: list[Evidence], check: HealthCheck) -> None:
    heard = "".join("s" if each is S else "b" if each is B else "-" for each in history)
    runs = [run.replace("b", "") for run in heard.split("-")]
    assert (judge(history, check).verdict is Verdict.dead) is any(len(run) >= 2 * check.unhealthy_after for run in runs)


@given(histories, checks)
def test_the_verdict_changes_only_after_a_run(history: list[Evidence], check: HealthCheck) -> None:
    for length in range(1, len(history) + 1):
        before, after = judge(history[: length - 1], check), judge(history[:length], check)
        if before.verdict is after.verdict:
            continue
        if after.verdict is Verdict.healthy:
            assert history[length - check.healthy_after : length] == [A] * check.healthy_after
        else:
            assert A not in history[max(0, length - check.unhealthy_after) : length]
            assert after.misses >= check.unhealthy_after


@given(histories, checks)
def test_enough_answers_heal_all_but_the_dead(history: list[Evidence], check: HealthCheck) -> None:
    healed = judge(history + [A] * check.healthy_after, check)
    was = judge(history, check)
    assert healed.verdict is (Verdict.dead if was.verdict is Verdict.dead else Verdict.healthy)


def test_calls_in_flight_excuse_a_missed_probe_as_long_as_a_call_may_take() -> None:
    def told(in_flight: int, unheard: float) -> Evidence:
        return missed(in_flight=in_flight, unheard=unheard, call_timeout=60, interval=30)

    assert told(1, 89) is B
    assert told(1, 90) is S
    assert told(0, 1) is S
