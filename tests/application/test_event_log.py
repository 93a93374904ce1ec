# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_hangar.application.event_codec import Codec, Record
from mcp_hangar.application.event_log import SLICE, EventLog, Overflow
from mcp_hangar.domain.events import CallAdmitted, CallCompleted, CallDenied, Event, SystemStopping

pytestmark = pytest.mark.anyio
KEY = b"k" * 32


class Seen:
    """A subscriber that keeps what it sees, and fails or hangs when it is told to."""

    effects_outside = False

    def __init__(self, name: str = "seen") -> None:
        self.name = name
        self.records: list[Record] = []
        self.failing: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.asked = 0
        self.closed = False

    async def see(self, records: Sequence[Record]) -> None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        self.records.extend(records)

    async def close(self) -> None:
        self.closed = True

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(record.data) for record in self.records]

    def count(self, type: str) -> int:
        return sum(record.type == type for record in self.records)


def build(*subscribers: Seen, backlog: int = 1 << 20, overflow: Overflow = Overflow.refuse) -> EventLog:
    codec = Codec(epoch="e", hash_key=KEY)
    return EventLog(subscribers, codec=codec, backlog_bytes=backlog, on_overflow=overflow, linger=0)


@asynccontextmanager
async def running(log: EventLog) -> AsyncIterator[EventLog]:
    drain = asyncio.create_task(log.drain())
    try:
        yield log
    finally:
        await log.close(timeout=5)
        await asyncio.wait([drain])
        assert drain.cancelled() or drain.exception() is None


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be")


def admitted(number: int, size: int = 2) -> CallAdmitted:
    return CallAdmitted(at=1.0, call_id=str(number), provider="p", arguments=b"x" * size)


def ended(number: int) -> CallCompleted:
    return CallCompleted(at=2.0, call_id=str(number), outcome="ok", seconds=1.0)


async def test_every_subscriber_sees_every_event_once_and_in_order() -> None:
    one, two = Seen("one"), Seen("two")
    async with running(build(one, two)) as log:
        for number in range(5 * SLICE):
            log.append(admitted(number))
        assert await log.flush(20)
        log.append(ended(0))
    for seen in (one, two):
        assert [record.seq for record in seen.records] == list(range(1, 5 * SLICE + 2))
        assert [line["call_id"] for line in seen.lines] == [*map(str, range(5 * SLICE)), "0"]
        assert seen.closed


async def test_appending_is_one_frame_and_wakes_nobody_twice() -> None:
    log = build(Seen())
    frames: list[str] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            frames.append(frame.f_code.co_qualname)

    event = admitted(1)
    sys.setprofile(profile)
    try:
        log.append(event)
    finally:
        sys.setprofile(None)
    assert frames == ["EventLog.append"]


async def test_an_idle_log_runs_nothing() -> None:
    seen = Seen()
    async with running(build(seen)) as log:
        log.append(SystemStopping(at=1.0))
        assert await log.flush(20)
        frames: list[str] = []

        def profile(frame: Any, event: str, arg: Any) -> None:
            if event == "call" and frame.f_code.co_filename == sys.modules[EventLog.__module__].__file__:
                frames.append(frame.f_code.co_qualname)

        sys.setprofile(profile)
        try:
            await asyncio.sleep(0.05)
        finally:
            sys.setprofile(None)
        assert frames == []


async def test_a_burst_is_encoded_in_slices_between_which_others_run() -> None:
    turns = 0
    seen = Seen()
    async with running(build(seen, backlog=1 << 28)) as log:
        for number in range(20 * SLICE):
            log.append(ended(number))
        while len(seen.records) < 20 * SLICE:
            turns += 1
            await asyncio.sleep(0)
    assert turns >= 20


async def test_large_arguments_are_hashed_in_pieces_and_to_the_same_hash() -> None:
    raw = bytes(range(256)) * (16 * 1024 * 4)
    turns = 0
    seen = Seen()
    async with running(build(seen, backlog=1 << 26)) as log:
        log.append(CallAdmitted(at=1.0, arguments=msgspec.Raw(raw)))
        while not seen.records:
            turns += 1
            await asyncio.sleep(0)
    assert turns >= len(raw) // (256 * 1024)
    assert seen.lines[0]["arguments_hash"] == blake3(raw, key=KEY).hexdigest()


async def test_a_failing_subscriber_refuses_calls_gets_the_same_again_and_recovery_lets_them_in() -> None:
    audit, views = Seen("audit"), Seen("views")
    async with running(build(audit, views)) as log:
        audit.failing = OSError(28, "No space left on device")
        log.append(admitted(1))
        await until(lambda: log.full)
        assert "audit" in log.detail
        assert "No space left" in log.detail
        await until(lambda: views.count("system.store_unavailable") == 1)
        assert views.count("call.admitted") == 1
        log.append(ended(1))
        await until(lambda: views.count("call.completed") == 1)
        assert log.full
        audit.failing = None
        await until(lambda: not log.full)
        assert log.detail == ""
        assert await log.flush(20)
    assert [line["seq"] for line in audit.lines] == [1, 2, 3]
    assert audit.count("system.store_unavailable") == 1
    assert views.count("system.store_unavailable") == 1


async def test_a_subscriber_that_hangs_holds_up_no_other() -> None:
    slow, quick = Seen("slow"), Seen("quick")
    slow.gate = asyncio.Event()
    async with running(build(slow, quick)) as log:
        for number in range(500):
            log.append(ended(number))
        await until(lambda: len(quick.records) == 500)
        assert slow.records == []
        assert not await log.flush(0.01)
        slow.gate.set()
        assert await log.flush(20)
    assert [record.seq for record in slow.records] == list(range(1, 501))


