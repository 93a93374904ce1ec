# SPDX-License-Identifier: MIT
"""What the header lines of a request say: judged once, then known by their bytes, since clients repeat themselves."""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.eras import LEGACY_VERSIONS
from mcp_hangar.domain.mcp.headers import decode_value
from mcp_hangar.server.asgi import Scope
from mcp_hangar.server.doors import Doors

_MOST_HEADS: Final = 1_024
_MOST_HEAD: Final = 2_048
"""Bytes; a longer head is read anew each time."""


class Head(msgspec.Struct):
    """What the header lines of a request say."""

    fields: dict[bytes, bytes]
    error: RequestError | None = None
    """Why nothing with this head is let in."""
    refused: RequestError | None = None
    """Why no POST with this head is."""
    modern: bool = False
    version: str = ""
    method: str = ""
    name: str = ""
    named: bool = False
    trace: str = ""


class Heads:
    """`known` is looked up by the header lines, as a tuple; what is not there is `read`. `token`: empty where everyone
    may come in."""

    def __init__(self, doors: Doors, *, token: str, body_bytes: int) -> None:
        self.known: dict[tuple[tuple[bytes, bytes], ...], Head] = {}
        self._doors, self._token, self._body_bytes = doors, token.encode(), body_bytes

    def read(self, scope: Scope) -> Head:
        """What a request's header lines say; kept by their exact bytes, since clients repeat themselves."""
        lines = scope["headers"]
        fields = dict(lines)
        head = Head(fields=fields)
        try:
            self._doors.check(scope, fields)
            if self._token:
                self._authenticate(fields)
        except RequestError as error:
            head.error = error
            return head
        if not fields.get(b"content-type", b"").lower().startswith(b"application/json"):
            head.refused = RequestError("unsupported_media_type")
        accept = fields.get(b"accept", b"")
        if b"*/*" not in accept and (b"application/json" not in accept or b"text/event-stream" not in accept):
            head.refused = RequestError("not_acceptable", needed="application/json and text/event-stream")
        length = fields.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 15 or int(length) > self._body_bytes:
            head.refused = RequestError("body_too_large", limit=self._body_bytes)
        head.version = fields.get(b"mcp-protocol-version", b"").decode("latin-1").strip()
        head.modern = bool(head.version) and head.version not in LEGACY_VERSIONS
        head.method = fields.get(b"mcp-method", b"").decode("latin-1").strip()
        head.named = b"mcp-name" in fields
        head.name = decode_value(fields.get(b"mcp-name", b"").decode("latin-1").strip()) or ""
        head.trace = fields.get(b"traceparent", b"").decode("latin-1")
        size = sum(map(len, fields)) + sum(map(len, fields.values()))
        if size <= _MOST_HEAD and b"traceparent" not in fields:
            if len(self.known) >= _MOST_HEADS:
                self.known.clear()
            self.known[tuple(lines)] = head
        return head

    def _authenticate(self, headers: dict[bytes, bytes]) -> None:
        given = headers.get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise RequestError("unauthorized", token="the agent token (server.token)")
