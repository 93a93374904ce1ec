# SPDX-License-Identifier: MIT
"""The modern era's mirrored headers: `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*`, written for providers and checked
against the body for clients (SEP-2243). Decisions read the body; a header that disagrees is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from mcp_hangar.domain.errors import RequestError

_PLAIN: Final = re.compile(r"(?! )[\x20-\x7e]*(?<! )\Z")
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=\Z")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.0+)?\Z")
# Where JSON Schema 2020-12 has schemas: as one value, in a list, in a map. `properties` is the chain that counts.
_SCHEMA: Final = frozenset(
    {
        "items",
        "contains",
        "unevaluatedItems",
        "additionalProperties",
        "propertyNames",
        "unevaluatedProperties",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    }
)
_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAP: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_ANNOTATION: Final = "x-mcp-header"
_MOST_DIGITS: Final = 400


class HeaderParam(NamedTuple):
    """An argument that a tool mirrors into `Mcp-Param-{token}`."""

    path: tuple[str, ...]
    token: str
    type: str


def encode_value(value: str) -> str:
    """A header value: printable ASCII without edge blanks as it is, anything else in the base64 sentinel."""
    if _PLAIN.match(value) and not _SENTINEL.match(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str) -> str | None:
    """The opposite of `encode_value`; None for a malformed sentinel."""
    match = _SENTINEL.match(value)
    if not match:
        return value
    try:
        plain = base64.b64decode(match[1], validate=True)
        return plain.decode() if base64.b64encode(plain).decode() == match[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def header_params(schema: Any) -> tuple[HeaderParam, ...] | None:
    """The mirrored arguments of an input schema; None if an annotation is invalid (such a tool is not offered)."""
    found: list[HeaderParam] = []
    tokens: set[str] = set()
    for path, node in _positions(schema):
        if _ANNOTATION not in node:
            continue
        token, kind = node[_ANNOTATION], node.get("type")
        if not path or not isinstance(token, str) or not _TOKEN.match(token) or token.lower() in tokens:
            return None
        if kind not in ("string", "integer", "boolean"):
            return None
        tokens.add(token.lower())
        found.append(HeaderParam(path, token, kind))
    return tuple(found)


def _positions(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Every schema within a schema, with the properties that lead to it; None where anything else does."""
    stack: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for key, child in reversed(node.items()):
            if key in _SCHEMA:
                stack.append((None, child))
            elif key in _LIST and isinstance(child, list):
                stack += [(None, each) for each in reversed(child)]
            elif key in _MAP and isinstance(child, dict):
                chain = path if key == "properties" else None
                stack += [(None if chain is None else (*chain, name), each) for name, each in reversed(child.items())]


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments


def _rendered(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return None


def param_lines(params: tuple[HeaderParam, ...], arguments: Mapping[str, Any]) -> bytes:
    """The `Mcp-Param-*` header lines for a provider."""
    lines = []
    for path, token, _ in params:
        rendered = _rendered(_at(arguments, path))
        if rendered is not None:
            lines.append(f"Mcp-Param-{token}: {encode_value(rendered)}\r\n")
    return "".join(lines).encode("ascii")


def check_params(
    params: tuple[HeaderParam, ...], arguments: Mapping[str, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    """Raises `RequestError("header_mismatch")` unless each mirrored argument and its header agree, or neither is."""
    for path, token, kind in params:
        name = f"Mcp-Param-{token}"
        lowered = name.lower().encode()
        values = [value for key, value in headers if key == lowered]
        argument, rendered = ".".join(path), _rendered(_at(arguments, path))
        if len(values) > 1:
            raise RequestError("header_mismatch", header=name, detail="it appears more than once")
        if rendered is None:
            if values:
                raise RequestError("header_mismatch", header=name, detail=f"the argument {argument!r} is absent")
            continue
        if not values:
            raise RequestError("header_mismatch", header=name, detail=f"it is missing beside the argument {argument!r}")
        said = decode_value(values[0].decode("latin-1").strip(" \t"))
        if said is None:
            raise RequestError("header_mismatch", header=name, detail="its base64 sentinel is malformed")
        if said == rendered:
            continue
        if kind == "integer" and _same_number(said, _at(arguments, path)):
            continue
        raise RequestError("header_mismatch", header=name, detail=f"it differs from the argument {argument!r}")


def _same_number(said: str, value: Any) -> bool:
    """Integers are compared as numbers: 42.0 is 42. A true is no 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or len(said) >= _MOST_DIGITS:
        return False
    return _DECIMAL.match(said) is not None and int(said.partition(".")[0]) == value
