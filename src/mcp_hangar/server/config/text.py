# SPDX-License-Identifier: MIT
"""The configuration file as text: YAML to plain values, with the place of each key and value, and `${…}` filled in.

YAML's own constructors are not used. They drop the places, keep the last of two equal keys in silence, and know tags
and aliases, which a configuration that decides who may do what is better without. What comes out here is only dicts
with string keys, lists and scalars, bounded in size and depth; `schema.py` says what they may mean.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, NodeEvent, ScalarEvent, SequenceEndEvent

from mcp_hangar.domain.errors import ConfigError, ConfigProblem

KeyPath = tuple[str | int, ...]
"""Where something is: `("providers", "time", "command", 0)`."""

MASK: Final = "***"
FILE_BYTES: Final = 1024 * 1024
SECRET_FILE_BYTES: Final = 64 * 1024
DEPTH: Final = 24
_SYNTAX: Final = "config_syntax"
_REFERS: Final = "config_reference"


class Span(NamedTuple):
    """Lines and columns from 1; the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class Interpolated(str):
    """A scalar with something filled in. Text to all readers, but where a number is expected digits will do."""


@dataclass(slots=True, kw_only=True)
class Document:
    file: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[KeyPath, Span] = field(default_factory=dict)
    values: dict[KeyPath, Span] = field(default_factory=dict)
    scalars: set[KeyPath] = field(default_factory=set)
    masked: dict[KeyPath, str] = field(default_factory=dict)
    """What may be shown of values that were filled in: the same text, with MASK for each filled part."""
    filled: set[str] = field(default_factory=set)
    """The filled parts themselves."""
    broken: set[KeyPath] = field(default_factory=set)
    """Values with a problem of their own; what follows from them is not worth a second message."""
    problems: list[ConfigProblem] = field(default_factory=list)

    def span(self, path: KeyPath, *, value: bool = False) -> Span:
        """The place of a key (or its value), or of the nearest thing around it that has one."""
        table = self.values if value or (path and isinstance(path[-1], int)) else self.keys
        while path and path not in table:
            path, table = path[:-1], self.keys
        return table.get(path, Span(1, 1, 1, 1))

    def refuse(self, span: Span, what: str, fix: str, code: str) -> None:
        self.problems.append(
            ConfigProblem(
                code=code, file=self.file, line=span.line, column=span.column, what=_sentence(what), fix=_sentence(fix)
            )
        )


