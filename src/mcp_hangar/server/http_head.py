# SPDX-License-Identifier: MIT
"""What the head of a request says: judged once, then known by its bytes, since clients repeat themselves."""

from __future__ import annotations

import hmac
import re
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
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"})
"""Fields that change how a body comes, or what comes after it."""


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
    lines: list[tuple[bytes, bytes]] = []


class Known(msgspec.Struct, frozen=True):
    """A POST to MCP as it was read before, by the exact bytes of its head."""

    head: Head
    provider: str
    """The door it knocks at: `/mcp/{provider}`; empty for `/mcp`."""
    length: int
    """Bytes of its body."""


_TRACE: Final = re.compile(rb"\r\ntraceparent: (00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?=\r\n)")


def without_trace(raw: bytes) -> tuple[bytes, str]:
    """A head without its `traceparent`, the one line that a client which traces writes anew each time; and its value.
    As it came, if there is none, or one that is not exactly as W3C has it."""
    found = _TRACE.search(raw)
    if found is None:
        return raw, ""
    return raw[: found.start()] + raw[found.end() :], found[1].decode()


class Heads:
    """`known` is looked up by the bytes of a whole head, by the lane. `token`: empty where everyone may come in."""

    def __init__(self, doors: Doors, *, token: str, body_bytes: int) -> None:
        self.known: dict[bytes, Known] = {}
        self._doors, self._token, self._body_bytes = doors, token.encode(), body_bytes

    def read(self, scope: Scope) -> Head:
        """What a request's header lines say. Wrong ones are in `error` and `refused`, not raised."""
        fields = dict(scope["headers"])
        head = Head(fields=fields, lines=scope["headers"])
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
        return head

    def remember(self, raw: bytes, scope: Scope, head: Head) -> None:
        """Keep what a head says by its bytes; `raw` is empty if they did not come in one piece. Only heads after which
        nothing but so many bytes of a body can come, and only those that are likely to come again."""
        fields = head.fields
        if not 4 < len(raw) <= _MOST_HEAD or scope.get("http_version") != "1.1":
            return
        if b"traceparent" in fields:
            raw, trace = without_trace(raw)
            if not trace:
                return
            head = msgspec.structs.replace(head, trace="")
        if _UNUSUAL.intersection(fields) or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return
        length = fields.get(b"content-length")
        if length is None or scope["raw_path"] != scope["path"].encode() or scope["query_string"]:
            return
        if len(self.known) >= _MOST_HEADS:
            self.known.clear()
        self.known[raw] = Known(head, scope["path"][5:], int(length))

    def _authenticate(self, headers: dict[bytes, bytes]) -> None:
        given = headers.get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise RequestError("unauthorized", token="the agent token (server.token)")
