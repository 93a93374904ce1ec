# SPDX-License-Identifier: MIT
"""The pictures say what the tables say: every state, every transition, every step, and nothing more."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path

import pytest

from mcp_hangar.domain.lifecycle import TRANSITIONS, State
from scripts import pictures

PAGE = (Path(__file__).parents[2] / "docs/life-of-a-tool-call.md").read_text()


def words(svg: str, kind: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(f'<text [^>]*class="{kind}">([^<]*)</text>', svg)]


def arrows(svg: str) -> list[str]:
    return re.findall(r'<path class="arrow" d="([^"]*)"/>', svg)


def test_every_state_and_every_transition_is_on_the_picture_once() -> None:
    drawn = pictures.states()
    assert sorted(words(drawn, "name")) == sorted(State)
    said = Counter(word for label in words(drawn, "said") for word in label.split(", "))
    assert said == Counter(happening.value for leads in TRANSITIONS.values() for happening in leads)
    assert len(arrows(drawn)) == sum(len(set(leads.values())) for leads in TRANSITIONS.values())


def test_a_transition_that_the_table_loses_leaves_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    before = arrows(pictures.states())
    monkeypatch.setattr(pictures, "TRANSITIONS", {**TRANSITIONS, State.degraded: {}})
    assert len(arrows(pictures.states())) == len(before) - len(TRANSITIONS[State.degraded])


def test_a_state_without_a_place_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {state: place for state, place in pictures.PLACES.items() if state is not State.dead}
    monkeypatch.setattr(pictures, "PLACES", places)
    with pytest.raises(KeyError):
        pictures.states()


def test_the_steps_of_a_call_are_those_of_the_page_in_their_order() -> None:
    steps = pictures.steps(PAGE)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == len(re.findall(r"^\| \d+ \|", PAGE, re.MULTILINE))
    named = [word for word in words(pictures.call(PAGE), "name") if word[0].isdigit()]
    assert [word.split()[1].rpartition(".")[2] for word in named] == [
        step.function.rpartition(".")[2] for step in steps
    ]
    assert {step.room for step in steps} <= set(pictures.ROOMS)
