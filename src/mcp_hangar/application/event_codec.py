# SPDX-License-Identifier: MIT
"""Events to records and back. Encoding happens here, off the call path, once per event.

A record is one line of JSON that is safe to print, to append and to keep: arguments are in it only as a keyed hash and,
if asked for, as a redacted preview; whatever could move a terminal or end a line is escaped.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, get_args

import msgspec
from blake3 import blake3

from mcp_hangar.domain.events import AnyEvent, Event, Severity
from mcp_hangar.domain.redaction import WINDOW, escape_controls, redact_json


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event as it is kept: where it stands, and its JSON (one line, no newline)."""

    seq: int
    type: str
    data: bytes


class ArgumentsMode(enum.StrEnum):
    """What a record holds of a call's arguments (setting `audit.arguments`)."""

    hash = "hash"
    """Only `arguments_hash`: BLAKE3 over the bytes as they came, keyed, so that equal calls can be told to be equal
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
    """How events of one type are written: msgspec encodes the event itself, with all that is at its default left out;
    its beginning (tag and `at`) is replaced by the head of the envelope."""

    tag: str
    head: bytes
    """The envelope up to the value of `version`."""
    skip: int
    """Bytes of an encoded event before the value of `at`."""
    has_arguments: bool


def _form(cls: type[Event]) -> _Form:
    tag = str(cls.__struct_config__.tag)
    type_ = b'{"type":"%b",' % tag.encode()
    return _Form(tag, type_ + b'"version":', len(type_) + len('"at":'), "arguments" in cls.__struct_fields__)


_FORMS: Final = {cls: _form(cls) for cls in _TYPES.values()}
_encode: Final = msgspec.json.Encoder().encode
_NOTHING: Final = b""
_INFO: Final = Severity.info


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
        # BLAKE3 takes keys of 32 bytes.
        self._keyed = blake3(key=hash_key if len(hash_key) == 32 else blake3(hash_key).digest())
        self._entropy = entropy or random.Random().getrandbits
        self._second = self._millis = -1
        self._second_text = self._before = self._behind = b""

    def hasher(self) -> blake3:
        """For arguments so large that whoever hashes them wants to pause between pieces."""
        return self._keyed.copy()

    def encode(self, event: Event, seq: int, arguments_hash: str = "") -> Record:
        """`arguments_hash`: the hex digest of `hasher()`, where it was already made."""
        tag, head, skip, has_arguments = _FORMS[type(event)]
        second, micros = divmod(int(event.at * 1e6 + 0.5), 1_000_000)
        millis = second * 1000 + micros // 1000
        if millis != self._millis:
            self._turn(second, millis)
        more, room = _NOTHING, _LONG_LINE
        if has_arguments and len(raw := event.arguments):  # type: ignore[attr-defined]  # has_arguments says so
            more = self._told(raw, arguments_hash)
            room += len(more)
            event = copy(event)  # in C; `replace` reads each field
            msgspec.structs.force_setattr(event, "arguments", _NOTHING)
        try:
            text = _encode(event)
        except UnicodeEncodeError:  # lone surrogates, as in names of files that are no UTF-8
            text = _encode(_each_text(event, _printable))
        if len(text) > room:
            text = _encode(_each_text(event, lambda each: _clip(_printable(each))))
        # Behind `at` (a number) may stand `version` and `severity` (a number and a word): the envelope's head has them.
        start = text.find(b",", skip)
        version, severity = event.version, b"info"
        if version != 1:
            start = text.find(b",", start + 1)
        if event.severity is not _INFO:
            severity = event.severity.encode()
            start = text.find(b",", start + 1)
        line = b'%b%d,"id":"%b%03x%b%d,"at":"%b%06dZ","severity":"%b"%b%b}' % (
            head,
            version,
            self._before,
            seq & 0xFFF,
            self._behind,
            seq,
            self._second_text,
            micros,
            severity,
            text[start:-1] if start > 0 else _NOTHING,
            more,
        )
        if not line.isascii() or b"\x7f" in line:
            line = escape_controls(line.decode()).encode()
        return Record(seq, tag, line)

    def _told(self, raw: bytes | msgspec.Raw, digest: str) -> bytes:
        """What a record says of arguments: its last members."""
        if self.mode is ArgumentsMode.none:
            return _NOTHING
        if not digest:
            hasher = self._keyed.copy()
            hasher.update(raw)
            digest = hasher.hexdigest()
        hashed = b',"arguments_hash":"%b"' % digest.encode()
        if self.mode is ArgumentsMode.hash:
            return hashed
        if self.mode is ArgumentsMode.preview:
            preview = redact_json(bytes(memoryview(raw)[: 8 * WINDOW]))
            return b'%b,"arguments_preview":%b' % (hashed, _encode(preview))
        return b'%b,"arguments":%b' % (hashed, _one_line(bytes(raw)))

    def _turn(self, second: int, millis: int) -> None:
        """Another millisecond. What an id (UUIDv7, RFC 9562) says of it is the same for all its events: the time, and
        random bits drawn anew; between the two stand the low bits of `seq`, by which they differ, and sort."""
        if second != self._second:
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
            self._second = second
        self._millis = millis
        stamp = max(millis, 0) & 0xFFFF_FFFF_FFFF
        entropy = self._entropy(62)
        tail = (0x8000 | entropy >> 48, entropy & 0xFFFF_FFFF_FFFF, _encode(self.epoch))
        self._before = b"%08x-%04x-7" % (stamp >> 16, stamp & 0xFFFF)
        self._behind = b'-%04x-%012x","epoch":%b,"seq":' % tail


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


def _one_line(raw: bytes) -> msgspec.Raw:
    """JSON as it came, without line breaks (which only ever stand between its tokens); what is no JSON, as a string."""
    try:
        raw.decode()
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.Raw(msgspec.json.encode(raw.decode("utf-8", "replace")))
    return msgspec.Raw(raw.translate(_BLANKS).strip())


_BLANKS: Final = bytes.maketrans(b"\t\n\r", b"   ")


def _each_text(event: Event, change: Callable[[str], str]) -> Event:
    def changed(value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return value
        if isinstance(value, str):
            return change(value)
        if isinstance(value, tuple):
            return tuple(map(changed, value[:100]))
        return value

    values = {name: changed(getattr(event, name)) for name in event.__struct_fields__}
    return msgspec.structs.replace(event, **values)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _clip(text: str) -> str:
    return text if len(text) <= FIELD_CHARS else f"{text[:FIELD_CHARS]}… (+{len(text) - FIELD_CHARS} characters)"