async def test_a_full_backlog_refuses_until_it_is_delivered_and_loses_no_end_of_a_call() -> None:
    audit = Seen("audit")
    audit.gate = asyncio.Event()
    async with running(build(audit, backlog=50_000)) as log:
        sent = 0
        while not log.full:
            log.append(admitted(sent))
            sent += 1
        assert "backlog" in log.detail
        for number in range(sent):
            if number < 20:
                log.append(ended(number))
        audit.gate.set()
        await until(lambda: not log.full)
        assert await log.flush(20)
    assert audit.count("call.admitted") == sent
    assert audit.count("call.completed") == 20
    assert audit.count("system.events_lost") == 0


async def test_a_flood_of_refusals_while_full_is_counted_not_kept() -> None:
    audit = Seen("audit")
    audit.gate = asyncio.Event()
    async with running(build(audit, backlog=20_000)) as log:
        while not log.full:
            log.append(admitted(0))
        for number in range(10_000):
            log.append(CallDenied(at=1.0, call_id=str(number), code="record_unavailable"))
        log.append(ended(0))
        audit.gate.set()
        assert await log.flush(20)
        log.append(ended(1))
        assert await log.flush(20)
    lost = [line["count"] for line in audit.lines if line["type"] == "system.events_lost"]
    assert sum(lost) == 10_000
    assert audit.count("call.denied") == 0
    assert audit.count("call.completed") == 2


async def test_in_drop_mode_calls_go_on_and_what_is_dropped_is_counted_exactly() -> None:
    audit, views = Seen("audit"), Seen("views")
    audit.failing = BrokenPipeError()
    async with running(build(audit, views, backlog=30_000, overflow=Overflow.drop)) as log:
        for number in range(2_000):
            log.append(ended(number))
            assert not log.full
            if number % 20 == 0:
                await until(lambda: len(views.records) >= log.seq)
                await asyncio.sleep(0)
        await until(lambda: views.count("call.completed") == 2_000)
        audit.failing = None
        assert await log.flush(20)
        log.append(ended(2_000))
        assert await log.flush(20)
        await until(lambda: any(line["type"] == "system.events_lost" for line in audit.lines))
        assert await log.flush(20)
    lost = sum(line["count"] for line in audit.lines if line["type"] == "system.events_lost")
    lost_of_lost = {record.seq for record in views.records} - {record.seq for record in audit.records}
    counts_lost = sum(
        line["count"] for line in views.lines if line["type"] == "system.events_lost" and line["seq"] in lost_of_lost
    )
    assert audit.records[-1].seq == log.seq
    assert lost + counts_lost == len(lost_of_lost) > 0
    assert "audit" in next(line["reason"] for line in audit.lines if line["type"] == "system.events_lost")


async def test_an_event_that_cannot_be_written_is_counted_and_the_rest_goes_on() -> None:
    seen = Seen()
    async with running(build(seen)) as log:
        log.append(ended(1))
        log.append(SystemStopping(at=float("nan")))
        log.append(ended(2))
        assert await log.flush(20)
        log.append(ended(3))
    assert [line.get("call_id") for line in seen.lines if line["type"] == "call.completed"] == ["1", "2", "3"]
    assert seen.count("system.events_lost") == 1


async def test_closing_delivers_what_is_left_even_if_nothing_drains_any_more() -> None:
    seen = Seen()
    log = build(seen)
    drain = asyncio.create_task(log.drain())
    await asyncio.sleep(0)
    drain.cancel()
    await asyncio.wait([drain])
    for number in range(3 * SLICE):
        log.append(ended(number))
    await log.close(timeout=20)
    assert len(seen.records) == 3 * SLICE
    assert seen.closed


async def test_closing_has_an_end_though_a_subscriber_never_answers() -> None:
    stuck, fine = Seen("stuck"), Seen("fine")
    stuck.gate = asyncio.Event()
    log = build(stuck, fine)
    drain = asyncio.create_task(log.drain())
    log.append(ended(1))
    await until(lambda: stuck.asked == 1)
    log.append(ended(2))
    await log.close(timeout=0.05)
    await asyncio.wait([drain])
    assert [record.seq for record in fine.records] == [1, 2]
    assert stuck.closed
    assert fine.closed


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 150)), min_size=1, max_size=12), st.booleans())
async def test_whatever_fails_when_each_subscriber_sees_a_gapless_prefix_in_refuse_mode(
    steps: list[tuple[int, int]], fail_first: bool
) -> None:
    one, two = Seen("one"), Seen("two")
    one.failing = OSError("no") if fail_first else None
    log = build(one, two, backlog=1 << 24)
    drain = asyncio.create_task(log.drain())
    appended = 0
    for action, count in steps:
        for _ in range(count):
            log.append(ended(appended))
            appended += 1
        if action == 1:
            two.failing = OSError("no")
        elif action == 2:
            two.failing = None
        await asyncio.sleep(0)
    one.failing = two.failing = None
    await log.close(timeout=20)
    await asyncio.wait([drain])
    for seen in (one, two):
        assert [record.seq for record in seen.records] == list(range(1, log.seq + 1))
        assert [line["call_id"] for line in seen.lines if line["type"] == "call.completed"] == [
            str(number) for number in range(appended)
        ]


def test_the_size_of_arguments_and_names_counts_toward_the_backlog() -> None:
    for event in (
        admitted(1, size=40_000),
        CallDenied(at=1.0, code="denied", name="n" * 40_000),
        CallDenied(at=1.0, code="denied", reason="r" * 40_000),
    ):
        log = build(backlog=39_000)
        log.append(event)
        assert log.full
    small: Event = admitted(1)
    log = build(backlog=39_000)
    log.append(small)
    assert not log.full
