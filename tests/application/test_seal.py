# SPDX-License-Identifier: MIT
from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_hangar.application.seal import Seal

KEY = bytes(range(32))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
contents = st.lists(words, max_size=4)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def a_seal(key: bytes = KEY) -> tuple[Seal, Clock]:
    clock = Clock()
    return Seal(key, clock), clock


@given(words, words, contents)
def test_what_was_sealed_comes_back_to_its_owner(purpose: str, owner: str, said: list[str]) -> None:
    seal, _ = a_seal()
    purpose = purpose.replace("\0", "")
    for token in (
        seal.close(purpose, owner, said),
        seal.close(purpose, owner, said, 60),
        seal.name(purpose, owner, said),
    ):
        assert seal.open(purpose, owner, token) == said
        assert re.fullmatch("[A-Za-z0-9_-]+", token)


@given(words, words)
@example("a", "a\0")
def test_nobody_else_opens_it_and_for_nothing_else(owner: str, other: str) -> None:
    seal, _ = a_seal()
    stranger, _ = a_seal(bytes(32))
    for token in (seal.close("cursor", owner, ["x"]), seal.name("cursor", owner, ["x"])):
        assert seal.open("task", owner, token) is None
        assert stranger.open("cursor", owner, token) is None
        if other != owner:
            assert seal.open("cursor", other, token) is None
    assert seal.open("cursorx", owner, seal.close("cursor", f"x{owner}", ["x"])) is None


@given(contents, st.data())
def test_a_token_that_was_altered_in_any_way_is_refused(said: list[str], data: st.DataObject) -> None:
    seal, _ = a_seal()
    token = data.draw(st.sampled_from([seal.close("p", "o", said), seal.name("p", "o", said)]))
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_+/=!. \nü"))
    for altered in (
        token[:at] + letter + token[at + 1 :],
        token[:at] + letter + token[at:],
        token[:at],
        token[:at] + token[at + 1 :],
        token + letter,
        token + "=",
    ):
        if altered != token:
            assert seal.open("p", "o", altered) is None


@given(st.text(max_size=60))
@example("")
@example("AAAA")
@example("\ud800")
@example(base64.urlsafe_b64encode(bytes(40)).decode())
def test_no_text_of_a_stranger_opens(text: str) -> None:
    seal, _ = a_seal()
    assert seal.open("p", "o", text) is None


def test_a_token_expires_and_a_lasting_one_does_not() -> None:
    seal, clock = a_seal()
    brief, lasting, name = seal.close("p", "o", ["x"], 60), seal.close("p", "o", ["x"]), seal.name("p", "o", ["x"])
    clock.now += 60
    assert seal.open("p", "o", brief) == ["x"]
    clock.now += 0.001
    assert seal.open("p", "o", brief) is None
    clock.now += 1e9
    assert seal.open("p", "o", lasting) == seal.open("p", "o", name) == ["x"]


def test_a_name_is_the_same_each_time_and_a_token_never_is() -> None:
    seal, _ = a_seal()
    assert seal.name("p", "o", ["x"]) == seal.name("p", "o", ["x"])
    assert seal.close("p", "o", ["x"]) != seal.close("p", "o", ["x"])


@given(st.tuples(words, words, contents), st.tuples(words, words, contents))
@example(("p", "o", ["x"]), ("p", 'o["0.0","x"]', []))
def test_two_names_share_no_nonce(one: tuple[str, str, list[str]], other: tuple[str, str, list[str]]) -> None:
    """A nonce that encrypts two texts would give both away."""
    seal, _ = a_seal()
    first, second = seal.name(*one), seal.name(*other)
    if (f"{one[0]}\0{one[1]}", one[2]) != (f"{other[0]}\0{other[1]}", other[2]):
        assert first[:16] != second[:16]


def test_nothing_of_the_contents_shows() -> None:
    seal, _ = a_seal()
    token = seal.name("task", "alice", ["secret-provider", "id"])
    plain = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"secret" not in plain
    assert b"alice" not in plain


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_no_key(size: int) -> None:
    with pytest.raises(ValueError, match="key must be"):
        Seal(bytes(size), Clock())
