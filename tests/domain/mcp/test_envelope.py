# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Raw
from tests.domain.mcp.json_texts import blanks, object_texts, pairs_of, texts


def read(raw: bytes) -> dict[str, str]:
    return {key: bytes(value).decode() for key, value in envelope.members(raw).items()}


@given(blanks, object_texts, blanks)
@example("", '{"a":1,"\\u0061":2}', "")
@example("", '{"a":12,"b":{"a":1,"a":2}}', " ")
@example("", '{"a":1,"a":1}', "")
@example("", '{"":0,"":0}', "")
@example("\n", '{"é":1 ,"e":2}', "")
@example("", '{"a" :' + "9" * 5000 + "}", "")
def test_members_are_those_of_the_reference_parser_and_a_repeated_key_is_refused(
    before: str, text: str, after: str
) -> None:
    pairs = pairs_of(text)
    raw = (before + text + after).encode()
    if len(dict(pairs)) == len(pairs):
        found = read(raw)
        assert list(found) == [key for key, _ in pairs]
        for value, (_, wanted) in zip(found.values(), pairs, strict=True):
            assert value == value.strip(" \t\r\n")
            assert value in text, "the value is spelled as it came"
            assert json.loads(value, object_pairs_hook=list, parse_int=str, parse_float=str) == wanted
    else:
        with pytest.raises(RequestError) as refused:
            envelope.members(raw, "a place")
        assert refused.value.code == "duplicate_key"
        assert "a place" in refused.value.what
        repeated = next(key for at, (key, _) in enumerate(pairs) if key in [seen for seen, _ in pairs[:at]])
        assert refused.value.facts["key"] == repeated


@given(object_texts)
def test_members_of_a_view_are_those_of_the_text(text: str) -> None:
    raw = b'{"params": ' + text.encode() + b" }"
    view = envelope.members(raw)["params"]
    assert isinstance(view, Raw)
    try:
        found = envelope.members(text.encode())
    except RequestError:
        with pytest.raises(RequestError, match="more than once"):
            envelope.members(view)
        return
    assert envelope.members(view) == found


