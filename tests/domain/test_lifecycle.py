# SPDX-License-Identifier: MIT
from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.lifecycle import SERVING, TRANSITIONS, Happening, State, delay, evolve, shown
from mcp_hangar.domain.provider import Backoff

states = st.sampled_from(State)
happenings = st.lists(st.sampled_from(Happening), max_size=30)


def fold(events: list[Happening], state: State = State.cold) -> State:
    for event in events:
        state = evolve(state, event)
    return state


def test_the_table_has_a_row_for_every_state() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", State)
def test_every_state_is_reached_from_cold_and_leads_back_to_it(state: State) -> None:
    reached = {State.cold}
    for _ in State:
        reached |= {after for before in reached for after in TRANSITIONS[before].values()}
    assert state in reached
    assert fold([Happening.ended], state) is State.cold


def test_a_life_of_a_provider() -> None:
    life = [
        (Happening.launched, State.starting),
        (Happening.answered, State.ready),
        (Happening.sickened, State.degraded),
        (Happening.recovered, State.ready),
        (Happening.died, State.dead),
        (Happening.launched, State.starting),
        (Happening.failed, State.dead),
        (Happening.ended, State.cold),
    ]
    state = State.cold
    for event, after in life:
        state = evolve(state, event)
        assert state is after


@given(happenings)
def test_replay_equals_live(events: list[Happening]) -> None:
    live = [State.cold]
    for event in events:
        live.append(evolve(live[-1], event))
    assert all(fold(events[:count]) is state for count, state in enumerate(live))


@given(happenings)
def test_nothing_serves_without_a_handshake(events: list[Happening]) -> None:
    if Happening.answered not in events:
        assert fold(events) not in SERVING


@given(states, st.sampled_from(Happening))
def test_news_that_the_table_does_not_name_changes_nothing(state: State, event: Happening) -> None:
    if event not in TRANSITIONS[state]:
        assert evolve(state, event) is state


@given(states, st.sampled_from(Happening))
def test_news_told_twice_is_news_told_once(state: State, event: Happening) -> None:
    once = evolve(state, event)
    assert evolve(once, event) is once


@given(st.lists(states))
def test_what_a_provider_shows_depends_neither_on_order_nor_on_number(present: list[State]) -> None:
    assert shown(present) is shown(reversed(present)) is shown(present * 2)


@given(st.lists(states))
def test_a_provider_shows_that_it_serves_exactly_if_an_instance_does(present: list[State]) -> None:
    assert (shown(present) in SERVING) is bool(SERVING & set(present))


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], State.cold),
        ([State.cold], State.cold),
        ([State.cold, State.dead], State.dead),
        ([State.dead, State.starting], State.starting),
        ([State.starting, State.ready], State.ready),
        ([State.ready, State.ready], State.ready),
        ([State.ready, State.degraded], State.degraded),
        ([State.ready, State.dead], State.degraded),
    ],
)
def test_what_a_provider_shows(present: list[State], expected: State) -> None:
    assert shown(present) is expected


backoffs = st.builds(
    lambda first, times: Backoff(first=first, longest=first * times),
    st.floats(0.001, 1e6),
    st.floats(1, 1e6),
)


@given(st.integers(0, 10**9), backoffs, st.integers())
def test_a_delay_is_never_negative_nor_over_the_longest(failures: int, backoff: Backoff, seed: int) -> None:
    assert 0 <= delay(failures, backoff, random.Random(seed).random) <= backoff.longest


@given(st.integers(1, 200), backoffs)
def test_the_bound_of_a_delay_doubles_until_the_longest(failures: int, backoff: Backoff) -> None:
    bound, after = (delay(count, backoff, lambda: 1.0) for count in (failures, failures + 1))
    assert after == min(2 * bound, backoff.longest) or bound == after == backoff.longest


def test_the_jitter_is_full() -> None:
    backoff = Backoff(first=1, longest=60)
    assert delay(4, backoff, lambda: 0.0) == 0
    assert delay(4, backoff, lambda: 0.5) == 4
    assert delay(100, backoff, lambda: 0.5) == 30


def test_without_a_failure_there_is_no_delay() -> None:
    assert delay(0, Backoff(), lambda: 1.0) == 0
