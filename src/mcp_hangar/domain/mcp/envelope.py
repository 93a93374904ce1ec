# SPDX-License-Identifier: MIT
"""JSON-RPC as bytes: read just as deep as needed, keep the rest as it came, put it together again.

Messages are never modelled: an object is read one level at a time into its members (`dict[str, Raw]`), so unknown
fields, number spellings and member order survive. `members` refuses duplicate keys, since two readers could
otherwise understand two different messages.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mcp_hangar.domain.errors import RequestError

Raw = msgspec.Raw
Members = dict[str, Raw]
Json = bytes | Raw

_members = msgspec.json.Decoder(Members)
_batch = msgspec.json.Decoder(list[Raw])
_text = msgspec.json.Decoder(str)
encode = msgspec.json.encode
"""Any plain value -> JSON bytes."""
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON may raise, whoever wrote it."""
decode = msgspec.json.decode
"""JSON bytes -> plain values. Numbers lose their spelling: not for what is relayed."""


class Message(msgspec.Struct, frozen=True):
    """One JSON-RPC message, one level deep. Absent members are empty (`len() == 0`); a present null is `b"null"`."""

    id: Raw = Raw(b"")
    method: str = ""
    params: Raw = Raw(b"")
    result: Raw = Raw(b"")
    error: Raw = Raw(b"")

    @property
    def is_request(self) -> bool:
        return bool(self.method) and len(self.id) > 0

    @property
    def is_response(self) -> bool:
        return not self.method


_message = msgspec.json.Decoder(Message)


def read_message(data: bytes) -> Message:
    """One message from a provider. Raises one of `UNREADABLE` if it is not a JSON object of that shape.

    Duplicate members are harmless here, since the envelope is built anew from what was read.
    """
    try:
        return _message.decode(data)
    except msgspec.DecodeError:
        if (mended := well_formed(data)) == data:
            raise
        return _message.decode(mended)


_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def well_formed(data: bytes) -> bytes:
    """JSON in which half a surrogate pair (an emoji that was cut, as JavaScript may write it) is U+FFFD, of the same
    length. Such a half is no character, no UTF-8 can hold it, and most parsers refuse all that it stands in."""
    if b"\\u" not in data:
        return data
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], data)


def batch(data: bytes, limit: int) -> list[Raw]:
    """The messages of a JSON-RPC batch, undecoded. Raises `RequestError`."""
    try:
        raws = _batch.decode(well_formed(data))
    except UNREADABLE as error:
        raise RequestError("parse_error", detail=str(error)) from None
    if not 0 < len(raws) <= limit:
        raise RequestError("invalid_request", detail=f"a batch holds 1 to {limit} messages")
    return raws


def members(raw: Json, where: str = "the message") -> Members:
    """The members of a JSON object, undecoded, in order.

    Raises `RequestError("duplicate_key")` for a repeated key and `RequestError("parse_error")` if it is no object.
    """
    try:
        found = _members.decode(raw)
    except UNREADABLE as error:
        raise RequestError("parse_error", detail=str(error)) from None
    # Compact JSON with plain ASCII keys has exactly this length. A repeated key, a blank or an escape only ever
    # makes the text longer, so equality proves that no key repeats; otherwise look closely.
    if len(raw) != sum(map(len, found)) + sum(map(len, found.values())) + 4 * len(found) + (1 if found else 2):
        text = bytes(raw)
        if not _each_once(text, found):
            raise RequestError("duplicate_key", key=_repeated_key(text), where=where)
    return found


_KEY: Final = re.compile(rb'[ \t\r\n]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*')
_AFTER: Final = re.compile(rb"[ \t\r\n]*([,}])")


def _each_once(text: bytes, found: Members) -> bool:
    """Whether a JSON object holds just the members found in it, which is so if they fill it one after the other: of a
    repeated key only the last value was found. Costs a comparison of the text with itself, whatever is nested."""
    position, mark = text.index(b"{") + 1, b"}"
    for value in found.values():
        key = _KEY.match(text, position)
        if key is None or not text.startswith(bytes(value), key.end()):
            return False
        after = _AFTER.match(text, key.end() + len(value))
        if after is None:
            return False
        position, mark = after.end(), after[1]
    return mark == b"}"


def _repeated_key(text: bytes) -> str:
    """Which key it is that repeats, for the one who has to mend it."""

    def pairs(items: list[tuple[str, Any]]) -> Any:
        return _first_repeated(items)

    try:
        return str(json.loads(text, object_pairs_hook=pairs, parse_int=str))
    except (ValueError, RecursionError):
        return "(unreadable)"


def _first_repeated(items: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in items:
        if key in seen:
            return key[:100].encode(errors="replace").decode()
        seen.add(key)
    return ""


def read_strictly(raw: Json, where: str) -> Any:
    """The whole value, for those who must look inside: a repeated key at any depth is refused."""

    def pairs(items: list[tuple[str, Any]]) -> Any:
        seen = dict(items)
        if len(seen) != len(items):
            raise RequestError("duplicate_key", key=_first_repeated(items), where=where)
        return seen

    try:
        return json.loads(bytes(raw).decode(), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise RequestError("parse_error", detail=str(error)) from None


def join(items: Iterable[tuple[str, Json]]) -> bytes:
    """A JSON object from members, in order; the opposite of `members`."""
    return b"{" + b",".join([b"%b:%b" % (encode(key), value) for key, value in items]) + b"}"


def text(raw: Json | None, default: str = "") -> str:
    """The string that `raw` holds, or `default` if it is absent or no string."""
    if raw is None or not len(raw):
        return default
    try:
        return _text.decode(raw)
    except UNREADABLE:
        return default


def request(id: int, method: str, params: Json) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (id, encode(method), params)


def notification(method: str, params: Json = b"") -> bytes:
    if not len(params):
        return b'{"jsonrpc":"2.0","method":%b}' % encode(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (encode(method), params)


def result(id: Json, value: Json) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, value)


def error(id: Json, value: Json) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id or b"null", value)


def error_value(code: int, message: str, data: Any = None) -> bytes:
    value: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        value["data"] = data
    return encode(value)


def _many_brackets(data: bytes, limit: int) -> bool:
    """Whether more than `limit` open. Finding the next one is a hundred times as fast as counting them all."""
    for bracket in (b"{", b"["):
        position = data.find(bracket)
        while position >= 0:
            limit -= 1
            if limit < 0:
                return True
            position = data.find(bracket, position + 1)
    return False


_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")


def too_deep(data: bytes, limit: int) -> bool:
    """Whether JSON nests deeper than `limit`, without parsing and in linear time: strings out, then the innermost
    brackets off, one level at a time, as long as that takes most of them away; what is left is counted."""
    if not _many_brackets(data, limit):
        return False
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(plain.split(b'"')[::2]).translate(_ONE_KIND, _NO_BRACKETS)
    for levels in range(limit, -1, -1):
        rest = brackets.replace(b"[]", b"")
        if 2 * len(rest) > len(brackets):
            return levels + 1 in itertools.accumulate(memoryview(brackets.translate(_STEPS)).cast("b"))
        if not rest:
            return bool(brackets) and not levels
        brackets = rest
    return True
