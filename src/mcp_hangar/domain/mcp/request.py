# SPDX-License-Identifier: MIT
"""A client's message, read once: the envelope, the params and their `_meta`, one level each; arguments stay bytes."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Members, Raw
from mcp_hangar.domain.mcp.eras import CLIENT_CAPABILITIES, CLIENT_INFO, NAME_PARAM, PROTOCOL_VERSION

_ID: Final = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|-?[0-9]{1,20})\Z')
_members = msgspec.json.Decoder(Members)
_text = msgspec.json.Decoder(str)
_EMPTY: Final = Raw(b"")
_VERSION: Final = Raw(b'"2.0"')
_COMPACT: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":}')
_SHORT: Final = 1_024
"""Bytes in which brackets are counted at once."""
_REPEATED: Final = frozenset({PROTOCOL_VERSION, CLIENT_INFO, CLIENT_CAPABILITIES})
_MOST_METAS: Final = 1_024
_LONGEST_META: Final = 1_024
"""Bytes."""
_metas: Final[dict[bytes, Members]] = {}


class Request(msgspec.Struct):
    """`id` is empty for a notification; `method` is empty for a response to a question of ours."""

    id: bytes
    method: str
    params: Members
    meta: Members
    name: str = ""
    """What `Mcp-Name` mirrors, where the method has such a parameter."""
    result: Raw = _EMPTY
    error: Raw = _EMPTY
    usual: bytes = b""
    """`_meta` as it came, if it says who asks and nothing else. `meta` is then shared, and must not be changed."""


class _Envelope(msgspec.Struct):
    jsonrpc: str = ""
    id: Raw = _EMPTY
    method: str = ""
    params: Members | None = None


_envelope = msgspec.json.Decoder(_Envelope)


def read_request(body: bytes, depth: int) -> Request:
    """Raises `RequestError` for anything but one JSON-RPC message whose envelope, params and `_meta` are unambiguous.

    Written flat, since every call passes here. Compact JSON with plain ASCII keys has exactly the computed length;
    a repeated key, a blank, an escape or a further member only ever makes it longer, so equality proves that there is
    none, and only what differs is looked at closely.
    """
    if (len(body) > _SHORT or body.count(b"{") + body.count(b"[") > depth) and envelope.too_deep(body, depth):
        raise RequestError("too_deep", limit=depth)
    try:
        if not body.isascii():
            body.decode()
        top = _envelope.decode(body)
    except envelope.UNREADABLE:
        return _read_closely(body)
    id, method, params = bytes(top.id), top.method, top.params
    if (
        not params
        or not method
        or top.jsonrpc != "2.0"
        or not ((id.isdigit() and len(id) <= 20) or _ID.match(id))
        or len(body)
        != _COMPACT
        + len(id)
        + len(method)
        + sum(map(len, params))
        + sum(map(len, params.values()))
        + 4 * len(params)
        + 1
    ):
        return _read_closely(body)
    raw = params.get("_meta")
    usual, meta = b"", {}
    try:
        name = _text.decode(params[NAME_PARAM[method]]) if method in NAME_PARAM and NAME_PARAM[method] in params else ""
        if raw is not None:
            usual = bytes(raw)
            known = _metas.get(usual)
            if known is None:
                meta = _read_meta(usual)
                usual = usual if usual in _metas else b""
            else:
                meta = known
    except envelope.UNREADABLE as error:
        raise _unreadable(body, error) from None
    return Request(id, method, params, meta, name, _EMPTY, _EMPTY, usual)


def _read_meta(raw: bytes) -> Members:
    """The members of `_meta`; kept by its bytes if only what clients repeat is in it."""
    meta = _object(Raw(raw), "_meta")
    if len(raw) <= _LONGEST_META and _REPEATED.issuperset(meta):
        if len(_metas) >= _MOST_METAS:
            _metas.clear()
        _metas[raw] = meta
    return meta


def _read_closely(body: bytes) -> Request:
    """What is not compact, not a request, or wrong."""
    try:
        if not body.isascii():
            body.decode()
        top = _members.decode(body)
        if len(body) != sum(map(len, top)) + sum(map(len, top.values())) + 4 * len(top) + 1:
            top = envelope.members(body, "the message")
        method = _text.decode(top["method"]) if "method" in top else ""
        params: Members = {}
        meta: Members = {}
        name = ""
        if len(raw := top.get("params", _EMPTY)):
            params = _object(raw, "params")
            if method in NAME_PARAM and (key := NAME_PARAM[method]) in params:
                name = _text.decode(params[key])
            if len(raw := params.get("_meta", _EMPTY)):
                meta = _object(raw, "_meta")
    except envelope.UNREADABLE as error:
        return _mended(body, error)
    id = bytes(top.get("id", _EMPTY))
    if top.get("jsonrpc", _EMPTY) != _VERSION or (id and not _ID.match(id)):
        raise _misshapen(top, id)
    if not method:
        if not id or ("result" not in top and "error" not in top):
            raise RequestError("invalid_request", detail="it has neither a method nor a result for an id")
        return Request(id, "", {}, {}, "", top.get("result", _EMPTY), top.get("error", _EMPTY))
    return Request(id, method, params, meta, name)


def _mended(body: bytes, error: Exception) -> Request:
    """Half an emoji in what is only passed on does not make a request unreadable; in what names something it does."""
    if (mended := envelope.well_formed(body)) != body:
        request = _read_closely(mended)
        if "\ufffd" not in request.method + request.name and b"\\ufffd" not in request.id:
            return request
    raise _unreadable(body, error) from None


def _object(raw: Raw, where: str) -> Members:
    found = _members.decode(raw)
    if len(raw) != sum(map(len, found)) + sum(map(len, found.values())) + 4 * len(found) + 1:
        found = envelope.members(raw, where)
    return found


def _unreadable(body: bytes, error: Exception) -> RequestError:
    if body.lstrip()[:1] == b"[":
        return RequestError("batch_unsupported")
    if isinstance(error, msgspec.ValidationError):
        return RequestError("invalid_request", detail=f"{error}")
    return RequestError("parse_error", detail=str(error))


def _misshapen(top: Members, id: bytes) -> RequestError:
    if top.get("jsonrpc", _EMPTY) != _VERSION:
        return RequestError("invalid_request", detail='jsonrpc must be "2.0"')
    return RequestError("invalid_request", detail="id must be a string or an integer")


def peek_id(body: bytes) -> bytes:
    """The id of a message that could not be accepted, for the error; empty if it cannot be told."""
    try:
        id = bytes(_members.decode(body).get("id", _EMPTY))
    except envelope.UNREADABLE:
        return b""
    return id if _ID.match(id) else b""