@given(texts)
def test_what_is_no_object_has_no_members(text: str) -> None:
    if not text.startswith("{"):
        with pytest.raises(RequestError) as refused:
            envelope.members(text.encode())
        assert refused.value.code == "parse_error"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1}{',
        b'{"a":1} x',
        b'{"a":NaN}',
        b'{"a":01}',
        b'{"a":"\x01"}',
        b'{"\xff":1}',
        b'{"\\ud800":1}',
        b'{ "a":1, "\\udc00":1}',
        b'{"a":"\\ud800"}',
        b'{"a":["\\udc00\\ud800"]}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[]",
        b"null",
    ],
)
def test_what_cannot_be_read_is_a_parse_error(raw: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        envelope.members(raw)
    assert refused.value.code == "parse_error"


def test_a_repeated_key_is_named_even_where_the_rest_is_out_of_bounds() -> None:
    for rest in (b"9" * 5000, b"[" * 900 + b"]" * 900):
        with pytest.raises(RequestError) as refused:
            envelope.members(b'{"a":%b,"a":1}' % rest)
        assert refused.value.code == "duplicate_key"
    with pytest.raises(RequestError) as refused:
        envelope.members(b'{"%b":1,"%b":2}' % (b"k" * 1000, b"k" * 1000))
    assert refused.value.facts["key"] == "k" * 100


def test_only_blanks_may_make_an_empty_object_longer() -> None:
    assert read(b"{}") == read(b" { } ") == {}


@given(object_texts)
def test_joining_the_members_gives_the_same_object_and_keeps_every_spelling(text: str) -> None:
    try:
        found = envelope.members(text.encode())
    except RequestError:
        return
    joined = envelope.join(found.items())
    assert pairs_of(joined.decode()) == pairs_of(text)
    assert {key: bytes(value) for key, value in envelope.members(joined).items()} == {
        key: bytes(value) for key, value in found.items()
    }


def repeats(value: Any) -> bool:
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return len(dict(value)) != len(value) or any(repeats(item) for _, item in value)
    return isinstance(value, list) and any(repeats(item) for item in value)


@given(texts)
@example('[{"a":[{"b":1,"b":2}]}]')
def test_reading_strictly_refuses_a_repeated_key_at_any_depth(text: str) -> None:
    seen = json.loads(text, object_pairs_hook=lambda items: items, parse_int=str, parse_float=str)
    if "9" * 5000 in text or repeats(seen):
        with pytest.raises(RequestError) as refused:
            envelope.read_strictly(text.encode(), "arguments")
        if "9" * 5000 not in text:
            assert refused.value.code == "duplicate_key"
    else:
        assert envelope.read_strictly(text.encode(), "arguments") == json.loads(text)


def test_reading_strictly_refuses_what_is_not_utf8() -> None:
    for raw in (b'"\xff"', b'"\xed\xa0\x80"', b"[" * 100_000):
        with pytest.raises(RequestError) as refused:
            envelope.read_strictly(raw, "arguments")
        assert refused.value.code == "parse_error"


@given(st.text())
def test_text_reads_strings_and_nothing_else(value: str) -> None:
    try:
        raw = envelope.encode(value)
    except UnicodeEncodeError:
        return
    assert envelope.text(raw) == value
    assert envelope.text(Raw(raw)) == value


@pytest.mark.parametrize("raw", [None, b"", b"1", b"null", b"{}", b'"\xff"', b'"\\ud800"', b'"'])
def test_text_of_anything_else_is_the_default(raw: bytes | None) -> None:
    assert envelope.text(raw, "default") == "default"


def depth_of(text: str) -> int:
    """The reference: character by character."""
    depth = deepest = 0
    inside = escaped = False
    for letter in text:
        if inside:
            inside = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


nested = st.recursive(
    st.sampled_from(["1", '"["', '"\\"{"', '"\\\\"', '"\\\\\\"[["', "[]", "{}"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{" + ",".join(f'"{{{at}":{item}' for at, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=30,
)


@given(nested, st.integers(0, 8))
@example('[{"a":[{"b":[{"c":[]}]}]}]', 6)
@example('[{"a":[{"b":[{"c":[]}]}]}]', 7)
def test_depth_is_that_of_the_reference(text: str, limit: int) -> None:
    assert envelope.too_deep(text.encode(), limit) is (depth_of(text) > limit)


@given(st.integers(1, 70), st.integers(1, 40), st.integers(60, 66))
def test_depth_is_counted_however_wide_the_message_is(deep: int, wide: int, limit: int) -> None:
    text = "[" + ",".join(["[{" * 2 + "}]" * 2] * wide + ["[" * deep + "]" * deep]) + "]"
    assert envelope.too_deep(text.encode(), limit) is (depth_of(text) > limit)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"jsonrpc":"2.0","id":1,"method":"a","params":{}}', "request"),
        ('{"id":"x","method":"a"}', "request"),
        ('{"id":1,"result":{}}', "response"),
        ('{"id":1,"error":null,"more":[]}', "response"),
    ],
)
def test_a_message_asks_or_answers(text: str, kind: str) -> None:
    message = envelope.read_message(text.encode())
    kinds = {
        "request": message.is_request,
        "response": message.is_response,
    }
    assert [name for name, is_it in kinds.items() if is_it] == [kind]


@given(st.text(st.characters()))
@example("\ud83d")
@example("\udc00\ud83d\ud83d\ude00\ud83d")
@example("\\\ud83d\\\\ud83d \\ude00")
def test_half_an_emoji_costs_one_character_and_no_message(text: str) -> None:
    spelled = json.dumps(text)
    whole = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", json.loads(spelled))
    message = envelope.read_message(b'{"id":1,"result":{"text":%b}}' % spelled.encode())
    assert json.loads(bytes(message.result)) == {"text": whole}
    if whole == json.loads(spelled):
        assert bytes(message.result) == b'{"text":%b}' % spelled.encode(), "what is whole is left as it was spelled"


@given(st.binary(max_size=60) | st.text('\\"udD8c0Ef', max_size=60).map(str.encode))
def test_what_is_mended_keeps_its_length_and_needs_no_second_time(data: bytes) -> None:
    once = envelope.well_formed(data)
    assert len(once) == len(data)
    assert envelope.well_formed(once) == once


@pytest.mark.parametrize("raw", [b"", b"[]", b"1", b'{"method":1}', b"{" * 100_000])
def test_a_message_of_another_shape_is_unreadable(raw: bytes) -> None:
    with pytest.raises(envelope.UNREADABLE):
        envelope.read_message(raw)


def test_what_is_put_together_reads_back() -> None:
    params = b'{"n":1.50}'
    assert json.loads(envelope.request(7, 'a"b', params)) == {
        "jsonrpc": "2.0",
        "id": 7,
        "method": 'a"b',
        "params": {"n": 1.5},
    }
    assert params in envelope.request(7, "a", params)
    assert json.loads(envelope.notification("a")) == {"jsonrpc": "2.0", "method": "a"}
    assert json.loads(envelope.notification("a", params))["params"] == {"n": 1.5}
    assert json.loads(envelope.result(b'"1"', Raw(b"[]"))) == {"jsonrpc": "2.0", "id": "1", "result": []}
    value = envelope.error_value(-1, "no", {"a": 1})
    assert json.loads(envelope.error(b"1", value))["error"] == {"code": -1, "message": "no", "data": {"a": 1}}
    assert json.loads(envelope.error(b"", envelope.error_value(-1, "no")))["id"] is None
    assert json.loads(envelope.error(Raw(b""), envelope.error_value(-1, "no")))["id"] is None
    assert envelope.decode(b'{"a":1}') == {"a": 1}
    assert msgspec.json.decode(envelope.error_value(1, "x")) == {"code": 1, "message": "x"}
