# SPDX-License-Identifier: MIT
"""WebSocket under uvicorn, for readers that may be slow or gone (pinned range, see pyproject.toml).

uvicorn waits until there is room before it writes even a close frame, and then leaves a connection open for as long as
its buffer does not drain. Here `dismiss` says goodbye behind what is already on its way, and whoever does not read that
within `close_timeout` is cut off. Imported with the first reader, not before.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class StreamProtocol(WebSocketsSansIOProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "dismiss": self.dismiss}

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # refused: uvicorn would log an error for each who knocks

    def dismiss(self, code: int, reason: str) -> None:
        """Close, though the peer does not read."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