def did_you_mean(word: str, known: list[str] | tuple[str, ...]) -> str:
    """The known word that was probably meant, or empty."""
    plain = {name.lower().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else ""


def read_text(path: Path, shown: str) -> str:
    """The file's text, bounded; `ConfigError` where it cannot be read."""

    def unusable(what: str, fix: str) -> ConfigError:
        return ConfigError([ConfigProblem(code="config_unreadable", file=shown, what=what, fix=fix)])

    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise unusable(f"cannot be read: {error.strerror}.", "Check the path and that this user may read it.") from None
    if len(raw) > FILE_BYTES:
        raise unusable(f"is larger than {FILE_BYTES // 1024} KiB.", "Is it really a configuration of Hangar?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        problem = ConfigProblem(
            code="config_unreadable",
            file=shown,
            line=line,
            column=column,
            what="the file is not UTF-8 here.",
            fix="Save it as UTF-8.",
        )
        raise ConfigError([problem]) from None


def read_document(text: str, file: str, env: Mapping[str, str]) -> Document:
    """All of the text, with the problems that do not stop reading; `ConfigError` where it is not YAML at all."""
    document = Document(file=file)
    reader = _Reader(document, env, text)
    try:
        data = reader.read()
    except MarkedYAMLError as error:
        raise ConfigError([*document.problems, _syntax(error, file, text)]) from None
    except YAMLError as error:
        place = _at(text, getattr(error, "position", 0))
        problem = ConfigProblem(
            code="config_syntax",
            file=file,
            line=place[0],
            column=place[1],
            what="a character that YAML does not allow.",
            fix="Remove it.",
        )
        raise ConfigError([problem]) from None
    except _Unreadable:
        raise ConfigError(document.problems) from None
    if isinstance(data, dict):
        document.data = data
        return document
    if data is not None:
        document.refuse(Span(1, 1, 1, 1), "expected keys and values", "Begin with 'version: 1'", _SYNTAX)
    elif not document.problems:
        document.refuse(Span(1, 1, 1, 1), "the file is empty", "Write 'version: 1' and your providers", _SYNTAX)
    raise ConfigError(document.problems)


class _Unreadable(Exception):
    """What is left cannot be read sensibly; the problems say why."""


class _Reader:
    """Folds YAML's events into values. Bounded by DEPTH, so that a nest of brackets is an error and not a recursion."""

    def __init__(self, document: Document, env: Mapping[str, str], text: str) -> None:
        self._document = document
        self._env = env
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(io.StringIO(text)))

    def read(self) -> Any:
        data: Any = None
        for documents, event in enumerate(self._nodes()):
            if documents:
                self._document.refuse(
                    _span(event), "a second document begins here", "Keep one document; remove '---'", _SYNTAX
                )
                raise _Unreadable
            data = self._value(event, ())
        return data

    def _nodes(self) -> Iterator[Any]:
        """The first event of each document's content."""
        for event in self._events:
            if isinstance(event, NodeEvent):
                yield event

    def _value(self, event: Any, path: KeyPath) -> Any:
        span = _span(event)
        self._document.values[path] = span
        if len(path) > DEPTH:
            self._document.refuse(span, f"nested deeper than {DEPTH} levels", "No setting is that deep", _SYNTAX)
            raise _Unreadable
        if isinstance(event, AliasEvent):
            self._refuse(
                path,
                "aliases ('*name') are not supported",
                "Write the value out, or quote a text that begins with '*'",
                code=_SYNTAX,
            )
            return None
        if event.anchor is not None:
            self._refuse(
                path,
                "anchors ('&name') are not supported",
                "Write the value out; 'defaults' is merged into every provider",
                code=_SYNTAX,
            )
        if event.tag is not None:
            self._refuse(
                path,
                "tags ('!name') are not supported",
                "Remove the tag, or quote a text that begins with '!'",
                code=_SYNTAX,
            )
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            span = _span(event)
            key = self._key(event, span, path)
            inner = (*path, key)
            again = key in found
            if again:
                self._document.refuse(
                    span,
                    f"the key '{shorten(key)}' appears twice (first in line {self._document.keys[inner].line})",
                    "Keep one of the two",
                    "config_duplicate_key",
                )
                inner = (*path, f"{key}\0{span.line}")
            self._document.keys[inner] = span
            value = self._value(next(self._events), inner)
            if not again:
                found[key] = value
        return found

    def _key(self, event: Any, span: Span, path: KeyPath) -> str:
        if not isinstance(event, ScalarEvent):
            self._document.refuse(
                span, "expected a name as the key", "Quote values with ${…} inside {…} or […]", _SYNTAX
            )
            raise _Unreadable
        if event.value == "<<" and event.implicit[0]:
            self._document.broken.add((*path, "<<"))
            self._document.refuse(
                span, "merge keys ('<<') are not supported", "Write the values out, or use 'defaults'", _SYNTAX
            )
        return str(event.value)

    def _sequence(self, path: KeyPath) -> list[Any]:
        found: list[Any] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            found.append(self._value(event, (*path, len(found))))
        return found

    def _scalar(self, event: ScalarEvent, path: KeyPath) -> Any:
        text = str(event.value)
        self._document.scalars.add(path)
        if "${" in text:
            return self._interpolated(text, path)
        if event.style is not None or event.tag is not None:
            return text
        value = resolve(text)
        if value is None:
            self._refuse(
                path, f"{_named(path)} has no value", "Give it one, or remove it", value=False, code="config_value"
            )
        return value

    def _interpolated(self, text: str, path: KeyPath) -> str:
        if in_command(path) and _REFERENCE.search(text):
            if any(match[0] != "$${" for match in _REFERENCE.finditer(text)):
                self._refuse(
                    path,
                    "nothing is filled in for ${…} in a command, because it would show in the list of processes",
                    "Hand it over in 'env', or write $${ for a plain ${",
                )
                return ""
            return text.replace("$${", "${")
        values: list[str] = []
        shown: list[str] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            plain = text[end : match.start()]
            values.append(plain)
            shown.append(plain)
            end = match.end()
            if match[0] == "$${":
                values.append("${")
                shown.append("${")
                continue
            filled, foreign = self._fill(match[1], path)
            values.append(filled)
            # A default stands in the file for all to read; what comes from elsewhere may be a secret.
            shown.append(MASK if foreign else filled)
            if foreign and filled:
                self._document.filled.add(filled)
        whole = "".join(values) + text[end:]
        if MASK in shown:
            self._document.masked[path] = "".join(shown) + text[end:]
        return Interpolated(whole)

    def _fill(self, reference: str | None, path: KeyPath) -> tuple[str, bool]:
        """What stands for a reference, and whether it came from outside the file."""
        if reference is None:
            self._refuse(path, "'${' is never closed", "Write ${NAME}, or $${ for a plain ${")
            return "", True
        if reference.startswith("file:"):
            return self._file(reference.removeprefix("file:"), path), True
        match = _VARIABLE.fullmatch(reference)
        if not match:
            fix = "Write ${NAME}, ${NAME:-default} or ${file:/path}; $${ stands for a plain ${"
            self._refuse(path, "'${…}' is not a reference that Hangar knows", fix)
            return "", True
        name, default = match[1], match[2]
        if default is not None and not self._env.get(name):
            return default, False
        if name not in self._env:
            close = did_you_mean(name, list(self._env))
            hint = f"Did you mean {close}? Otherwise set" if close else "Set"
            self._refuse(path, f"the environment has no variable {name}", f"{hint} it, or write ${{{name}:-default}}")
        return self._env.get(name, ""), True

    def _file(self, name: str, path: KeyPath) -> str:
        target = Path(expand_home(name, self._env))
        if not target.is_absolute():
            self._refuse(
                path,
                "a path in ${file:…} must be absolute",
                "Write it from the root, such as ${file:/run/secrets/name}",
            )
            return ""
        try:
            # Without O_NONBLOCK a FIFO would hold the start for ever.
            handle = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    self._refuse(path, f"{shorten(name)} is not a regular file", "Name a file that holds the value")
                    return ""
                raw = file.read(SECRET_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such path"
            self._refuse(
                path,
                f"the file {shorten(name)} cannot be read: {reason}",
                "Check the path and that this user may read it",
            )
            return ""
        if len(raw) > SECRET_FILE_BYTES:
            self._refuse(
                path,
                f"the file {shorten(name)} is larger than {SECRET_FILE_BYTES // 1024} KiB",
                "Name a file that holds one value",
            )
            return ""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(path, f"the file {shorten(name)} is not UTF-8 text", "Store the value as text (hex or base64)")
            return ""
        return text.removesuffix("\n").removesuffix("\r")

    def _refuse(self, path: KeyPath, what: str, fix: str, *, value: bool = True, code: str = _REFERS) -> None:
        self._document.broken.add(path)
        self._document.refuse(self._document.span(path, value=value), what, fix, code)


_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?:([^{}]*)\})?")
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)

