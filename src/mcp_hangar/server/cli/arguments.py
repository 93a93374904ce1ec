# SPDX-License-Identifier: MIT
"""The arguments of `hangar call`: from words on the command line to JSON, and checked against the tool's own schema
before anything is called. Numbers keep their spelling."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer

from mcp_hangar.domain.errors import RequestError

TOLD: Final = 5
"""Mistakes that are told at once."""

Schema = Mapping[str, Any]


def read_arguments(pairs: Sequence[str], whole: str, schema: Schema | None = None) -> str:
    """The arguments as JSON text. A value is JSON where it is JSON and the schema does not ask for text, else text."""
    if pairs and whole:
        raise typer.BadParameter("--arg and --json-args exclude each other")
    if whole:
        text = sys.stdin.read() if whole == "-" else whole
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(f"--json-args is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise typer.BadParameter("--json-args must be a JSON object")
        return text
    members: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--arg takes KEY=VALUE, not {pair!r}")
        if name in members:
            raise typer.BadParameter(f"--arg {name} is given twice; a list is written as --arg '{name}=[1, 2]'")
        types = types_of(properties(schema).get(name), schema)
        members[name] = value if _is_json(value) and not _meant_as_text(value, types) else json.dumps(value)
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}"


def _is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")  # NaN and Infinity are Python's own

    try:
        json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _meant_as_text(value: str, types: frozenset[str]) -> bool:
    """Where the tool takes text and nothing that this JSON is, `12` is two characters and not a number."""
    return "string" in types and not types & _json_types(json.loads(value))


def _json_types(value: Any) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number", "integer"} if value.is_integer() else {"number"}
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return {names.get(type(value), "null")}


# what a schema says


def properties(schema: Schema | None) -> Mapping[str, Any]:
    found = (schema or {}).get("properties")
    return found if isinstance(found, dict) else {}


def types_of(about: Any, schema: Schema | None, depth: int = 8) -> frozenset[str]:
    """The JSON types that a property may have; empty where the schema does not tell."""
    if not isinstance(about, dict) or depth == 0:
        return frozenset()
    ref = about.get("$ref")
    if isinstance(ref, str):
        return types_of(_at(schema, ref), schema, depth - 1)
    told = about.get("type")
    if isinstance(told, str):
        return frozenset({told})
    if isinstance(told, list):
        return frozenset(one for one in told if isinstance(one, str))
    for key in ("anyOf", "oneOf"):
        if isinstance(about.get(key), list):
            return frozenset().union(*(types_of(one, schema, depth - 1) for one in about[key]))
    values = about.get("enum") if isinstance(about.get("enum"), list) else [about["const"]] if "const" in about else []
    return frozenset().union(*(_json_types(value) for value in values or ()))


def _at(schema: Schema | None, ref: str) -> Any:
    """What a `$ref` inside the same schema names."""
    value: Any = schema
    for part in ref.removeprefix("#/").split("/") if ref.startswith("#/") else ():
        value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    return value if value is not schema else None


def check(provider: str, tool: str, schema: Schema, text: str) -> None:
    """Raises `invalid_arguments` with what is wrong and what the tool takes. A schema that cannot be read checks
    nothing: what the tool itself says of its arguments is then told."""
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(dict(schema), retriever=_refuse)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return
    value = json.loads(text)
    errors = list(validator.iter_errors(value))
    if not errors:
        return
    told = list(dict.fromkeys(_told(error, value, schema) for error in errors))
    more = [f"and {len(told) - TOLD} more"] if len(told) > TOLD else []
    detail = "; ".join(told[:TOLD] + more)
    raise RequestError("invalid_arguments", tool=tool, provider=provider, detail=f"{detail}.", fix=taken(schema))


def _refuse(uri: str) -> Any:
    """A tool's schema makes nobody fetch anything."""
    raise ValueError(f"{uri} is not part of the schema")


def _told(error: Any, whole: Mapping[str, Any], schema: Schema) -> str:
    """One mistake, as the person who typed it would see it."""
    path = _path(error.instance_path)
    kind = type(error.kind).__name__.rpartition(".")[2].rpartition("_")[2]
    if kind == "Required":
        name = error.kind.property
        near = _near(name, whole, schema)
        return f"{_path([*error.instance_path, name])} is missing" + (f" (is {near} meant?)" if near else "")
    if kind == "Type":
        value = _value(whole, error.instance_path)
        wanted = " or ".join(_words(one) for one in error.kind.types)
        return f"{path} must be {wanted}, not {_shown(value)}"
    if kind == "Enum":
        options = ", ".join(_shown(one) for one in error.kind.options)
        return f"{path} must be one of {options}, not {_shown(_value(whole, error.instance_path))}"
    if kind == "AdditionalProperties":
        return f"the tool takes no {', '.join(error.kind.unexpected)}" + (f" in {path}" if error.instance_path else "")
    return f"{path}: {error.message}" if error.instance_path else str(error.message)


def _near(name: str, whole: Mapping[str, Any], schema: Schema) -> str:
    import difflib

    strangers = [given for given in whole if given not in properties(schema)]
    return next(iter(difflib.get_close_matches(name, strangers, n=1, cutoff=0.6)), "")


def _path(parts: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return text or "the whole"


def _value(whole: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        whole = whole[part]
    return whole


def _words(kind: str) -> str:
    return {
        "string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
        "array": "a list", "object": "an object", "null": "null",
    }.get(kind, kind)  # fmt: skip


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def taken(schema: Schema) -> str:
    """What a tool takes, one line for each argument."""
    rows = []
    needed = schema.get("required")
    for name, about in properties(schema).items():
        types = sorted(types_of(about, schema) - {"null"})
        words = [" or ".join(map(_words, types)) or "anything"]
        if isinstance(about, dict):
            if isinstance(about.get("enum"), list):
                words = [" | ".join(_shown(one) for one in about["enum"])]
            if isinstance(needed, list) and name in needed:
                words.append("required")
            elif about.get("default") is not None:
                words.append(f"default {_shown(about['default'])}")
            about_text = about.get("description") or about.get("title")
        else:
            about_text = None
        first = str(about_text).strip().split("\n")[0] if about_text else ""
        first = first if len(first) <= 100 else f"{first[:99]}…"
        rows.append(f"  {name}: {', '.join(words)}{f'. {first}' if first else ''}")
    return "Give it what it takes:\n" + "\n".join(rows) if rows else "It takes no arguments."
