# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.events import AuthFailed, Event
from mcp_hangar.server.operator_access import (
    CODE_SECONDS,
    MOST_CODES,
    MOST_SESSIONS,
    SESSION_SECONDS,
    Access,
    bearer,
)

ADMIN = "an-admin-token-of-tests"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access(ADMIN, clock=clock)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_only_the_admin_token_is_the_admin_token(token: str) -> None:
    access = Access(ADMIN)
    assert access.is_admin(ADMIN) and access.admits(ADMIN)
    assert not access.admits(token) or token == ADMIN
    assert not access.use(token)


def test_a_code_works_once(access: Access) -> None:
    code = access.new_code().code
    token = access.trade(code).token
    assert access.admits(token) and not access.is_admin(token)
    with pytest.raises(RequestError) as caught:
        access.trade(code)
    assert caught.value.code == "unauthorized"
    assert not access.admits(code)


def test_codes_and_sessions_end_with_their_time(access: Access, clock: Clock) -> None:
    early, late = access.new_code().code, access.new_code().code
    token = access.trade(early).token
    clock.now += CODE_SECONDS
    assert not access.use(late)
    assert access.admits(token)
    clock.now += SESSION_SECONDS - CODE_SECONDS
    assert not access.admits(token)


def test_both_are_bounded_and_the_oldest_gives_way(access: Access) -> None:
    codes = [access.new_code().code for _ in range(MOST_CODES + 1)]
    assert [access.use(code) for code in codes[:2]] == [False, True]
    tokens = [access.trade(access.new_code().code).token for _ in range(MOST_SESSIONS + 1)]
    assert [access.admits(token) for token in tokens[:2]] == [False, True]
    assert access.admits(ADMIN)


def test_whoever_knocks_often_cannot_fill_the_record(clock: Clock) -> None:
    recorded: list[Event] = []
    access = Access(ADMIN, recorded.append, clock)
    for _ in range(100):
        assert access.refused("rest", {"client": ("10.0.0.9", 4711)}).code == "unauthorized"
    clock.now += 1
    access.refused("stream", {})
    first, second = recorded
    assert isinstance(first, AuthFailed) and isinstance(second, AuthFailed)
    assert (first.door, first.peer, first.reason) == ("rest", "10.0.0.9", "no valid admin token")
    assert (second.door, second.peer, second.reason) == ("stream", "", "no valid admin token (100 times)")


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([(b"authorization", b"Bearer x")], "x"),
        ([(b"authorization", b"bearer  x ")], "x"),
        ([(b"authorization", b"Basic x")], ""),
        ([(b"authorization", b"Bearer")], ""),
        ([(b"authorization", b"Bearer x"), (b"authorization", b"Bearer x")], ""),
        ([(b"cookie", b"token=x")], ""),
        ([], ""),
        ([(b"authorization", b"Bearer \xff")], "\udcff"),
    ],
)
def test_a_token_comes_in_one_header_and_in_no_other_way(headers: list[tuple[bytes, bytes]], token: str) -> None:
    assert bearer(headers) == token
    assert not Access(ADMIN).admits(token)
