# SPDX-License-Identifier: MIT
"""The records that are kept: what a filter matches, what a page holds, who hears of news. Cursors and gaps are tested
with the views (`test_views.py`) and through the live stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.application import kept_records
from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.kept_records import FAMILIES, TYPES, EventFilter, EventPage, KeptRecords
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.events import (
    AuthFailed,
    CallAdmitted,
    CallCompleted,
    CallDenied,
    Event,
    ProviderStateChanged,
    Severity,
    SystemStopping,
)

pytestmark = pytest.mark.anyio
EVENTS: list[Event] = [
    SystemStopping(at=1.0),
    CallAdmitted(at=2.0, call_id="c1", provider="time", session_id="s1"),
    CallCompleted(at=3.0, call_id="c1", provider="time", session_id="s1", outcome="ok", seconds=1.0),
    CallDenied(at=4.0, call_id="c2", provider="git", session_id="s2", code="denied", severity=Severity.medium),
    ProviderStateChanged(at=5.0, provider="git", before="cold", after="starting", severity=Severity.low),
    AuthFailed(at=6.0, door="rest", severity=Severity.critical),
]


def kept(events: Iterable[Event], keep: int = 1 << 20) -> KeptRecords:
    made = KeptRecords(epoch="e1", keep=keep)
    codec = Codec(epoch="e1", hash_key=b"k")
    for seq, event in enumerate(events, 1):
        made.add([codec.encode(event, seq)])
    return made


def seqs(page: EventPage) -> list[int]:
    return [json.loads(bytes(event))["seq"] for event in page.events]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (EventFilter(), [1, 2, 3, 4, 5, 6]),
        (EventFilter(families=("call",)), [2, 3, 4]),
        (EventFilter(families=("call.denied", "auth")), [4, 6]),
        (EventFilter(providers=("git", "none")), [4, 5]),
        (EventFilter(severity="info"), [1, 2, 3, 4, 5, 6]),
        (EventFilter(severity="medium"), [4, 6]),
        (EventFilter(severity="critical"), [6]),
        (EventFilter(call="c1"), [2, 3]),
        (EventFilter(session="s2"), [4]),
        (EventFilter(families=("call",), providers=("time",), severity="low"), []),
    ],
)
async def test_a_filter_matches_what_it_says(where: EventFilter, expected: list[int]) -> None:
    made = kept(EVENTS)
    where.check()
    assert seqs(await made.page(where=where)) == expected
    assert seqs(await made.page("e1:0", where=where)) == expected
    assert seqs(await made.page("e1:3", where=where)) == [seq for seq in expected if seq > 3]
    assert seqs(await made.page(limit=1, where=where)) == expected[-1:]
    first = await made.page("e1:0", limit=1, where=where)
    assert seqs(first) == expected[:1]
    assert seqs(await made.page(first.cursor, where=where)) == expected[1:]


def test_every_severity_has_its_rank_and_every_event_its_family() -> None:
    for severity in Severity:
        EventFilter(severity=severity.value).check()
    for word in (*FAMILIES, *TYPES):
        EventFilter(families=(word,)).check()
    assert {"call", "auth", "system"} < set(FAMILIES)


@pytest.mark.parametrize("where", [EventFilter(families=("cal",)), EventFilter(severity="bad")])
def test_a_filter_of_words_that_no_event_has_is_refused(where: EventFilter) -> None:
    with pytest.raises(RequestError) as caught:
        where.check()
    assert caught.value.code == "invalid_params"


@given(
    st.lists(st.sampled_from(EVENTS), max_size=80),
    st.integers(1, 7),
    st.integers(1, 20),
    st.sampled_from([EventFilter(), EventFilter(families=("call",)), EventFilter(severity="medium")]),
)
async def test_pages_of_any_size_searched_in_pieces_of_any_size_hold_the_same(
    events: list[Event], piece: int, limit: int, where: EventFilter
) -> None:
    made = kept(events)
    whole = [record.seq for record in made.after(0, 1000) if where.matches(record)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_records, "SLICE", piece)
        found: list[int] = []
        page = await made.page("e1:0", limit, where)
        while page.events:
            found += seqs(page)
            page = await made.page(page.cursor, limit, where)
        assert found == whole
        assert seqs(await made.page("", limit, where)) == whole[-limit:]


async def test_what_is_forgotten_during_a_search_is_told_as_a_gap() -> None:
    made = kept((SystemStopping(at=1.0) for _ in range(3_000)), keep=1 << 20)
    codec = Codec(epoch="e1", hash_key=b"k")
    searching = asyncio.create_task(made.page("e1:0", where=EventFilter(families=("call",))))
    await asyncio.sleep(0)  # it has looked at the first piece
    made.add([codec.encode(SystemStopping(at=2.0), seq) for seq in range(3_001, 20_000)])
    page = await searching
    assert page.gap is not None
    assert page.gap.first == "e1:1001"
    assert int(page.gap.last.partition(":")[2]) == int(made.oldest.partition(":")[2]) - 1


async def test_news_wakes_all_who_wait_and_nobody_else_is_remembered() -> None:
    made = kept(EVENTS)
    await made.news(5)  # there is one already
    waiting = [asyncio.create_task(made.news(6)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert len(made._waiting) == 2
    made.add([Codec(epoch="e1", hash_key=b"k").encode(SystemStopping(at=7.0), 7)])
    await asyncio.gather(*waiting[1:])
    assert not made._waiting


def test_what_is_forgotten_is_told_to_whoever_adds() -> None:
    made = KeptRecords(epoch="e1", keep=1_000)
    codec = Codec(epoch="e1", hash_key=b"k")
    records = [codec.encode(SystemStopping(at=1.0), seq) for seq in range(1, 4_001)]
    forgotten = [gone.seq for record in records for gone in made.add([record])]
    still = [record.seq for record in made.after(0, 5_000)]
    assert forgotten + still == list(range(1, 4_001))
    assert sum(len(record.data) for record in made.after(0, 5_000)) <= 1_000
