# SPDX-License-Identifier: MIT
"""A GET that is answered with server-sent events for as long as it lives.

Shared by the listening stream of Streamable HTTP and by legacy HTTP+SSE, where it carries everything. Events go to a
callback at once: whoever listens must not block, so nothing has to wait here.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from typing import Final

from mcp_hangar.domain.errors import HangarError, ProtocolError, TransportError
from mcp_hangar.infrastructure.transports.answers import is_stream
from mcp_hangar.infrastructure.transports.http1 import Channel, HttpClient
from mcp_hangar.infrastructure.transports.inflate import Inflate
from mcp_hangar.infrastructure.transports.sse import EventReader, EventTooLarge, ServerSentEvent

_LONGEST: Final = 30.0

Opened = tuple[int, dict[bytes, bytes], bytes]
"""Status, header fields, and the body where it is no event stream."""


def backoff(attempt: int) -> float:
    """Seconds before attempt number 1, 2, …: doubling from half a second, with full jitter, never nothing."""
    return random.uniform(0.1, min(_LONGEST, 0.5 * 2.0 ** min(attempt, 10)))


class EventStream:
    """A receiver of one GET."""

    def __init__(
        self, client: HttpClient, limit: int, on_event: Callable[[ServerSentEvent], None], last_id: bytes = b""
    ) -> None:
        loop = asyncio.get_running_loop()
        self.limit = limit
        self.events = 0
        self._client = client
        self._reader = EventReader(limit, last_id)
        self._on_event = on_event
        self._inflate: Inflate | None = None
        self._channel: Channel | None = None
        self._opened: asyncio.Future[Opened] = loop.create_future()
        self._end: asyncio.Future[HangarError | None] = loop.create_future()

    @property
    def last_id(self) -> bytes:
        return self._reader.last_id

    @property
    def retry(self) -> float | None:
        return self._reader.retry

    async def open(self, request: bytes) -> Opened:
        """Returns once the head has come. Raises `Unsent`, `TransportError`, `ProtocolError`."""
        channel = await self._client.acquire()
        self._channel = channel
        channel.receiver = self
        channel.write(request)
        return await self._opened

    async def wait(self) -> HangarError | None:
        """Until it is over; None: the provider ended it in good order."""
        return await self._end

    def abandon(self) -> None:
        """Close it, if it still lives."""
        channel = self._channel
        if channel is not None and channel.receiver is self:
            channel.abort()
        self._over(None)

    # What the channel says

    def answered(self, status: int, channel: Channel, body: bytes) -> None:
        if self.began(status, channel):
            # A stream that came and ended in one read.
            self.chunk(body)
        elif not self._opened.done():
            self._opened.set_result((status, channel.fields(), body))
        self._over(None)

    def began(self, status: int, channel: Channel) -> bool:
        fields = channel.fields()
        if not is_stream(status, fields):
            return False
        encoding = fields.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            try:
                self._inflate = Inflate(encoding)
            except ValueError:
                self._break(self._junk("an event stream in an encoding nobody asked for"))
                return True
        if not self._opened.done():
            self._opened.set_result((status, fields, b""))
        return True

    def chunk(self, data: bytes) -> None:
        try:
            if self._inflate is None:
                self._feed(data)
                return
            self._inflate.feed(data)
            while piece := self._inflate.read():
                self._feed(piece)
        except zlib.error:
            self._break(self._junk("an event stream that is not properly compressed"))
        except EventTooLarge:
            self._break(ProtocolError("message_too_large", provider=self._client.provider, limit=self.limit))

    def ended(self) -> None:
        self._over(None)

    def lost(self, error: HangarError) -> None:
        self._over(error)

    def _feed(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            self.events += 1
            self._on_event(event)

    def _junk(self, what: str) -> ProtocolError:
        return ProtocolError("provider_protocol", provider=self._client.provider, detail=f"HTTP: it sent {what}.")

    def _break(self, error: HangarError) -> None:
        channel = self._channel
        self._over(error)
        if channel is not None and channel.receiver is self:
            channel.abort()

    def _over(self, error: HangarError | None) -> None:
        self._channel = None
        if not self._opened.done():
            ended = TransportError("connection_lost", provider=self._client.provider, detail="The stream was closed.")
            self._opened.set_exception(error or ended)
            # Whoever abandons a stream before it opened does not come back to hear of it.
            self._opened.exception()
        if not self._end.done():
            self._end.set_result(error)
