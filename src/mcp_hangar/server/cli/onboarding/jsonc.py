# SPDX-License-Identifier: MIT
"""JSON as editors' settings have it: with comments and trailing commas. Read to plain values, and edited in place: one
member more or less, every other byte of the text as it was."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

BYTES: Final = 4 * 1024 * 1024
DEPTH: Final = 100

_TOKEN: Final = re.compile(
    r'(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<comment>//[^\r\n]*|/\*[\s\S]*?\*/)|(?P<space>[ \t\r\n\ufeff]+)'
    r"|(?P<mark>[{}\[\],:])|(?P<word>[A-Za-z0-9+.-]+)"
)


class NotJson(Exception):
    """The text cannot be read; `line` and `column` count from 1."""

    def __init__(self, what: str, text: str, position: int) -> None:
        self.line = text.count("\n", 0, position) + 1
        self.column = position - (text.rfind("\n", 0, position) + 1) + 1
        super().__init__(f"line {self.line}, column {self.column}: {what}")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """`string`, `word`, or the mark itself."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Member:
    """One `"key": value` of an object, as offsets into the text."""

    key: str
    start: int
    value_start: int
    end: int


def parse(text: str) -> Any:
    """The value. Of two equal keys the last one counts, as the clients read it."""
    return _Reader(text).whole()


def members(text: str, path: tuple[str, ...]) -> tuple[int, int, list[Member]]:
    """The object at a path: the offsets of its braces, and its members. `KeyError` where there is none."""
    reader = _Reader(text)
    reader.whole()
    where = reader.first
    for key in path:
        found = [member for member in reader.objects.get(where, (0, []))[1] if member.key == key]
        if not found:
            raise KeyError(key)
        where = found[-1].value_start
    if where not in reader.objects:
        raise KeyError(path)
    closing, inside = reader.objects[where]
    return where, closing, inside


def with_member(text: str, path: tuple[str, ...], key: str, value: Any) -> str:
    """The text with `key` as the first member of the object at `path`; objects that are missing on the way are made.

    A member of that name is replaced where it stands.
    """
    if not text.strip("\ufeff \t\r\n"):
        text = "{}\n"
    try:
        opening, closing, inside = members(text, path)
    except KeyError:
        if not path:
            raise NotJson("expected an object", text, 0) from None
        return with_member(text, path[:-1], path[-1], {key: value})
    unit, eol = _unit(text), "\r\n" if "\r\n" in text else "\n"
    old = [member for member in inside if member.key == key]
    if old:
        member = old[-1]
        written = _written(value, unit, _indent_of(text, member.start), eol)
        return text[: member.value_start] + written + text[member.end :]
    outer = _indent_of(text, opening)
    if inside and "\n" not in text[opening : inside[0].start]:  # all on one line
        return text[: opening + 1] + f"{json.dumps(key)}: {json.dumps(value)}, " + text[opening + 1 :].lstrip(" ")
    indent = _indent_of(text, inside[0].start) if inside else outer + unit
    entry = f"{eol}{indent}{json.dumps(key)}: {_written(value, unit, indent, eol)}"
    if inside:
        return text[: opening + 1] + entry + "," + text[opening + 1 :]
    kept = text[opening + 1 : closing].rstrip(" \t\r\n")  # comments, perhaps
    return text[: opening + 1] + entry + kept + eol + outer + text[closing:]


def without_member(text: str, path: tuple[str, ...], key: str) -> str:
    """The text without a member, its comma, and its line where it had one to itself. Comments beside it stay."""
    _, closing, inside = members(text, path)
    numbers = [number for number, member in enumerate(inside) if member.key == key]
    for number in reversed(numbers):
        member = inside[number]
        start, end = member.start, member.end
        after = _comma_after(text, end, closing)
        if after:
            end = after
        elif number:
            # The last one: the comma before it goes too, whatever comments stand between.
            comma = _comma_after(text, inside[number - 1].end, start)
            text = text[: comma - 1] + text[comma:]
            start, end, closing = start - 1, end - 1, closing - 1
        line = text.rfind("\n", 0, start) + 1
        stop = re.compile(r"[ \t]*\r?\n").match(text, end)
        if not text[line:start].strip() and stop:
            start, end = line, stop.end()
        elif after and text[end : end + 1] == " ":
            end += 1
        text = text[:start] + text[end:]
    return text


