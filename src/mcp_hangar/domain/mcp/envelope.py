# SPDX-License-Identifier: MIT
"""JSON-RPC as bytes: read just as deep as needed, keep the rest as it came, put it together again.

Messages are never modelled: an object is read one level at a time into its members (`dict[str, Raw]`), so unknown
fields, number spellings and member order survive. `members` refuses duplicate keys, since two readers could
otherwise understand two different messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mcp_hangar.domain.errors import RequestError

Raw = msgspec.Raw
Members = dict[str, Raw]
Json = bytes | Raw

_members = msgspec.json.Decoder(Members)
_text = msgspec.json.Decoder(str)
encode = msgspec.json.encode
"""Any plain value -> JSON bytes."""
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
    def is_notification(self) -> bool:
        return bool(self.method) and len(self.id) == 0

    @property
    def is_response(self) -> bool:
        return not self.method


_message = msgspec.json.Decoder(Message)


def read_message(data: bytes) -> Message:
    """One message from a provider. Raises `msgspec.DecodeError` if it is not a JSON object of that shape.

    Duplicate members are harmless here, since the envelope is built anew from what was read.
    """
    return _message.decode(data)


def members(raw: Json, where: str = "the message") -> Members:
    """The members of a JSON object, undecoded, in order.

    Raises `RequestError("duplicate_key")` for a repeated key and `RequestError("parse_error")` if it is no object.
    """
    try:
        found = _members.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError("parse_error", detail=str(error)) from None
    # Compact JSON with plain ASCII keys has exactly this length. A repeated key, a blank or an escape only ever
    # makes the text longer, so equality proves that no key repeats; otherwise look closely.
    if len(raw) != sum(map(len, found)) + sum(map(len, found.values())) + 4 * len(found) + (1 if found else 2):
        _refuse_duplicates(raw, where)
    return found


def _refuse_duplicates(raw: Json, where: str) -> None:
    def pairs(items: list[tuple[str, Any]]) -> Any:
        seen = dict(items)
        return seen if len(seen) == len(items) else _Repeated(items)

    try:
        top = json.loads(bytes(raw), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise RequestError("parse_error", detail=str(error)) from None
    if isinstance(top, _Repeated):
        raise RequestError("duplicate_key", key=top.key, where=where)


def read_strictly(raw: Json, where: str) -> Any:
    """The whole value, for those who must look inside: a repeated key at any depth is refused."""

    def pairs(items: list[tuple[str, Any]]) -> Any:
        seen = dict(items)
        if len(seen) != len(items):
            raise RequestError("duplicate_key", key=_Repeated(items).key, where=where)
        return seen

    try:
        return json.loads(bytes(raw), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise RequestError("parse_error", detail=str(error)) from None


class _Repeated:
    def __init__(self, items: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        self.key = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def join(items: Iterable[tuple[str, Json]]) -> bytes:
    """A JSON object from members, in order; the opposite of `members`."""
    return b"{" + b",".join([b"%b:%b" % (encode(key), value) for key, value in items]) + b"}"


def text(raw: Json | None, default: str = "") -> str:
    """The string that `raw` holds, or `default` if it is absent or no string."""
    if raw is None or not len(raw):
        return default
    try:
        return _text.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
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


_ONLY_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def too_deep(data: bytes, limit: int) -> bool:
    """Whether JSON nests deeper than `limit`, without parsing: strings out, then brackets peeled level by level."""
    if data.count(b"{") + data.count(b"[") <= limit:
        return False
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(plain.split(b'"')[::2]).translate(None, _ONLY_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return bool(brackets)
