# SPDX-License-Identifier: MIT
"""A wrong answer is noticed, whatever its wire form."""

from __future__ import annotations

import pytest

from benchmarks.load import Heads, Wrong, check, message_of, percentile, unchunked

ANSWER = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"so it is"}],"isError":false}}'


def test_the_right_answer_passes() -> None:
    check(ANSWER, 7, b"so it is")


@pytest.mark.parametrize(
    "said",
    [
        ANSWER.replace(b":7,", b":8,"),
        ANSWER.replace(b"false", b"true"),
        ANSWER.replace(b"so it is", b"as it were"),
        b'{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"so it is"}}',
        ANSWER[:-1],
        b"",
    ],
)
def test_a_wrong_answer_is_no_measurement(said: bytes) -> None:
    with pytest.raises(Wrong):
        check(said, 7, b"so it is")


def test_the_message_is_the_last_events_data() -> None:
    body = b"event: message\r\ndata: {}\r\n\r\nevent: message\r\ndata: " + ANSWER + b"\r\n\r\n"
    assert message_of(body, events=True) == ANSWER
    assert message_of(ANSWER, events=False) == ANSWER


def test_chunks_are_put_together_and_an_unfinished_body_is_waited_for() -> None:
    whole = b"4;x=y\r\nso i\r\n4\r\nt is\r\n0\r\n\r\n"
    assert unchunked(whole) == b"so it is"
    assert all(unchunked(whole[:size]) is None for size in range(len(whole) - 3))


def test_a_head_is_read_once_and_anything_but_200_is_wrong() -> None:
    heads = Heads()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert heads[head] is heads[head]
    assert heads[head].length is None and heads[head].events
    assert heads[b"HTTP/1.1 200 OK\r\ncontent-length:  12\r\n\r\n"].length == 12
    for bad in (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        with pytest.raises(Wrong):
            heads[bad]


def test_percentiles_are_observed_times() -> None:
    assert percentile(list(range(1, 101)), 50) == 51
    assert percentile(list(range(1, 101)), 99) == 100
    assert percentile([5], 99) == 5
    assert percentile([], 50) == 0
