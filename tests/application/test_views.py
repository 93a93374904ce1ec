# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.kept_records import EventPage
from mcp_hangar.application.views import CallFilter, CallPage, Views
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.events import (
    CallAdmitted,
    CallCompleted,
    CallDenied,
    CallFailed,
    Event,
    ProviderMessageRefused,
    ProviderStartFailed,
    SystemStopping,
)

pytestmark = pytest.mark.anyio


async def views(events: Iterable[Event], keep: int = 1 << 20) -> Views:
    made = Views(epoch="e1", keep=keep)
    codec = Codec(epoch="e1", hash_key=b"k")
    for seq, event in enumerate(events, 1):
        await made.see([codec.encode(event, seq)])
    return made


def admitted(
    number: int,
    provider: str = "time",
    method: str = "tools/call",
    name: str = "now",
    caller: str = "anonymous",
    session_id: str = "s1",
) -> CallAdmitted:
    return CallAdmitted(
        at=1000.0 + number,
        call_id=f"c{number}",
        provider=provider,
        method=method,
        name=name,
        caller=caller,
        session_id=session_id,
        arguments=b"{}",
    )


def completed(number: int, provider: str = "time", outcome: str = "ok") -> CallCompleted:
    return CallCompleted(at=2000.0 + number, call_id=f"c{number}", provider=provider, outcome=outcome, seconds=0.5)


def seqs(page: EventPage) -> list[int]:
    return [json.loads(bytes(event))["seq"] for event in page.events]


def ids(page: CallPage) -> list[str]:
    return [row.id for row in page.calls]


async def test_a_call_is_one_row_from_admission_to_end() -> None:
    made = await views([admitted(1), completed(1)])
    row = made.call("c1")
    assert row is not None
    assert (row.state, row.outcome, row.provider, row.name, row.session) == ("completed", "ok", "time", "now", "s1")
    assert (row.admitted_at, row.ended_at) == ("1970-01-01T00:16:41.000000Z", "1970-01-01T00:33:21.000000Z")
    assert row.seconds == 0.5
    assert len(row.arguments_hash) == 64
    assert [json.loads(bytes(event))["type"] for event in await made.events_of("c1")] == [
        "call.admitted",
        "call.completed",
    ]


async def test_a_denied_call_tells_policy_reason_and_code() -> None:
    event = CallDenied(
        at=1.0, call_id="c1", provider="git", name="rm", code="denied", policy_id="tools", reason="on the deny list"
    )
    row = (await views([event])).call("c1")
    assert row is not None
    assert (row.state, row.policy, row.reason, row.code) == ("denied", "tools", "on the deny list", "denied")
    assert row.admitted_at == ""


async def test_filters_pick_calls_newest_first() -> None:
    made = await views(
        [
            admitted(1),
            admitted(2, provider="git", caller="token", session_id="s2"),
            completed(2, provider="git", outcome="tool_error"),
            admitted(3, method="prompts/get", name="p"),
            CallFailed(at=2003.0, call_id="c3", provider="time", reason="timeout", code="timeout", seconds=1.0),
        ]
    )
    assert ids(await made.calls(CallFilter())) == ["c3", "c2", "c1"]
    assert ids(await made.calls(CallFilter(provider="time"))) == ["c3", "c1"]
    assert ids(await made.calls(CallFilter(method="prompts/get"))) == ["c3"]
    assert ids(await made.calls(CallFilter(name="now"))) == ["c2", "c1"]
    assert ids(await made.calls(CallFilter(outcome="tool_error"))) == ["c2"]
    assert ids(await made.calls(CallFilter(outcome="failed"))) == ["c3"]
    assert ids(await made.calls(CallFilter(outcome="running"))) == ["c1"]
    assert ids(await made.calls(CallFilter(caller="token"))) == ["c2"]
    assert ids(await made.calls(CallFilter(session="s2"))) == ["c2"]
    assert ids(await made.calls(CallFilter(since="1970-01-01T00:33:23"))) == ["c3"]
    assert ids(await made.calls(CallFilter(provider="none"))) == []


async def test_pages_of_calls_join_without_overlap_while_new_ones_arrive() -> None:
    made = await views([admitted(number) for number in range(1, 11)])
    first = await made.calls(CallFilter(), limit=4)
    codec = Codec(epoch="e1", hash_key=b"k")
    await made.see([codec.encode(admitted(11), 11)])
    second = await made.calls(CallFilter(), before=first.cursor, limit=4)
    third = await made.calls(CallFilter(), before=second.cursor, limit=4)
    assert ids(first) + ids(second) + ids(third) == [f"c{number}" for number in range(10, 0, -1)]
    assert third.cursor == ""


