# SPDX-License-Identifier: MIT
"""Validation errors to problems that a person can act on: a place, what, and a fix. Never the value of a secret."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from mcp_hangar.domain.errors import ConfigError
from mcp_hangar.server.config.schema import (
    ELSEWHERE,
    MODES_LATER,
    ConfigFile,
    is_later,
    is_open,
    known_keys,
    section_at,
)
from mcp_hangar.server.config.text import MASK, Document, KeyPath, did_you_mean, read_document, shorten


def validated(document: Document) -> ConfigFile:
    """The file as far as it is valid; every problem goes to the document, and what has one is left out.

    Leaving it out lets the checks across keys still run on the rest, so that one run tells all.
    """
    for attempt in range(8):
        data = _without(document.data, document.broken)
        if attempt:
            data.setdefault("version", 1)
        try:
            return ConfigFile.model_validate(data)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                path = found["loc"]
                if attempt == 0 and not _inside(path, document.broken):
                    _tell(document, path, found)
                # Without what it needs, the thing around it is left out too.
                document.broken.add(path[:-1] if found["type"] == "missing" and len(path) > 1 else path)
    return ConfigFile(version=1)


def _inside(path: KeyPath, broken: set[KeyPath]) -> bool:
    return any(path[: len(one)] == one for one in broken)


def _without(data: Mapping[str, Any], broken: set[KeyPath]) -> dict[str, Any]:
    """The data without what is broken. A list with a broken entry goes as a whole."""

    def kept(value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            inner = {key: kept(item, (*path, key)) for key, item in value.items() if (*path, key) not in broken}
            return {key: item for key, item in inner.items() if item is not None}
        if isinstance(value, list):
            whole = all((*path, index) not in broken for index in range(len(value)))
            return [kept(item, (*path, index)) for index, item in enumerate(value)] if whole else None
        return value

    clean: dict[str, Any] = kept(dict(data), ())
    return clean


def _tell(document: Document, path: KeyPath, found: Any) -> None:
    kind, context = str(found["type"]), found.get("ctx", {})
    if kind == "extra_forbidden":
        code = "config_not_yet" if is_later(path) else "config_unknown_key"
        document.refuse(document.span(path), *_unknown(document, path), code)
        return
    if kind == "missing":
        document.refuse(document.span(path[:-1]), *_missing(path, found["input"]), "config_missing_key")
        return
    if kind == "hangar":
        what, fix = context["what"], context["fix"]
    elif kind == "literal_error":
        what, fix = _choice(path, found["input"])
    else:
        what, fix = _wrong(document, path, kind, context, found["input"])
    later = what.endswith("yet")
    got = "" if later else _got(document, path, found["input"])
    code = "config_not_yet" if later else "config_value"
    document.refuse(document.span(path, value=True), what + got, fix, code)


def _got(document: Document, path: KeyPath, value: object) -> str:
    """The value, quoted, where it may be shown."""
    if path in document.masked or not is_open(path) or isinstance(value, dict | list):
        return ""
    return f", not '{shorten(value)}'" if isinstance(value, str) else f", not {shorten(str(value)).lower()}"


def _unknown(document: Document, path: KeyPath) -> tuple[str, str]:
    key = str(path[-1])
    shown = shorten(key)
    if is_later(path):
        return f"'{shown}' is not available yet", "Remove it: this version of Hangar would not do what it says"
    section = section_at(path[:-1])
    siblings = list(section.model_fields) if section else []
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    if snake in ELSEWHERE:
        return f"unknown key '{shown}'", ELSEWHERE[snake]
    close = did_you_mean(key, siblings)
    if close:
        return f"unknown key '{shown}'", f"Did you mean '{close}'?"
    value = _value(document.data, path)
    if len(path) == 1 and isinstance(value, dict) and value.keys() & {"mode", "command", "url"}:
        return f"unknown key '{shown}'", "If it is a provider, indent it below 'providers:'"
    homes = [".".join(known[:-1]).replace("*", "NAME") for known in known_keys() if known[-1] == snake]
    near = [home for home in homes if home.split(".")[0] == path[0]] or homes
    if near:
        return f"unknown key '{shown}'", f"It belongs in '{near[0]}'" if near[
            0
        ] else "It belongs at the top of the file"
    return f"unknown key '{shown}'", f"Known here: {', '.join(siblings)}" if siblings else "Remove it"


def _missing(path: KeyPath, given: object) -> tuple[str, str]:
    key = str(path[-1])
    if key == "version":
        return "'version' is missing", "Begin with 'version: 1'"
    if key == "mode":
        mode = "remote" if isinstance(given, dict) and "url" in given else "subprocess"
        return f"'mode' is missing in provider '{path[1]}'", f"Add 'mode: {mode}'"
    return f"'{key}' is missing", "Add it"


def _choice(path: KeyPath, value: object) -> tuple[str, str]:
    key = str(path[-1])
    if key == "version":
        return "'version' is not one that this Hangar reads", "Write 'version: 1'"
    if key == "mode" and value in MODES_LATER:
        return f"mode '{value}' is not available yet", "Use subprocess or remote"
    section = section_at(path[:-1])
    known = _choices(section.model_fields[key].annotation) if section else []
    close = did_you_mean(str(value), known)
    what = (
        f"'{key}' must be {', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else f"'{key}' must be {known[0]}"
    )
    return what, f"Did you mean '{close}'?" if close else "Choose one of them"


def _choices(annotation: Any) -> list[str]:
    found: list[str] = []
    for part in getattr(annotation, "__args__", ()):
        found += [part] if isinstance(part, str) else _choices(part)
    return found


_LEAST: Final = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}


def _wrong(document: Document, path: KeyPath, kind: str, context: dict[str, Any], value: object) -> tuple[str, str]:
    key = f"'{shorten(str(path[-1]))}'" if path and isinstance(path[-1], str) else "this entry"
    if kind in _LEAST:
        bound = context[_LEAST[kind]]
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[_LEAST[kind]]
        return f"{key} must be {words} {bound:g}", "Write a value within the bound"
    if kind in ("too_short", "string_too_short"):
        if key == "'allow'":
            return "an empty 'allow' would allow every tool", "Remove it, or write deny: ['*'] to allow none"
        return f"{key} is empty", "Give it a value"
    if kind in ("too_long", "string_too_long"):
        return f"{key} is longer than {context['max_length']} characters", "Shorten it"
    if kind in ("int_type", "int_parsing", "int_from_float"):
        return f"{key} must be a whole number", "Write digits only, without quotes"
    if kind == "list_type":
        return f"{key} must be a list", _as_list(path, value)
    if kind == "string_type":
        quoted = isinstance(value, int | float) and not isinstance(value, dict | list)
        if not quoted:
            return f"{key} must be text", "Write one value"
        again = str(value).lower() if isinstance(value, bool) else str(value)
        return f"{key} must be text", f'Put it in quotes: "{again}"' if is_open(path) else "Put it in quotes"
    if kind in ("model_type", "dict_type"):
        section = section_at(path)
        if path == ("providers",):
            return f"{key} must hold names with their settings", "Write 'NAME:' and indent its settings below"
        inside = f" such as '{next(iter(section.model_fields))}: …'" if section else ""
        return f"{key} must hold keys with values", f"Indent its keys{inside} below it"
    return f"{key} cannot be read", "See docs/reference/config.md"


def _as_list(path: KeyPath, value: object) -> str:
    """The same value as a list, where it can be shown."""
    if not isinstance(value, str) or not is_open(path):
        return "Write [one, two], or a line with '- ' for each"
    try:
        words = shlex.split(value) if path[-1] == "command" else [value]
    except ValueError:
        words = [value]
    return f"Write {shorten('[' + ', '.join(words) + ']')}"


def _value(data: Any, path: KeyPath) -> Any:
    for part in path:
        if not isinstance(data, dict) or part not in data:
            return None
        data = data[part]
    return data


def excerpt(text: str, line: int, column: int) -> tuple[str, int]:
    """A line as it may be shown, and where the column is in it: what is not known to be harmless is masked."""
    lines = text.splitlines()
    if not 0 < line <= len(lines):
        return "", 1
    source = lines[line - 1]
    try:
        document = read_document(text, "", {})
    except ConfigError:
        # Nothing is known of the values: all that could be one is masked, character by character.
        head, colon, rest = source.partition(":")
        return head * bool(colon) + colon + re.sub(r"[^\W_]", "*", rest if colon else source), column
    hidden = [
        span
        for path, span in document.values.items()
        if path in document.scalars and span.line <= line <= span.end_line and not is_open(path)
    ]
    for span in sorted(hidden, reverse=True):
        start = span.column - 1 if span.line == line else len(source) - len(source.lstrip())
        end = span.end_column - 1 if span.end_line == line else len(source)
        if end > start:
            source = source[:start] + MASK + source[end:]
            column += len(MASK) - (end - start) if column > end else 0
    return source, min(column, len(source) + 1)
