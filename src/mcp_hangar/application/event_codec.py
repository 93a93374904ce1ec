# SPDX-License-Identifier: MIT
"""Events to records and back. Encoding happens here, off the call path, once per event.

A record is one line of JSON that is safe to print, to append and to keep: arguments are in it only as a keyed hash and,
if asked for, as a redacted preview; whatever could move a terminal or end a line is escaped.
"""

from __future__ import annotations

import enum
import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, get_args

import msgspec

from mcp_hangar.domain.events import AnyEvent, Event
from mcp_hangar.domain.redaction import WINDOW, escape_controls, redact_json


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event as it is kept: where it stands, and its JSON (one line, no newline)."""

    seq: int
    type: str
    data: bytes


class ArgumentsMode(enum.StrEnum):
    """What a record holds of a call's arguments (setting `audit.arguments`)."""

    hash = "hash"
    """Only `arguments_hash`: BLAKE2b over the bytes as they came, keyed, so that equal calls can be told to be equal
    and guesses cannot be tried out by those who only read records."""
    preview = "preview"
    """The hash, and `arguments_preview`: the beginning, with secrets masked."""
    full = "full"
    """The hash, and `arguments` as they came. The record is then as secret as the arguments are."""
    none = "none"


FIELD_CHARS: Final = 4096
"""A text field longer than this is cut, and says so: names and details are strangers' words."""

_LONG_LINE: Final = 4 * FIELD_CHARS
_TYPES: Final[dict[str, type[Event]]] = {cls.__struct_config__.tag: cls for cls in get_args(AnyEvent)}


class _Form(NamedTuple):
    """How events of one type are written: a struct with the envelope first, filled by position and encoded in C."""

    wire: type[msgspec.Struct]
    tag: str
    body: Callable[[Event], tuple[Any, ...]]
    """The fields after the envelope's head; those at their default are left out of the record."""
    has_arguments: bool


def _form(cls: type[Event]) -> _Form:
    fields = [field for field in msgspec.structs.fields(cls) if field.name not in ("at", "version", "severity")]
    body = [field for field in fields if field.name != "arguments"]
    tag = str(cls.__struct_config__.tag)
    wire = msgspec.defstruct(
        cls.__name__,
        [("version", int), ("id", str), ("epoch", str), ("seq", int), ("at", str), ("severity", str)]
        + [(field.name, Any, msgspec.UNSET if field.default is msgspec.NODEFAULT else field.default) for field in body]
        + [(name, Any, "") for name in ("arguments_hash", "arguments_preview", "arguments")],
        tag=tag,
        tag_field="type",
        omit_defaults=True,
    )
    getter = attrgetter(*(field.name for field in body))
    return _Form(wire, tag, getter, len(body) < len(fields))


_FORMS: Final = {cls: _form(cls) for cls in _TYPES.values()}
_encode: Final = msgspec.json.Encoder().encode


