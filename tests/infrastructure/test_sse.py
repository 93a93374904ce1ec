# SPDX-License-Identifier: MIT
from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.infrastructure.transports.sse import EventReader, EventTooLarge, ServerSentEvent

STREAM = (
    b"\xef\xbb\xbf: a comment\r\n"
    b"id: 7\nretry: 1500\ndata:\n\n"
    b'event: message\r\ndata: {"a": "z\xc5\xbcb"}\r\n\r\n'
    b"data: one\rdata:two\rid: 8\r\r"
    b"data\ndata:  kept blank\n\n"
    b"event: endpoint\ndata: /message?sessionId=1\n\n"
    b"nonsense: x\n:\n\n"
    b"data: never finished"
)
EVENTS = [
    ServerSentEvent("message", '{"a": "zżb"}'.encode()),
    ServerSentEvent("message", b"one\ntwo"),
    ServerSentEvent("message", b"\n kept blank"),
    ServerSentEvent("endpoint", b"/message?sessionId=1"),
]


def read(*pieces: bytes, limit: int = 1000) -> tuple[list[ServerSentEvent], EventReader]:
    reader = EventReader(limit)
    return [event for piece in pieces for event in reader.feed(piece)], reader


def test_a_stream_is_read_the_same_however_it_is_split_in_three() -> None:
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1, 7):
            events, reader = read(STREAM[:first], STREAM[first:second], STREAM[second:])
            assert events == EVENTS
            assert (reader.last_id, reader.retry) == (b"8", 1.5)


def test_a_stream_is_read_the_same_byte_by_byte() -> None:
    events, reader = read(*(STREAM[index : index + 1] for index in range(len(STREAM))))
    assert events == EVENTS
    assert (reader.last_id, reader.retry) == (b"8", 1.5)


@given(
    st.lists(st.tuples(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))), st.booleans())),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(min_value=0, max_value=400), max_size=6),
)
def test_what_is_written_as_events_is_read_as_events(
    events: list[tuple[list[str], bool]], end: str, cuts: list[int]
) -> None:
    text = "".join(
        ("id: x" + end if named else "") + "".join(f"data: {line}{end}" for line in lines) + end
        for lines, named in events
    ).encode()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    found, _ = read(*(text[a:b] for a, b in itertools.pairwise(places)), limit=10**6)
    wanted = ["\n".join(lines).encode() for lines, _ in events]
    assert [event.data for event in found] == [data for data in wanted if data]


def test_a_priming_event_without_data_is_no_event_but_its_id_counts() -> None:
    events, reader = read(b"id: start\ndata:\n\n")
    assert events == []
    assert reader.last_id == b"start"


def test_an_id_that_no_header_could_carry_is_ignored() -> None:
    _, reader = read(b"id: good\n\nid: a\x00b\n\nid: \x1b[0m\n\nid: " + b"x" * 2000 + b"\n\n", limit=10_000)
    assert reader.last_id == b"good"


def test_a_retry_that_is_no_number_is_ignored_and_a_long_one_is_bounded() -> None:
    assert read(b"retry: soon\n\n")[1].retry is None
    assert read(b"retry: 99999999\n\n")[1].retry == 60.0


@pytest.mark.parametrize(
    "endless", [b"data: " + b"x" * 40, b"data: xxx\n", b"data:\n", b": comment without end", b"event: x" * 5]
)
def test_an_endless_event_is_refused_at_the_limit(endless: bytes) -> None:
    reader = EventReader(1000)
    with pytest.raises(EventTooLarge):
        list(map(reader.feed, itertools.repeat(endless, 10_000)))


def test_endless_comments_between_events_are_harmless() -> None:
    reader = EventReader(100)
    for _ in range(1000):
        assert reader.feed(b": keep-alive\n\n") == []


def test_an_event_of_exactly_the_limit_passes() -> None:
    events, _ = read(b"data: " + b"x" * 1000 + b"\n\n")
    assert len(events[0].data) == 1000
