# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_hangar.application import sessions as module
from mcp_hangar.application.sessions import ClientSession, EventStream, Sessions
from mcp_hangar.domain.call import NO_CAPABILITIES, Caller, CallerType
from mcp_hangar.domain.errors import Denied, RequestError

pytestmark = pytest.mark.anyio

ALICE = Caller(id="alice", type=CallerType.token)
BOB = Caller(id="bob", type=CallerType.token)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


class Few(Sessions):
    """A few sessions, and which of them ended."""

    def __init__(self, *, limit: int = 4, per_caller: int = 3, idle: float = 60.0) -> None:
        self.ended: list[ClientSession] = []
        super().__init__(limit=limit, per_caller=per_caller, idle=idle, on_closed=self.ended.append)

    def enter(self, caller: Caller = ALICE) -> ClientSession:
        return self.open(
            caller=caller, version="2025-11-25", capabilities=NO_CAPABILITIES, client="c/1", info=b"{}", scope=""
        )


# -- sessions


def test_a_session_is_found_by_its_owner_only() -> None:
    sessions = Few()
    session = sessions.enter(ALICE)
    assert sessions.find(session.id, ALICE) is session
    for id, caller in ((session.id, BOB), ("unknown", ALICE), ("", ALICE)):
        with pytest.raises(RequestError) as refused:
            sessions.find(id, caller)
        assert refused.value.code == "unknown_session"
        assert refused.value.what == RequestError("unknown_session").what, "alike, whatever the reason"
    assert sessions.by_id(session.id) is session
    assert session.governance.id == session.id
    assert session.governance.source == "explicit"


def test_ids_cannot_be_guessed() -> None:
    sessions = Few(limit=500, per_caller=500)
    ids = {sessions.enter().id for _ in range(500)}
    assert len(ids) == 500
    assert {len(id) for id in ids} == {32}


def test_the_longest_idle_makes_room() -> None:
    sessions = Few(limit=3, per_caller=3)
    first, second, third = (sessions.enter() for _ in range(3))
    sessions.find(first.id, ALICE)
    fourth = sessions.enter()
    assert sessions.ended == [second]
    assert sessions.all() == [third, first, fourth]


def test_who_has_too_many_makes_room_among_its_own() -> None:
    sessions = Few(limit=10, per_caller=2)
    bob = sessions.enter(BOB)
    first, second = sessions.enter(), sessions.enter()
    third = sessions.enter()
    assert sessions.ended == [first]
    assert sessions.all() == [bob, second, third]


def test_a_busy_session_is_not_ended_for_another() -> None:
    sessions = Few(limit=2, per_caller=2)
    listening, waiting = sessions.enter(), sessions.enter()
    listening.listening = object()
    flight: Any = object()
    waiting.flights[b"1"] = flight
    for caller in (ALICE, BOB):
        with pytest.raises(Denied) as refused:
            sessions.enter(caller)
        assert refused.value.data["retryAfter"] == 30
    waiting.flights.clear()
    sessions.enter(BOB)
    assert sessions.ended == [waiting]


def test_the_silent_end_and_those_who_listen_do_not(clock: Clock) -> None:
    sessions = Few(idle=60)
    silent, listening, busy = (sessions.enter() for _ in range(3))
    listening.listening = object()
    clock.now += 59
    sessions.sweep()
    assert sessions.ended == []
    sessions.find(busy.id, ALICE)
    clock.now += 2
    sessions.sweep()
    assert sessions.ended == [silent]
    listening.listening = None
    clock.now += 57
    sessions.sweep()
    assert sessions.ended == [silent], "it was heard of when it last listened"
    clock.now += 4
    sessions.sweep()
    assert sessions.ended == [silent, busy, listening]
    assert len(sessions) == 0


