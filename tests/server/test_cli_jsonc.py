# SPDX-License-Identifier: MIT
"""JSON with comments: read as editors read it, edited without touching what is not meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.server.cli.onboarding.jsonc import NotJson, parse, with_member, without_member

SERVERS = ("mcpServers",)
TEXT = """{
  // my servers
  "mcpServers": {
    "a": { "command": "x", "args": ["1", "//no comment", "/*", ",]"], }, // the first
    /* b, it is good */
    "b": {"url": "http://x"},
    "c": {"command": "c"} // the last
  },
  "other": [1, 2,],
}
"""


def test_comments_and_trailing_commas_are_read_over_and_strings_are_left_alone() -> None:
    value = parse(TEXT)
    assert list(value["mcpServers"]) == ["a", "b", "c"]
    assert value["mcpServers"]["a"]["args"] == ["1", "//no comment", "/*", ",]"]
    assert value["other"] == [1, 2]
    assert parse('\ufeff{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1), ("{", 1, 2), ('{"a" 1}', 1, 6), ('{\n  "a": nope\n}', 2, 8), ('{"a": 1} x', 1, 10), ("{,}", 1, 2),
        ('{"a": "b\n"}', 1, 7), ("[" * 200, 1, 102), ("{'a': 1}", 1, 2), ('{"a": 1 /* open', 1, 9),
    ],
)  # fmt: skip
def test_what_is_no_json_is_told_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(NotJson) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2, 4, "\t"]))
def test_whatever_json_writes_is_read(value: Any, indent: Any) -> None:
    assert parse(json.dumps(value, indent=indent)) == value
    assert parse(json.dumps(value, indent=indent, ensure_ascii=False)) == value


@given(
    st.dictionaries(st.text(), st.dictionaries(st.text(), values, max_size=3), max_size=5),
    st.sampled_from([None, 2, "\t"]),
    st.text(),
    st.data(),
)
def test_an_edit_changes_one_member_and_nothing_else(
    servers: dict[str, Any], indent: Any, name: str, data: st.DataObject
) -> None:
    text = json.dumps({"before": [1, {"x": "}"}], "mcpServers": servers, "after": None}, indent=indent)
    added = with_member(text, SERVERS, name, {"url": "u", "args": ["1"]})
    assert parse(added) == {**parse(text), "mcpServers": {**servers, name: {"url": "u", "args": ["1"]}}}
    if servers:
        gone = data.draw(st.sampled_from(sorted(servers)))
        kept = {key: value for key, value in servers.items() if key != gone}
        assert parse(without_member(text, SERVERS, gone)) == {**parse(text), "mcpServers": kept}


def test_a_member_comes_and_goes_and_all_around_it_stays_byte_for_byte() -> None:
    added = with_member(TEXT, SERVERS, "hangar", {"command": "h", "args": ["serve", "--stdio"]})
    entry = '\n    "hangar": {\n      "command": "h",\n      "args": ["serve", "--stdio"]\n    },'
    assert added == TEXT.replace('"mcpServers": {', '"mcpServers": {' + entry)
    assert without_member(added, SERVERS, "hangar") == TEXT


@pytest.mark.parametrize("names", ["abc", "cba", "bac", "b", "ca"])
def test_comments_outlive_the_members_beside_them(names: str) -> None:
    text = TEXT
    for name in names:
        text = without_member(text, SERVERS, name)
    assert list(parse(text)["mcpServers"]) == [name for name in "abc" if name not in names]
    for comment in ("// my servers", "// the first", "/* b, it is good */", "// the last"):
        assert comment in text


def test_objects_that_are_missing_are_made() -> None:
    for text in ("", "  \n", "{}", '{"x": 1}', '{\n\t"x": 1\n}\n', '{"mcpServers": null}', "{ // none\n}"):
        made = with_member(text, SERVERS, "a", {"b": 1})
        assert parse(made)["mcpServers"] == {"a": {"b": 1}}
    assert '\n\t"mcpServers": {\n\t\t"a": {' in with_member('{\n\t"x": 1\n}\n', SERVERS, "a", {"b": 1})
    assert "\r\n" in with_member('{\r\n  "x": 1\r\n}', SERVERS, "a", {"b": 1})
    with pytest.raises(NotJson):
        with_member("[]", (), "a", 1)


def test_a_member_that_is_there_is_replaced_where_it_stands() -> None:
    text = with_member(TEXT, SERVERS, "b", {"url": "new"})
    assert list(parse(text)["mcpServers"]) == ["a", "b", "c"]
    assert parse(text)["mcpServers"]["b"] == {"url": "new"}
