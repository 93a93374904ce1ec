# SPDX-License-Identifier: MIT
"""Port: speak MCP to one instance of a provider.

A connection carries messages and knows nothing of what they mean, beyond what its wire demands (framing, session
header, correlation by id). Laws that every adapter keeps, checked by `tests/ports/connection_suite.py`:

- `send` returns as soon as the request is on its way; `Exchange.next` yields, in the order sent, what the provider
  says about it (notifications and requests of its own that the wire relates to it), then exactly one response.
  After the response the exchange is over.
- A response goes to the exchange with the same id (number 1 is not string "1"); one with an unknown id is counted
  (`refused`), told to `on_refused`, and dropped. Ids are unique across all connections: callers take them from one
  counter, and use the same number as progress token.
- What the wire does not relate to a request goes to `on_message`, in order.
- Nothing waits for a reader: messages for an exchange that nobody reads are buffered up to `message_bytes`, then
  reading from the provider pauses (HTTP) or the exchange fails with `ProtocolError` (stdio: one slow reader must not
  stop the others).
- A message over `message_bytes`, after decompression, is refused as `ProtocolError("message_too_large")`; where the
  framing allows it the connection lives on.
- When the provider is gone, every open exchange raises `ProviderDied` (process) or `TransportError` (network), new
  ones raise `Unsent`, and `on_closed` is called once. `close` is idempotent and leaves no task, socket or process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from mcp_hangar.domain.errors import HangarError
from mcp_hangar.domain.mcp.envelope import Message


class Outgoing(msgspec.Struct, frozen=True):
    """A request ready for the wire."""

    id: int
    method: str
    payload: bytes
    """The whole JSON-RPC message."""
    headers: bytes = b""
    """Further HTTP header lines, each ended by CRLF (`Mcp-Method: …`); ignored on stdio."""
    modern: bool = False
    """How to cancel: in the modern era closing an HTTP stream is enough; else send `notifications/cancelled`."""


class Exchange(Protocol):
    """One request under way."""

    async def next(self) -> Message:
        """The next message about this request; the last is its response. Raises a `HangarError` instead if it fails."""

    def give(self, message: Message, size: int) -> None:
        """An unrelated message that turned out to belong here: `next` yields it after what it already holds."""

    def fail(self, error: HangarError) -> None:
        """End it: `next` raises `error` at once. The provider is told (stream closed, or `notifications/cancelled`),
        unless it has answered already. Never blocks, may be called twice, from anywhere on the loop."""


def _ignore(*_: object) -> None:
    return None


@dataclass(slots=True)
class Listener:
    """What a connection tells its owner. Called on the loop; must not block or raise."""

    on_message: Callable[[Message], None] = field(default=_ignore)
    """Notifications and requests of the provider that belong to no open exchange."""
    on_closed: Callable[[HangarError], None] = field(default=_ignore)
    """Once, when it is over without `close` having been called."""
    on_refused: Callable[[str], None] = field(default=_ignore)
    """A line or message that was dropped, and why (junk on stdout, unknown id)."""
    on_session_lost: Callable[[], None] = field(default=_ignore)
    """Streamable HTTP, legacy: upstream no longer knows the session (404, or 400/-32000), seen outside of a call."""


class Connection(Protocol):
    listener: Listener
    refused: int
    """Messages dropped so far."""

    async def send(self, request: Outgoing) -> Exchange:
        """Raises `Unsent` or `SessionExpired` if it surely did not reach the provider."""

    async def post(self, payload: bytes) -> None:
        """One-way: a notification, or the response to a provider's request. Raises `TransportError` or `Unsent`."""

    async def listen(self) -> None:
        """Open the way for unrelated messages where it has to be opened (Streamable HTTP, legacy: the GET stream).
        A provider that has none (405) is asked once. Elsewhere nothing happens."""

    def set_version(self, version: str) -> None:
        """The negotiated revision, for wires that name it in a header."""

    async def close(self) -> None:
        """Say goodbye as the wire knows it (DELETE of a session; close stdin, SIGTERM, SIGKILL for the tree)."""