_WORDS: Final[dict[str, object]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER: Final = re.compile(r"[-+]?\d{1,30}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)


def resolve(text: str) -> object:
    """A plain scalar by YAML 1.2's core schema; octal, hex, inf and nan stay text, since no setting takes them."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if len(text) < 40 and _FLOAT.fullmatch(text):
        return float(text)
    return text


def in_command(path: KeyPath) -> bool:
    return len(path) >= 3 and path[0] == "providers" and path[2] == "command"


def expand_home(name: str, env: Mapping[str, str]) -> str:
    if name == "~" or name.startswith("~/"):
        return (env.get("HOME") or str(Path.home())) + name[1:]
    return name


def _sentence(text: str) -> str:
    return text if text.endswith(("?", ".")) else f"{text}."


def shorten(text: str) -> str:
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= 60 else plain[:59] + "…"


def _named(path: KeyPath) -> str:
    if path and isinstance(path[-1], int):
        return "this entry"
    return f"'{shorten(str(path[-1]).partition(chr(0))[0])}'" if path else "the file"


def _span(event: Any) -> Span:
    start, end = event.start_mark, event.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _at(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _syntax(error: MarkedYAMLError, file: str, text: str) -> ConfigProblem:
    """What the YAML reader stumbled on, in words of someone who wrote a configuration. Never quotes the text."""
    problem, context = str(error.problem or ""), str(error.context or "")
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    source = lines[line - 1] if line <= len(lines) else ""
    if "'\\t'" in problem:
        what, fix = "a tab where YAML allows only spaces.", "Indent with two spaces."
    elif "alias" in context:
        what, fix = "a value that begins with '*' must be quoted.", 'Write "*" in quotes.'
    elif "flow" in context and "${" in source:
        what, fix = "values with ${…} inside {…} or […] must be quoted.", 'Write "${NAME}" in quotes.'
    elif "flow" in context:
        what, fix = (
            "a '{' or '[' is not closed, or a comma is missing.",
            "Close it, or put each entry on a line of its own.",
        )
    elif "quoted scalar" in context and "end of stream" in problem:
        mark = error.context_mark or mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (line, column)
        what, fix = "the quote that begins here is never closed.", "Close it."
    elif "escape" in problem:
        what, fix = "an unknown escape in double quotes.", "Use single quotes, or double the backslash."
    elif "mapping values are not allowed" in problem:
        what = "a ':' where none can stand."
        fix = (
            "Check the indentation of this line and the one above, and that the key above ends in ':'; "
            "quote values that contain ': '."
        )
    elif "expected <block end>" in problem:
        what, fix = (
            "this line does not fit in with the lines above.",
            "Align it with its neighbours; entries of one block begin in one column.",
        )
    elif "could not find expected ':'" in problem:
        mark = error.context_mark or mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (line, column)
        what, fix = "a key without ':'.", "Write 'key: value'."
    elif "cannot start any token" in problem:
        what, fix = "a value that begins with this character must be quoted.", "Put it in quotes."
    else:
        what, fix = "this is not valid YAML.", "Check quotes, brackets and indentation here."
    return ConfigProblem(code=_SYNTAX, file=file, line=line, column=column, what=what, fix=fix)