def _comma_after(text: str, position: int, limit: int) -> int:
    """Behind the comma that follows, past blanks and comments; 0 if none does."""
    while position < limit:
        match = _TOKEN.match(text, position)
        if match is None:
            return 0
        if match.lastgroup in ("space", "comment"):
            position = match.end()
            continue
        return match.end() if match.group() == "," else 0
    return 0


def _unit(text: str) -> str:
    """One step of indentation, as this text does it."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _indent_of(text: str, position: int) -> str:
    line = text.rfind("\n", 0, position) + 1
    return re.compile(r"[ \t]*").match(text, line).group()  # type: ignore[union-attr]  # it matches the empty text


def _written(value: Any, unit: str, indent: str, eol: str) -> str:
    text = json.dumps(value, indent=unit, ensure_ascii=False)
    # Lists of words are read more easily on one line.
    text = re.sub(r"\[([^\[\]{}]*)\]", lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]).strip() + "]", text)
    return text.replace("\n", eol + indent)


class _Reader:
    """One pass over the text: the value, and where each object's members stand."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan()
        self._at = 0
        self.objects: dict[int, tuple[int, list[Member]]] = {}
        self.first = self._tokens[0].start if self._tokens else 0

    def whole(self) -> Any:
        value = self._value(0)
        if self._at < len(self._tokens):
            raise NotJson("something follows the end", self._text, self._tokens[self._at].start)
        return value

    def _scan(self) -> list[_Token]:
        found: list[_Token] = []
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                raise NotJson("this is not JSON", self._text, position)
            kind = str(match.lastgroup)
            if kind not in ("comment", "space"):
                found.append(_Token(match.group() if kind == "mark" else kind, match.start(), match.end()))
            position = match.end()
        return found

    def _peek(self) -> _Token:
        if self._at >= len(self._tokens):
            raise NotJson("the text ends too early", self._text, len(self._text))
        return self._tokens[self._at]

    def _take(self, *kinds: str) -> _Token:
        token = self._peek()
        if token.kind not in kinds:
            wanted = " or ".join(repr(kind) for kind in kinds)
            raise NotJson(f"expected {wanted}", self._text, token.start)
        self._at += 1
        return token

    def _value(self, depth: int) -> Any:
        token = self._peek()
        if depth > DEPTH:
            raise NotJson(f"nested deeper than {DEPTH} levels", self._text, token.start)
        if token.kind == "{":
            return self._object(depth)
        if token.kind == "[":
            return self._list(depth)
        self._take("string", "word")
        return self._plain(token)

    def _plain(self, token: _Token) -> Any:
        try:
            return json.loads(self._text[token.start : token.end])
        except ValueError:
            raise NotJson("this is not a JSON value", self._text, token.start) from None

    def _object(self, depth: int) -> dict[str, Any]:
        opening = self._take("{")
        value: dict[str, Any] = {}
        inside: list[Member] = []
        while self._peek().kind != "}":
            key = self._take("string")
            self._take(":")
            start = self._peek().start
            name = str(self._plain(key))
            value[name] = self._value(depth + 1)
            inside.append(Member(name, key.start, start, self._tokens[self._at - 1].end))
            if self._peek().kind != "}":
                self._take(",")
        closing = self._take("}")
        self.objects[opening.start] = (closing.start, inside)
        return value

    def _list(self, depth: int) -> list[Any]:
        self._take("[")
        value: list[Any] = []
        while self._peek().kind != "]":
            value.append(self._value(depth + 1))
            if self._peek().kind != "]":
                self._take(",")
        self._take("]")
        return value