class Codec:
    """Encodes the events of one run. `epoch` names the run: `seq` begins anew with each."""

    def __init__(
        self,
        *,
        epoch: str,
        hash_key: bytes,
        arguments: ArgumentsMode = ArgumentsMode.hash,
        entropy: Callable[[int], int] | None = None,
    ) -> None:
        """`entropy(bits)` draws what tells ids of the same millisecond apart; no secret hangs on it."""
        self.epoch = epoch
        self.mode = arguments
        # BLAKE2b takes keys of up to 64 bytes.
        key = hash_key if len(hash_key) <= 64 else hashlib.blake2b(hash_key).digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=32)
        self._entropy = entropy or random.Random().getrandbits
        self._second = 0
        self._second_text = "1970-01-01T00:00:00."

    def hasher(self) -> hashlib.blake2b:
        """For arguments so large that whoever hashes them wants to pause between pieces."""
        return self._keyed.copy()

    def encode(self, event: Event, seq: int, arguments_hash: str = "") -> Record:
        """`arguments_hash`: the hex digest of `hasher()`, where it was already made."""
        form = _FORMS[type(event)]
        micros = int(event.at * 1e6 + 0.5)
        identity = _uuid7(micros // 1000, seq, self._entropy(62))
        head = (event.version, identity, self.epoch, seq, self._time(micros), event.severity)
        values = head + form.body(event)
        room = _LONG_LINE
        if form.has_arguments and self.mode is not ArgumentsMode.none:
            raw: bytes | msgspec.Raw = event.arguments  # type: ignore[attr-defined]  # has_arguments says so
            if len(raw):
                values += (arguments_hash or self._hash(raw), *self._shown(raw))
                room += 2 * len(raw) if self.mode is ArgumentsMode.full else 0
        wire = form.wire(*values)
        try:
            line = _encode(wire)
        except UnicodeEncodeError:  # lone surrogates, as in names of files that are no UTF-8
            line = _encode(form.wire(*_each_text(values, _printable)))
        if len(line) > room:
            line = _encode(form.wire(*_each_text(values, lambda text: _clip(_printable(text)))))
        if not line.isascii() or b"\x7f" in line:
            line = escape_controls(line.decode()).encode()
        return Record(seq, form.tag, line)

    def _hash(self, raw: bytes | msgspec.Raw) -> str:
        hasher = self._keyed.copy()
        hasher.update(raw)
        return hasher.hexdigest()

    def _shown(self, raw: bytes | msgspec.Raw) -> tuple[str | msgspec.Raw, ...]:
        """The last fields of the record: `arguments_preview` and `arguments`."""
        if self.mode is ArgumentsMode.preview:
            return (redact_json(bytes(memoryview(raw)[: 8 * WINDOW])),)
        if self.mode is ArgumentsMode.full:
            return ("", _one_line(bytes(raw)))
        return ()

    def _time(self, micros: int) -> str:
        second, micros = divmod(micros, 1_000_000)
        if second != self._second:
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._second = second
        return f"{self._second_text}{micros:06d}Z"


def decode(data: bytes) -> Event:
    """The event that a record holds. Arguments come back only if they were kept in full.

    Raises `ValueError` for what is no record, or is of a type or version that this Hangar does not know.
    """
    members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    tag = msgspec.json.decode(members.get("type", b'""'), type=str)
    cls = _TYPES.get(tag)
    if cls is None:
        raise ValueError(f"unknown event type {tag!r}")
    if msgspec.json.decode(members.get("version", b"1"), type=int) > 1:
        raise ValueError(f"{tag} is of a newer version than this Hangar knows")
    at = datetime.fromisoformat(msgspec.json.decode(members["at"], type=str)).timestamp()
    members["at"] = msgspec.Raw(msgspec.json.encode(at))
    arguments = members.pop("arguments", None)
    event = msgspec.json.decode(msgspec.json.encode(members), type=cls)
    return event if arguments is None else msgspec.structs.replace(event, arguments=bytes(arguments))


def _uuid7(millis: int, seq: int, entropy: int) -> str:
    """RFC 9562: milliseconds, then (in place of the first random bits) the low bits of `seq`, so that ids sort."""
    millis = max(millis, 0) & 0xFFFF_FFFF_FFFF
    return (
        f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{seq & 0xFFF:03x}"
        f"-{0x8000 | entropy >> 48:04x}-{entropy & 0xFFFF_FFFF_FFFF:012x}"
    )


def _one_line(raw: bytes) -> msgspec.Raw:
    """JSON as it came, without line breaks (which only ever stand between its tokens); what is no JSON, as a string."""
    try:
        raw.decode()
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.Raw(msgspec.json.encode(raw.decode("utf-8", "replace")))
    return msgspec.Raw(raw.translate(_BLANKS).strip())


_BLANKS: Final = bytes.maketrans(b"\t\n\r", b"   ")


def _each_text(values: tuple[Any, ...], change: Callable[[str], str]) -> tuple[Any, ...]:
    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, tuple):
            return tuple(map(changed, value[:100]))
        return value

    return tuple(map(changed, values))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _clip(text: str) -> str:
    return text if len(text) <= FIELD_CHARS else f"{text[:FIELD_CHARS]}… (+{len(text) - FIELD_CHARS} characters)"
