# SPDX-License-Identifier: MIT
"""A call has the size it is said to have, at every door."""

from __future__ import annotations

import json

import pytest

from benchmarks.shapes import FIRST_ID, LARGE, SMALL, Door, Era, Shape, call_body, call_bytes


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("tool", ["echo", "up__echo"])
def test_a_request_has_the_size_of_its_shape_whatever_the_tool_is_called(era: Era, size: int, tool: str) -> None:
    before, after = call_body(Shape(era=era, request_bytes=size), Door(port=1, tool=tool))
    body = b"%b%d%b" % (before, FIRST_ID, after)
    assert len(body) == size
    message = json.loads(body)
    assert message["id"] == FIRST_ID and message["params"]["name"] == tool
    assert ("_meta" in message["params"]) == (era == "modern")


def test_without_blanks_there_is_none_in_the_argument() -> None:
    _, after = call_body(Shape(request_bytes=LARGE, blanks=False), Door(port=1))
    assert b" " not in after
    assert b" " in call_body(Shape(request_bytes=LARGE), Door(port=1))[1]


def test_the_head_says_how_long_the_body_is_and_who_calls() -> None:
    before, after = call_bytes(Shape(era="legacy"), Door(port=1, token="t"), "s")
    head, _, body = (b"%b%d%b" % (before, FIRST_ID, after)).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"Authorization: Bearer t" in head and b"Mcp-Session-Id: s" in head
