# SPDX-License-Identifier: MIT
"""Server-sent events, read as they arrive. Pure: bytes in, events out.

Works on bytes throughout, so a character split between two reads is no case of its own, and the data goes to the
JSON decoder as it came. Only what MCP needs of https://html.spec.whatwg.org/#server-sent-events.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_MAX_ID: Final = 1024
_MAX_RETRY: Final = 60.0
_BOM: Final = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    event: str
    data: bytes


class EventTooLarge(Exception):
    """One event is over the limit; the stream cannot be read any further."""


class EventReader:
    """Feed it the body of a `text/event-stream` in any pieces."""

    __slots__ = ("_cr", "_data", "_event", "_limit", "_partial", "_size", "_start", "last_id", "retry")

    def __init__(self, limit: int, last_id: bytes = b"") -> None:
        self.last_id = last_id
        """For `Last-Event-ID`; fit for a header line. Empty: none was seen."""
        self.retry: float | None = None
        """Seconds the server asked to wait before reconnecting."""
        self._limit = limit
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._event = b""
        self._size = 0
        self._cr = False
        self._start = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events completed by `data`. Raises `EventTooLarge`; what was complete before it is lost with it."""
        if self._cr and data:
            # The last line ended in CR at the end of a read: an LF now belongs to it.
            self._cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\n" not in data and b"\r" not in data:
            self._partial += data
            self._check(len(self._partial))
            return []
        partial = self._partial
        if partial:
            data = bytes(partial) + data
            partial.clear()
        if self._start:
            self._start = False
            data = data.removeprefix(_BOM)
        found: list[ServerSentEvent] = []
        lines = data.splitlines(keepends=True)
        last = lines[-1] if lines else b""
        if last.endswith(b"\r"):
            self._cr = True
        elif last and not last.endswith(b"\n"):
            partial += lines.pop()
        for line in lines:
            text = line.rstrip(b"\r\n")
            if text:
                self._field(text)
            else:
                body = b"\n".join(self._data)
                if body:
                    found.append(ServerSentEvent(self._event.decode("utf-8", "replace") or "message", body))
                self._data.clear()
                self._event = b""
                self._size = 0
        self._check(len(partial))
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            # An empty line weighs too: a stream of bare `data:` lines must hit the bound.
            self._size += len(value) + 1
            self._check(0)
            self._data.append(value)
        elif name == b"event":
            self._event = value[:_MAX_ID]
        elif name == b"id":
            if len(value) <= _MAX_ID and not any(byte < 0x20 or byte == 0x7F for byte in value):
                self.last_id = value
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = min(int(value) / 1000, _MAX_RETRY)

    def _check(self, more: int) -> None:
        # The field name and its colon are no part of the message.
        if self._size + more > self._limit + 8:
            raise EventTooLarge