async def test_counters_follow_each_provider() -> None:
    made = await views(
        [
            admitted(1),
            admitted(2),
            admitted(3),
            completed(1),
            completed(2, outcome="tool_error"),
            CallFailed(
                at=5.0, call_id="c3", provider="time", reason="timeout", code="timeout", seconds=2.0, detail="slow"
            ),
            CallDenied(at=5.0, call_id="c4", provider="git", code="denied"),
            ProviderStartFailed(at=6.0, provider="git", code="start_failed", detail="no such file"),
            ProviderMessageRefused(at=6.0, provider="git", count=3),
            admitted(5, provider="git"),
        ]
    )
    time, git = made.counts["time"], made.counts["git"]
    assert (time.calls, time.ok, time.tool_errors, time.failed, time.running, time.seconds) == (3, 1, 1, 1, 0, 3.0)
    assert (time.last_error, git.last_error) == ("slow", "no such file")
    assert (git.calls, git.denied, git.running, git.refused_messages) == (1, 1, 1, 3)


async def test_a_cursor_goes_on_where_it_stopped() -> None:
    made = await views([SystemStopping(at=float(number)) for number in range(10)])
    newest = await made.kept.page(limit=3)
    assert seqs(newest) == [8, 9, 10]
    page = await made.kept.page(after="e1:4", limit=3)
    assert (seqs(page), page.cursor, page.gap) == ([5, 6, 7], "e1:7", None)
    end = await made.kept.page(after="e1:10")
    assert (seqs(end), end.cursor, end.gap) == ([], "e1:10", None)
    assert seqs(await made.kept.page(after="e1:0")) == list(range(1, 11))


async def test_whoever_asks_for_what_is_no_longer_kept_is_told_the_gap() -> None:
    made = await views([SystemStopping(at=float(number)) for number in range(100)], keep=2_000)
    page = await made.kept.page(after="e1:3", limit=1000)
    kept = seqs(page)
    assert 0 < len(kept) < 20
    assert page.gap is not None
    assert (page.gap.first, page.gap.last) == ("e1:4", f"e1:{kept[0] - 1}")
    assert (await made.kept.page(after=f"e1:{kept[0] - 1}")).gap is None


async def test_a_cursor_of_another_run_is_a_gap_and_not_an_empty_answer() -> None:
    made = await views([SystemStopping(at=1.0)])
    page = await made.kept.page(after="e0:77")
    assert seqs(page) == [1]
    assert page.gap is not None
    assert page.gap.first == "e0:77"


@pytest.mark.parametrize("cursor", ["x", ":1", "e1:", "e1:-1", "e1:1.5", "e1:٣", "e1:" + "9" * 30, "e1:999"])
async def test_an_invalid_cursor_is_refused(cursor: str) -> None:
    made = await views([SystemStopping(at=1.0)])
    with pytest.raises(RequestError) as caught:
        await made.kept.page(after=cursor)
    assert caught.value.code == "invalid_cursor"


async def test_memory_is_bounded_in_records_and_calls() -> None:
    made = await views((admitted(number) for number in range(5_000)), keep=100_000)
    assert sum(map(len, (await made.kept.page(limit=10_000)).events)) <= 100_000
    calls = (await made.calls(CallFilter(), limit=10_000)).calls
    assert len(calls) == len((await made.kept.page(limit=10_000)).events)
    assert made.call("c0") is None
    assert made.call("c4999") is not None
    assert made.counts["time"].calls == 5_000


async def test_the_end_of_a_call_whose_beginning_is_forgotten_is_still_a_row() -> None:
    made = await views([completed(1)])
    row = made.call("c1")
    assert row is not None
    assert row.state == "completed"
    assert made.counts["time"].running == 0


@given(st.integers(0, 60), st.integers(1, 20), st.integers(200, 6000))
async def test_reading_page_by_page_misses_nothing_that_is_kept(count: int, limit: int, keep: int) -> None:
    made = await views([SystemStopping(at=float(number)) for number in range(count)], keep=keep)
    found: list[int] = []
    cursor = "e1:0"
    for _ in range(count + 2):
        page = await made.kept.page(after=cursor, limit=limit)
        found += seqs(page)
        if page.cursor == cursor:
            break
        cursor = page.cursor
    assert found == list(range(count - len(found) + 1, count + 1))
    assert len(found) == len((await made.kept.page(limit=1000)).events)
