# SPDX-License-Identifier: MIT
"""Putting a provider's question to a legacy client, over whatever stream it has, and taking its response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mcp_hangar.application.sessions import ClientSession
from mcp_hangar.application.subscriptions import Ear
from mcp_hangar.domain.errors import CallCancelled, CallTimeout
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Message
from mcp_hangar.domain.mcp.request import Request


class StandaloneChannel:
    """The way to a legacy client that has no call open: its own event stream."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self.ear: Ear | None = None

    async def notify(self, message: bytes) -> None:
        self._session.standalone.append(message)

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        return await ask_session(self._session, method, params, seconds, self.notify)


async def ask_session(
    session: ClientSession, method: str, params: Json, seconds: float, deliver: Callable[[bytes], Awaitable[None]]
) -> Message:
    """Put a question to a legacy client over `deliver`; its response comes back as a message of its own."""
    session.last_ask += 1
    number = session.last_ask
    response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    session.asks[number] = response
    try:
        await deliver(envelope.request(number, method, params))
        async with asyncio.timeout(seconds):
            return await response
    except TimeoutError:
        raise CallTimeout("question_timeout", method=method, seconds=seconds) from None
    except asyncio.CancelledError:
        if response.cancelled():  # the session ended, not the task
            raise CallCancelled("cancelled", detail="The client's session is over.") from None
        raise
    finally:
        session.asks.pop(number, None)


def take_response(session: ClientSession, request: Request) -> None:
    """A client's response to a question; an unknown or late one is dropped."""
    future = session.asks.get(int(request.id)) if request.id.isdigit() and len(request.id) < 16 else None
    if future is not None and not future.done():
        future.set_result(Message(result=request.result, error=request.error))


def cancel(session: ClientSession, request: Request) -> None:
    """A legacy client takes a request back; unknown and late ones are ignored, as the protocol says."""
    flight = session.flights.get(bytes(request.params.get("requestId", b"")))
    if flight is not None:
        reason = envelope.text(request.params.get("reason"))[:200]
        flight.unwanted = True
        flight.cancel(f"The client cancelled it{': ' + reason if reason else '.'}")
