# SPDX-License-Identifier: MIT
"""What a provider's HTTP answers mean, once they are whole. Pure; shared by both HTTP wires."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mcp_hangar.domain.errors import TransportError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.infrastructure.transports.dial import parse_endpoint

MAX_HOPS: Final = 3
_AUTH_ERROR: Final = re.compile(rb'\berror="([a-z_]{1,40})"')
_SHOWN: Final = 200

Fields = dict[bytes, bytes]


class _Error(msgspec.Struct):
    code: int | float = 0
    message: str = ""


decode_message = msgspec.json.Decoder(Message).decode
"""Raises `msgspec.DecodeError`, `RecursionError`."""
_decode_error = msgspec.json.Decoder(_Error).decode


def read_message(data: bytes) -> Message | None:
    """None for what is no message, or not UTF-8: the parser leaves strings that it only passes on unchecked."""
    try:
        if not data.isascii():
            data.decode()
        return envelope.read_message(data)
    except envelope.UNREADABLE:
        return None


def read_error(message: Message | None) -> tuple[int | float, str]:
    """Code and text of a JSON-RPC error, or zero and nothing."""
    if message is None or not len(message.error):
        return 0, ""
    try:
        found = _decode_error(message.error)
    except (msgspec.DecodeError, RecursionError):
        return 0, ""
    text = "".join(character if character.isprintable() else " " for character in found.message[:_SHOWN])
    return found.code, text


def media_type(fields: Fields) -> bytes:
    return fields.get(b"content-type", b"").partition(b";")[0].strip().lower()


def is_stream(status: int, fields: Fields) -> bool:
    return status == 200 and media_type(fields) == b"text/event-stream"


def names_lost_session(status: int, message: Message | None) -> bool:
    """Whether this answer to a request that named a session says that there is no such session."""
    code, text = read_error(message)
    if status == 404:
        # A strict server also says "no such method" with 404.
        return code != -32601
    if status == 400 and "version" not in text.lower():
        return code == -32000 or "session" in text.lower()
    return False


def not_an_answer(status: int, fields: Fields) -> str:
    if status == 202:
        return "It accepted the request (202) and gave no answer."
    kind = media_type(fields)[:60].decode("latin-1") or "nothing"
    return f"It answered with {kind}, status {status}, where a JSON-RPC message should be."


def refusal(provider: str, status: int, fields: Fields, message: Message | None) -> TransportError:
    """The error for a status that is not an answer."""
    if status in (401, 403):
        # Not what it says in words: servers repeat what they were sent, and that was a credential.
        reason = _AUTH_ERROR.search(fields.get(b"www-authenticate", b""))
        detail = f"It answered with status {status}{f' ({reason[1].decode()})' if reason else ''}."
        return TransportError("upstream_auth", provider=provider, status=status, detail=detail)
    facts: dict[str, object] = {}
    wait = fields.get(b"retry-after", b"")
    if wait.isdigit() and len(wait) < 7:
        facts["retry_after"] = int(wait)
    if 300 <= status < 400:
        place = _origin(fields.get(b"location", b""))
        detail = f"It redirects to {place}; only 307 and 308 within its own origin are followed, {MAX_HOPS} times."
    else:
        text = read_error(message)[1]
        detail = f"It says: {text}" if text else "It says nothing further."
    return TransportError("upstream_status", provider=provider, status=status, detail=detail, **facts)


def redirect_target(status: int, fields: Fields, origin: str) -> str | None:
    """Where to ask instead, if it may be followed: method kept, origin unchanged."""
    if status not in (307, 308):
        return None
    try:
        text = fields.get(b"location", b"").decode("ascii")
        if text.startswith("/") and not text.startswith(("//", "/\\")):
            text = origin + text
        endpoint = parse_endpoint(text)
    except ValueError:
        return None
    return endpoint.target if endpoint.origin == origin and not endpoint.authorization else None


def _origin(location: bytes) -> str:
    try:
        return parse_endpoint(location.decode("ascii")).origin
    except ValueError:
        return "another place"