async def test_closing_ends_streams_and_questions_and_is_told_once() -> None:
    sessions = Few()
    session = sessions.enter()
    stream = session.open_stream()
    question: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answered.set_result(1)
    session.asks = {1: question, 2: answered}
    sessions.close(session)
    sessions.close(session)
    assert sessions.ended == [session]
    assert stream.finished
    assert session.standalone.finished
    assert question.cancelled()
    with pytest.raises(RequestError):
        sessions.find(session.id, ALICE)


class Life(RuleBasedStateMachine):
    """Opening and closing in any order: the caps hold, the counts are right."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Few(limit=4, per_caller=3)

    @rule(caller=st.sampled_from([ALICE, BOB]), busy=st.booleans())
    def opens(self, caller: Caller, busy: bool) -> None:
        own = [each for each in self.sessions.all() if each.caller is caller]
        full = len(own) == 3 and all(each.busy for each in own)
        crowded = len(self.sessions) == 4 and all(each.busy for each in self.sessions.all())
        try:
            self.sessions.enter(caller).listening = object() if busy else None
        except Denied:
            assert full or crowded
        else:
            assert not full

    @rule(data=st.data())
    def closes(self, data: st.DataObject) -> None:
        if len(self.sessions):
            self.sessions.close(data.draw(st.sampled_from(self.sessions.all())))

    @invariant()
    def caps_hold(self) -> None:
        assert len(self.sessions) <= 4
        counts = {caller.id: sum(each.caller is caller for each in self.sessions.all()) for caller in (ALICE, BOB)}
        assert max(counts.values()) <= 3
        assert self.sessions._counts == {id: count for id, count in counts.items() if count}
        assert len(set(map(id, self.sessions.ended))) == len(self.sessions.ended)


TestLife = Life.TestCase


# -- governance sessions of those who name none


def test_an_inferred_session_lasts_while_the_client_is_heard_of(clock: Clock) -> None:
    sessions = Few()
    session, seen = sessions.inferred(ALICE, "c/1")
    assert session.source == "inferred"
    clock.now += 1_799
    assert sessions.inferred(ALICE, "c/1")[0] is session
    clock.now += 1_000
    seen[0] = clock.now  # a call that the door noted itself
    clock.now += 1_799
    assert sessions.inferred(ALICE, "c/1")[0] is session
    clock.now += 1_800
    assert sessions.inferred(ALICE, "c/1")[0].id != session.id


def test_inferred_sessions_are_kept_apart_and_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INFERRED_KEPT", 3)
    sessions = Few()
    found = [sessions.inferred(caller, client)[0].id for caller in (ALICE, BOB) for client in ("c/1", "c/2")]
    assert len(set(found)) == 4
    assert len(sessions._inferred) == 3
    assert sessions.inferred(BOB, "c/2")[0].id == found[3]
    assert sessions.inferred(ALICE, "c/1")[0].id != found[0], "the longest unheard of made room"
    clock.now += 1_801
    renewed = sessions.inferred(BOB, "c/1")[0]
    assert len(sessions._inferred) == 3
    sessions.inferred(ALICE, "c/3")
    assert sessions.inferred(BOB, "c/1")[0] is renewed, "what was renewed is not the oldest"


# -- event streams


async def drain(stream: EventStream, after: int) -> list[tuple[str, bytes]]:
    return [event async for event in stream.follow(after)]


@given(st.lists(st.binary(max_size=4), max_size=12), st.integers(0, 12))
def test_a_resumed_stream_goes_on_exactly_after_the_last_seen_event(messages: list[bytes], seen: int) -> None:
    stream = EventStream("p1")
    ids = [stream.append(message) for message in messages]
    stream.finish()
    after = min(seen, len(messages))
    assert asyncio.run(drain(stream, after)) == list(zip(ids, messages, strict=True))[after:]
    assert len(set(ids)) == len(ids)
    assert stream.last == len(messages)


@given(st.lists(st.sampled_from(["append", "yield", "resume"]), max_size=30))
@example(["append", "append", "yield", "resume", "append", "yield"])
def test_nothing_is_lost_or_said_twice_however_often_the_connection_breaks(steps: list[str]) -> None:
    async def life() -> None:
        stream = EventStream("p1")
        heard: list[tuple[str, bytes]] = []
        made: list[tuple[str, bytes]] = []

        async def listen(after: int) -> None:
            async for id, message in stream.follow(after):
                heard.append((id, message))

        listener = asyncio.create_task(listen(0))
        for step in steps:
            if step == "append":
                message = str(len(made)).encode()
                made.append((stream.append(message), message))
            elif step == "resume":
                listener.cancel()
                await asyncio.wait([listener])
                listener = asyncio.create_task(listen(len(heard)))
            else:
                await asyncio.sleep(0)
        stream.finish()
        await listener
        assert heard == made

    asyncio.run(life())


async def test_a_second_follower_takes_over_and_the_first_ends() -> None:
    stream = EventStream("s")
    first = asyncio.create_task(drain(stream, 0))
    await asyncio.sleep(0)
    second = asyncio.create_task(drain(stream, 0))
    await asyncio.wait_for(first, 5)
    stream.append(b"x")
    stream.finish()
    assert first.result() == []
    assert await second == [("s-1", b"x")]


async def test_what_is_kept_is_bounded_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_BYTES", 10)
    stream = EventStream("s")
    for number in range(5):
        stream.append(b"%d---" % number)
    stream.finish()
    assert await drain(stream, 0) == [("s-4", b"3---"), ("s-5", b"4---")]
    huge = EventStream("h")
    huge.append(b"small")
    huge.append(b"x" * 100)
    huge.finish()
    assert await drain(huge, 0) == [("h-2", b"x" * 100)], "an answer is kept however large it is"


async def test_following_costs_what_is_new_and_not_what_is_kept() -> None:
    """Each message wakes the follower; looking through all that is kept each time would be quadratic."""
    stream = EventStream("s")
    for _ in range(20_000):
        stream.append(b"x")

    class Counted(type(stream._kept)):  # type: ignore[misc]
        looked_at = 0

        def __iter__(self) -> Any:
            for each in super().__iter__():
                Counted.looked_at += 1
                yield each

        def __reversed__(self) -> Any:
            for each in super().__reversed__():
                Counted.looked_at += 1
                yield each

    stream._kept = Counted(stream._kept)
    Counted.looked_at = 0
    heard: list[bytes] = []

    async def listen() -> None:
        async for _, message in stream.follow(20_000):
            heard.append(message)

    listener = asyncio.create_task(listen())
    for _ in range(50):
        await asyncio.sleep(0)
        stream.append(b"y")
    stream.finish()
    await listener
    assert len(heard) == 50
    assert Counted.looked_at <= 200


def test_only_an_event_that_was_sent_can_be_resumed_from() -> None:
    session = Few().enter()
    stream = session.open_stream()
    stream.append(b"1")
    session.standalone.append(b"a")
    assert session.find_stream(stream.event_id(1)) == (stream, 1)
    assert session.find_stream(stream.event_id(0)) == (stream, 0)
    assert session.find_stream("s-1") == (session.standalone, 1)
    for unknown in ("", "-", "1", "s-", "s-2", f"{stream.name}-2", "x-1", "s--1", "s-1.0", "s-" + "9" * 400, "s-1 "):
        assert session.find_stream(unknown) is None


def test_finished_streams_are_kept_for_a_while_and_open_ones_always() -> None:
    session = Few().enter()
    still_open = session.open_stream()
    made = []
    for _ in range(50):
        made.append(session.open_stream())
        made[-1].finish()
    newest = session.open_stream()
    assert still_open.name in session.streams
    assert newest.name in session.streams
    assert len(session.streams) <= 18
    assert session.find_stream(made[0].event_id(0)) is None
    assert session.find_stream(made[-1].event_id(0)) is not None
    assert len({stream.name for stream in made}) == 50, "a name is never used again"
