# SPDX-License-Identifier: MIT
"""The cheap provider answers what it is asked, at the size that it was told."""

from __future__ import annotations

import json

import pytest

from benchmarks.shapes import FIRST_ID, LARGE, Door, Shape, call_body
from benchmarks.upstream import Provider


@pytest.mark.parametrize("size", [226, LARGE])
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_an_answer_has_the_size_asked_for_and_the_id_of_its_request(era: str, size: int) -> None:
    provider = Provider(era=era, answer_bytes=size, tools=1)
    before, after = call_body(Shape(era="modern" if era == "modern" else "legacy", request_bytes=LARGE), Door(port=1))
    said = provider.answer(b"%b%d%b" % (before, FIRST_ID, after))
    assert said is not None and len(said) == size
    message = json.loads(said)
    assert message["id"] == FIRST_ID
    assert message["result"].get("resultType") == ("complete" if era == "modern" else None)


def test_the_id_is_found_wherever_a_client_writes_it() -> None:
    provider = Provider(era="legacy", answer_bytes=226, tools=1)
    params = {"name": "echo", "arguments": {"text": "x" * 500}}
    said = provider.answer(
        json.dumps({"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": "a-1"}).encode()
    )
    assert said is not None and json.loads(said)["id"] == "a-1"


def test_what_is_no_call_is_answered_by_the_book_and_counted() -> None:
    provider = Provider(era="modern", answer_bytes=226, tools=3)

    def asked(method: str) -> dict[str, object]:
        said = provider.answer(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode())
        assert said is not None
        answer: dict[str, object] = json.loads(said)
        return answer

    listed = asked("tools/list")["result"]
    assert isinstance(listed, dict) and [tool["name"] for tool in listed["tools"]] == ["echo", "tool-1", "tool-2"]
    assert "result" in asked("server/discover")
    assert "error" in asked("initialize"), "it is of the other era"
    assert provider.answer(b'{"jsonrpc":"2.0","method":"notifications/initialized"}') is None
    assert provider.counts["tools/list"] == 1
