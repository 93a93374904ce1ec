# SPDX-License-Identifier: MIT
"""The way back over one POST: JSON, or an event stream if something has to be said before the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mcp_hangar.application.sessions import ClientSession, EventStream
from mcp_hangar.application.subscriptions import Ear
from mcp_hangar.domain.errors import HangarError, RequestError
from mcp_hangar.domain.mcp.envelope import Json, Message
from mcp_hangar.domain.mcp.request import Request
from mcp_hangar.server.asgi import Send
from mcp_hangar.server.asking import ask_session

JSON: Final = (b"content-type", b"application/json")
ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
"""A whole response, where it is one JSON message."""
STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
RESUMABLE: Final = "2025-11-25"
"""From this revision on a client may come back for what it missed; earlier ones stumble over the first, empty event."""
RETRY_MS: Final = 1_000


class HttpChannel(msgspec.Struct, eq=False):
    """The way back over one POST: nothing is sent until something must be said before the answer."""

    _send: Send
    _plain: Callable[[bytes], None] | None = None
    """Where a whole response may be written as it is: the connection itself, on the lane."""
    session: ClientSession | None = None
    ear: Ear | None = None
    stream: EventStream | None = None
    spoken: bool = False

    async def begin(self) -> None:
        """Turn the answer into an event stream."""
        if self.spoken:
            return
        self.spoken = True
        headers = STREAM_HEADERS
        if self.session is not None:
            headers = [*headers, (b"mcp-session-id", self.session.id.encode())]
            if self.session.version >= RESUMABLE:
                self.stream = self.session.open_stream()
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.stream is not None:
            await self._write(b"id: %b\nretry: %d\ndata: \n\n" % (self.stream.event_id(0).encode(), RETRY_MS))

    async def notify(self, message: bytes) -> None:
        await self.begin()
        await self._event(message)

    async def _event(self, message: bytes, more: bool = True) -> None:
        head = b""
        if self.stream is not None:
            head = b"id: %b\n" % self.stream.append(message).encode()
        await self._write(b"%bevent: message\ndata: %b\n\n" % (head, message), more)

    async def _write(self, data: bytes, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def keep_alive(self) -> None:
        await self.begin()
        await self._write(b":\r\n\r\n")

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        if self.session is None:
            raise RequestError("question_refused", method=method, detail="this client cannot be asked")
        return await ask_session(self.session, method, params, seconds, self.notify)

    async def finish(self, message: bytes, status: int, error: HangarError | None = None) -> None:
        """The answer; the last thing said."""
        if self.spoken:
            await self._event(message, more=False)
            if self.stream is not None:
                self.stream.finish()
            return
        if status == 200 and self._plain is not None:
            self._plain(ANSWER % (len(message), message))
            return
        headers = [JSON, (b"content-length", b"%d" % len(message))]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 405:
            headers.append((b"allow", b"POST"))
        retry = error.facts.get("retry_after") if error is not None else None
        if isinstance(retry, (int, float)):
            headers.append((b"retry-after", b"%d" % max(1, round(retry))))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": message})

    async def forget(self) -> None:
        """The client took its request back and expects no answer; HTTP wants one, so: a stream that says nothing."""
        if not self.spoken:
            self.spoken = True
            await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        elif self.stream is not None and self.session is not None:
            self.stream.finish()
            self.session.streams.pop(self.stream.name, None)  # nobody needs to come back for it
        await self._write(b"", more=False)


class Farewell(msgspec.Struct, eq=False):
    """What is to be done when a connection is lost."""

    _forget: Callable[[str], None]
    _conversation: str

    def cancel(self, detail: str) -> None:
        self._forget(self._conversation)


class BatchPart(msgspec.Struct, eq=False):
    """The way back for one request of a batch: what is said before the answer goes to the common stream."""

    _outer: HttpChannel
    request: Request | None
    ear: Ear | None = None
    message: bytes = b""
    """Its answer."""
    spoken: bool = False

    async def notify(self, message: bytes) -> None:
        await self._outer.notify(message)

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        return await self._outer.ask(method, params, seconds)

    async def keep_alive(self) -> None:
        await self._outer.keep_alive()

    async def finish(self, message: bytes, status: int, error: HangarError | None = None) -> None:
        self.message = message

    async def forget(self) -> None:
        """Taken back: the batch is answered without it."""
