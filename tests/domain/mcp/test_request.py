# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.request import peek_id, read_request
from tests.domain.mcp.json_texts import blanks, objects, pairs_of, strings, texts

ENVELOPE = st.sampled_from(["jsonrpc", "id", "method", "params", "x"])
PARAMS = st.sampled_from(["name", "arguments", "_meta", "é", "x"])
META = st.sampled_from(["progressToken", "io.modelcontextprotocol/protocolVersion", "x"])
DEPTH = 64


@st.composite
def requests(draw: st.DrawFn) -> str:
    """A tools/call with repeated keys here and there, and anything at all in its arguments."""

    def members(fixed: list[tuple[str, str]], spare: st.SearchStrategy[str]) -> str:
        extra = draw(st.lists(st.tuples(spare, texts), max_size=2))
        every = draw(st.permutations([*fixed, *extra]))
        return "{" + ",".join(f"{draw(blanks)}{json.dumps(k)}{draw(blanks)}:{v}" for k, v in every) + "}"

    meta = members([("progressToken", draw(strings))], st.sampled_from(["progressToken", "x", "y"]))
    params = members(
        [("name", '"tool"'), ("arguments", draw(objects(texts))), ("_meta", meta)],
        st.sampled_from(["arguments", "x", "y", "é"]),
    )
    return members(
        [("jsonrpc", '"2.0"'), ("id", "1"), ("method", '"tools/call"'), ("params", params)],
        st.sampled_from(["params", "x", "y"]),
    )


def ambiguous(text: str) -> bool:
    """The reference: does any of the three objects that Hangar reads repeat a key?"""
    node = pairs_of(text)
    for key in ("params", "_meta", ""):
        if len(dict(node)) != len(node):
            return True
        inner = dict(node).get(key)
        if not isinstance(inner, list):
            return False
        node = inner
    return False


@given(requests())
@example('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool","arguments":{"a":1,"a":2}}}')
@example('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool","n\\u0061me":"tool"}}')
@example('{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping","params":{"name":"tool"}}')
def test_a_request_is_refused_exactly_if_envelope_params_or_meta_repeat_a_key(text: str) -> None:
    if ambiguous(text):
        with pytest.raises(RequestError) as refused:
            read_request(text.encode(), DEPTH)
        assert refused.value.code == "duplicate_key"
        return
    request = read_request(text.encode(), DEPTH)
    top = dict(pairs_of(text))
    params = top["params"]
    assert isinstance(params, list)
    assert request.name == "tool"
    assert list(request.params) == [key for key, _ in params]
    assert request.id == b"1"
    for key, value in request.params.items():
        assert bytes(value).decode() in text, f"{key} is spelled as it came"


@pytest.mark.parametrize("id", ["1", "-1", '"1"', '""', '"\\u0031\\""', "12345678901234567890"])
def test_an_id_keeps_its_type_and_spelling(id: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"ping"}}'.encode()
    assert read_request(body, DEPTH).id == id.encode()
    assert peek_id(body) == id.encode()


@pytest.mark.parametrize("id", ["null", "1.0", "1e3", "true", "[]", "{}", "123456789012345678901"])
def test_an_id_of_another_type_is_refused_and_not_repeated(id: str) -> None:
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"ping"}}'.encode()
    with pytest.raises(RequestError) as refused:
        read_request(body, DEPTH)
    assert refused.value.code == "invalid_request"
    assert peek_id(body) == b""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "parse_error"),
        (b"nonsense", "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}', "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","x":"\xff"}', "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","\xff":1}', "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","x":"\xed\xa0\x80"}', "parse_error"),
        ('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"), "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"p\\ud800"}', "parse_error"),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\udfff"}}', "parse_error"),
        (b" []", "batch_unsupported"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', "batch_unsupported"),
        (b"1", "invalid_request"),
        (b"null", "invalid_request"),
        (b'{"id":1,"method":"ping"}', "invalid_request"),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', "invalid_request"),
        (b'{"jsonrpc":2.0,"id":1,"method":"ping"}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":[]}}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1}', "invalid_request"),
        (b'{"jsonrpc":"2.0","result":{}}', "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","x":' + b"[" * 65 + b"]" * 65 + b"}", "too_deep"),
        (b"[" * 1_000_000, "too_deep"),
    ],
)
def test_anything_but_one_readable_message_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_request(body, DEPTH)
    assert refused.value.code == code


def test_half_an_emoji_in_what_is_passed_on_is_passed_on_as_one_unknown_character() -> None:
    params = rb'{"name":"t","arguments":{"a":"x\ud83d","b":"\ud83d\ude00"}}'
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
    request = read_request(body, DEPTH)
    assert (request.id, request.name) == (b"1", "t")
    assert bytes(request.params["arguments"]) == rb'{"a":"x\ufffd","b":"\ud83d\ude00"}'


@given(st.binary(max_size=60))
def test_no_body_does_worse_than_a_request_error(body: bytes) -> None:
    with contextlib.suppress(RequestError):
        read_request(body, DEPTH)
    peek_id(body)


def test_depth_is_bounded_without_parsing_and_strings_do_not_count() -> None:
    prefix = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":'
    assert read_request(prefix + b'"' + b"[" * 100 + b'"}}', 3).id == b"1"
    assert read_request(prefix + b"[[]]}}", 4).id == b"1"
    with pytest.raises(RequestError) as refused:
        read_request(prefix + b"[[]]}}", 3)
    assert refused.value.code == "too_deep"
    assert "3" in refused.value.what


@pytest.mark.parametrize(
    ("method", "key"),
    [("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri"), ("tasks/get", "taskId")],
)
def test_the_name_is_what_the_header_mirrors(method: str, key: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {key: "ü+x"}}).encode()
    assert read_request(body, DEPTH).name == "ü+x"
    bare = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
    assert read_request(bare, DEPTH).name == ""


def test_methods_that_name_nothing_have_no_name() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"name":"x"}}'
    assert read_request(body, DEPTH).name == ""


def test_notifications_and_responses_are_told_apart() -> None:
    notification = read_request(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}', DEPTH)
    assert (notification.id, notification.method, bytes(notification.params["requestId"])) == (
        b"",
        "notifications/cancelled",
        b"1",
    )
    response = read_request(b'{"jsonrpc":"2.0","id":3,"result":{"action":"accept"}}', DEPTH)
    assert (response.id, response.method, bytes(response.result)) == (b"3", "", b'{"action":"accept"}')
    failed = read_request(b'{"jsonrpc":"2.0","id":3,"error":{"code":-1,"message":"no"}}', DEPTH)
    assert (bytes(failed.error), len(failed.result)) == (b'{"code":-1,"message":"no"}', 0)


def test_params_and_meta_that_are_absent_are_not_one_object() -> None:
    request = read_request(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', DEPTH)
    assert request.params == request.meta == {}
    assert request.params is not request.meta


@pytest.mark.parametrize("body", [b"", b"[", b'{"\xff":1}', b'{"id":', b"{" * 100_000, b'{"method":"x"}', b"[1]"])
def test_an_id_that_cannot_be_told_is_empty(body: bytes) -> None:
    assert peek_id(body) == b""
