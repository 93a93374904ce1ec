# SPDX-License-Identifier: MIT
"""Arguments of `hangar call`: how words become JSON, and what is told of those that do not fit the tool's schema."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.server.cli.arguments import check, read_arguments, taken, types_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where.\nMore of it."},
        "days": {"type": "integer", "minimum": 1, "default": 3},
        "unit": {"enum": ["metric", "imperial"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"$ref": "#/$defs/Place"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"Place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}},
}


def told(arguments: str, schema: dict[str, Any] | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        check("weather", "forecast", schema or SCHEMA, arguments)
    return caught.value


def test_what_fits_is_passed() -> None:
    check("weather", "forecast", SCHEMA, '{"city":"Rome","days":2,"unit":"metric","tags":["a"],"where":{"lat":1}}')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{}", "city is missing"),
        ('{"town":"Rome"}', "the tool takes no town"),
        ('{"citty":"Rome"}', "city is missing (is citty meant?)"),
        ('{"city":5}', "city must be text, not 5"),
        ('{"city":"x","days":"two"}', 'days must be a whole number, not "two"'),
        ('{"city":"x","days":1.5}', "days must be a whole number, not 1.5"),
        ('{"city":"x","days":0}', "days: 0 is less than the minimum of 1"),
        ('{"city":"x","unit":"kelvin"}', 'unit must be one of "metric", "imperial", not "kelvin"'),
        ('{"city":"x","tags":"a"}', 'tags must be a list, not "a"'),
        ('{"city":"x","tags":["a",1]}', "tags[1] must be text, not 1"),
        ('{"city":"x","where":{}}', "where.lat is missing"),
        ('{"city":"x","either":true}', "either must be a whole number or text, not true"),
    ],
)
def test_what_does_not_fit_is_told_with_what_is_expected(arguments: str, words: str) -> None:
    error = told(arguments)
    assert error.code == "invalid_arguments"
    assert words in error.what
    assert "city: text, required. Where." in error.fix
    assert 'unit: "metric" | "imperial"' in error.fix
    assert error.row.exit == 2


def test_only_so_many_mistakes_are_told_at_once() -> None:
    schema = {"type": "object", "required": [f"a{number}" for number in range(9)]}
    assert "and 4 more" in told("{}", schema).what


def test_a_schema_that_cannot_be_read_refuses_nothing_and_nothing_is_fetched() -> None:
    for schema in (
        {"type": "nonsense"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"properties": {"a": {"$ref": "#/x"}}},
    ):
        check("p", "t", schema, '{"a": 1}')


@pytest.mark.parametrize(
    ("name", "word", "expected"),
    [
        ("city", "12", '"12"'), ("city", "true", '"true"'), ("city", "Rome", '"Rome"'), ("city", '"Rome"', '"Rome"'),
        ("days", "12", "12"), ("days", "two", '"two"'), ("tags", '["a"]', '["a"]'), ("maybe", "null", "null"),
        ("maybe", "5", '"5"'), ("either", "5", "5"), ("unknown", "1.50", "1.50"),
        ("where", '{"lat": 1e2}', '{"lat": 1e2}'),
    ],
)  # fmt: skip
def test_a_word_is_text_where_the_tool_takes_text(name: str, word: str, expected: str) -> None:
    assert read_arguments([f"{name}={word}"], "", SCHEMA) == f'{{"{name}":{expected}}}'


def test_types_are_found_where_a_schema_tells_them() -> None:
    assert types_of({"$ref": "#/$defs/Place"}, SCHEMA) == {"object"}
    assert types_of({"enum": ["a", 1]}, SCHEMA) == {"string", "integer", "number"}
    assert types_of({"const": True}, SCHEMA) == {"boolean"}
    assert types_of({"$ref": "#/properties/loop"}, {"properties": {"loop": {"$ref": "#/properties/loop"}}}) == set()
    assert types_of({}, SCHEMA) == types_of(True, SCHEMA) == types_of({"$ref": "http://x/"}, SCHEMA) == set()


def test_a_tool_without_arguments_says_so() -> None:
    assert taken({"type": "object"}) == "It takes no arguments."


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.text(max_size=8), values, max_size=4), st.dictionaries(st.text(max_size=8), values, max_size=4)
)
def test_no_schema_and_no_value_of_a_stranger_breaks_the_check(arguments: dict[str, Any], properties: Any) -> None:
    for schema in (properties, {"type": "object", "properties": properties, "required": list(properties)}):
        with contextlib.suppress(RequestError):
            check("p", "t", schema, json.dumps(arguments))
