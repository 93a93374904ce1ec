# SPDX-License-Identifier: MIT
"""The reference is the SDK's own codec and validator."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared import inbound

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.headers import (
    HeaderParam,
    check_params,
    decode_value,
    encode_value,
    header_params,
    param_lines,
)

PRINTABLE = re.compile(r"[\x20-\x7e]*\Z")
unicode = st.text(st.characters(exclude_categories=["Cs"]))
near_sentinels = st.one_of(
    unicode,
    st.text("=?base64BASE/+ \t", max_size=24),
    st.binary(max_size=12).map(lambda raw: f"=?base64?{base64.b64encode(raw).decode()}?="),
    st.text("ABCabc01+/=!", max_size=9).map(lambda text: f"=?base64?{text}?="),
)


@given(near_sentinels)
@example("=?base64?SGVsbG8=?=")
@example("=?BASE64?SGVsbG8=?=")
@example(" edge")
@example("edge\u00a0")
@example("line\r\nInjected: yes")
@example("")
def test_values_are_encoded_as_the_sdk_does_and_come_back(value: str) -> None:
    encoded = encode_value(value)
    assert encoded == inbound.encode_header_value(value)
    assert decode_value(encoded) == value
    assert PRINTABLE.match(encoded)
    assert encoded == encoded.strip()


@given(near_sentinels)
@example("=?base64?SGVsbG9=?=")
@example("=?base64?SGVs!!!bG8=?=")
@example("=?base64?/w==?=")
@example("=?BASE64?SGVsbG8=?=")
@example("=?base64?SGVsbG8=")
def test_values_are_decoded_as_the_sdk_does(value: str) -> None:
    assert decode_value(value) == inbound.decode_header_value(value)


names = st.sampled_from(["a", "b", "properties", "x-mcp-header", "items", "$defs"])
tokens: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["Region", "region", "T-1", "a b", "", "ü", "x\n", "x:"]), st.integers(), st.none(), st.just([])
)
kinds = st.sampled_from(["string", "integer", "boolean", "number", "object", "array", ["string"], None])
DATA = ["default", "const", "enum", "examples", "x-vendor", "dependentRequired", "$ref"]
SCHEMAS = ["items", "not", "if", "additionalProperties", "allOf", "prefixItems", "patternProperties", "$defs"]
applicators = st.sampled_from([*SCHEMAS, "definitions", "properties", *DATA])


def schema_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    child = st.one_of(inner, st.lists(inner, max_size=2), st.dictionaries(names, inner, max_size=2))
    return st.builds(
        lambda properties, more, annotation: {
            **({"properties": properties} if properties else {}),
            **more,
            **annotation,
        },
        st.dictionaries(names, inner, max_size=3),
        st.dictionaries(applicators, child, max_size=2),
        st.one_of(st.just({}), st.just({}), st.fixed_dictionaries({"x-mcp-header": tokens, "type": kinds})),
    )


leaves = st.one_of(
    st.sampled_from([{}, {"type": "string"}, True, None, 7, {"x-mcp-header": "Leaf", "type": "string"}]),
    st.fixed_dictionaries({"x-mcp-header": tokens, "type": kinds}),
    st.fixed_dictionaries({"x-mcp-header": st.sampled_from(["A", "B", "C"]), "type": st.just("string")}),
)
schemas = st.recursive(leaves, schema_of, max_leaves=8)


@given(schemas)
@example({"properties": {"x-mcp-header": {"type": "string"}}})
@example({"$defs": {"x-mcp-header": {"type": "string"}}})
@example({"x-vendor": {"x-mcp-header": "not a schema"}})
@example({"properties": {"a": {"items": {"x-mcp-header": "A", "type": "string"}}}})
@example({"x-mcp-header": "Root", "type": "object"})
def test_annotations_are_valid_where_the_sdk_finds_them_so(schema: Any) -> None:
    params = header_params(schema)
    assert (params is None) is (inbound.find_invalid_x_mcp_header(schema) is not None)
    if params is not None:
        assert {param.path: param.token for param in params} == inbound.x_mcp_header_map(schema)


def test_mirrored_arguments_come_in_the_order_of_the_schema() -> None:
    inner = {"properties": {"c": {"type": "boolean", "x-mcp-header": "C"}}}
    schema = {
        "properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": inner, "d": {"type": "integer"}},
        "allOf": [{"properties": {"d": {"type": "integer"}}}],
    }
    assert header_params(schema) == (HeaderParam(("a",), "A", "string"), HeaderParam(("b", "c"), "C", "boolean"))


def test_a_schema_may_be_deeper_than_the_stack() -> None:
    schema: dict[str, Any] = {"type": "string", "x-mcp-header": "Deep"}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    params = header_params(schema)
    assert params is not None
    assert len(params[0].path) == 5000


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        "in": {"type": "object", "properties": {"ner": {"type": "string", "x-mcp-header": "Inner"}}},
    },
}
PARAMS = header_params(SCHEMA) or ()
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 42, 2**60, 42.0, 42.5, -1]),
    st.floats(),
    unicode,
    st.lists(st.none(), max_size=1),
)
arguments_of = st.fixed_dictionaries(
    {},
    optional={
        "region": values,
        "count": values,
        "dry": values,
        "in": st.one_of(values, st.fixed_dictionaries({"ner": values})),
    },
)


def as_headers(lines: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        found.append((name.lower(), value))
    return found


@given(arguments_of)
@example({"region": "a\r\nEvil: yes"})
def test_what_is_mirrored_is_what_the_sdk_mirrors_and_passes_its_check_and_ours(arguments: dict[str, Any]) -> None:
    lines = param_lines(PARAMS, arguments)
    expected = inbound.mcp_param_headers(inbound.x_mcp_header_map(SCHEMA), arguments)
    headers = as_headers(lines)
    assert sorted(headers) == sorted((name.lower().encode(), value.encode()) for name, value in expected.items())
    check_params(PARAMS, arguments, headers)


said = st.one_of(
    st.sampled_from(["1", "42", "42.0", "042", "42.5", "4.2e1", "true", "True", "-0", "+1", " 42", ""]), near_sentinels
)


@given(
    arguments_of,
    st.dictionaries(st.sampled_from(["mcp-param-region", "mcp-param-count", "mcp-param-dry", "mcp-param-inner"]), said),
)
@example({"count": True}, {"mcp-param-count": "1"})
@example({"count": 42}, {"mcp-param-count": "42.00"})
@example({"count": 42.0}, {"mcp-param-count": "42"})
def test_headers_are_refused_where_the_sdk_refuses_them(arguments: dict[str, Any], headers: dict[str, str]) -> None:
    lines = []
    for name, value in headers.items():
        try:
            lines.append((name.encode(), value.encode("latin-1")))
        except UnicodeEncodeError:
            return
    seen = {name: value.strip(" \t") for name, value in headers.items()}
    expected = inbound.validate_mcp_param_headers(SCHEMA, arguments, seen)
    if expected is None:
        check_params(PARAMS, arguments, lines)
    else:
        with pytest.raises(RequestError) as refused:
            check_params(PARAMS, arguments, lines)
        assert refused.value.code == "header_mismatch"


def test_a_header_that_comes_twice_is_refused() -> None:
    twice = [(b"mcp-param-region", b"eu"), (b"mcp-param-region", b"eu")]
    with pytest.raises(RequestError, match="more than once"):
        check_params(PARAMS[:1], {"region": "eu"}, twice)


def test_a_blank_that_is_no_header_blank_is_part_of_the_value() -> None:
    with pytest.raises(RequestError, match="differs"):
        check_params(PARAMS[:1], {"region": "eu"}, [(b"mcp-param-region", b"eu\xa0")])
    check_params(PARAMS[:1], {"region": "eu"}, [(b"mcp-param-region", b" eu\t")])


def test_arguments_that_are_no_object_mirror_nothing() -> None:
    arguments: Any = [1]
    assert param_lines(PARAMS, arguments) == b""
    check_params(PARAMS, arguments, [])
