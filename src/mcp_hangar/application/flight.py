# SPDX-License-Identifier: MIT
"""A call on its way, the way back to whoever made it, and what it ends in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from mcp_hangar.application.instances import Instance
from mcp_hangar.application.ports.connection import Exchange
from mcp_hangar.application.subscriptions import Ear
from mcp_hangar.domain.call import Call
from mcp_hangar.domain.errors import CallCancelled, HangarError
from mcp_hangar.domain.mcp.envelope import Json, Message

T = TypeVar("T")


class Channel(Protocol):
    """The way back to whoever made the call, while it is under way. Given by the door."""

    ear: Ear | None
    """Where updates of subscribed resources go."""

    async def notify(self, message: bytes) -> None:
        """Relay a notification. Waits while the client reads slowly; never raises because it has gone."""

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        """Legacy clients only: put a provider's question to the client and wait for its response."""


class Answer(msgspec.Struct):
    """How a call ended: a result, or the provider's own JSON-RPC error. Bytes, ready to be spliced."""

    result: Json = b""
    error: Json = b""
    outcome: str = "ok"


Own = Callable[[Call, "Flight"], Awaitable[Answer]]


class Flight(msgspec.Struct, eq=False):
    """A call on its way, for those who may end it: a client that leaves or cancels, the deadline, the operator."""

    call: Call
    channel: Channel
    number: int = 0
    deadline: float = 0.0
    exchange: Exchange | None = None
    instance: Instance | None = None
    error: HangarError | None = None
    """Why it was ended from outside; the first reason stands."""
    unwanted: bool = False
    """The client took the request back, and expects no answer."""
    waiting: asyncio.Future[Any] | None = None
    """What it waits for beside its exchange: a start, answers to questions, Hangar's own tools."""
    tasks: set[asyncio.Task[None]] | None = None
    """Questions under way to a legacy client."""
    unread: asyncio.Task[Message] | None = None
    """The next message of the provider, where somebody waited for it and had to leave."""

    def fail(self, error: HangarError) -> None:
        """End the call: its coroutine raises `error`. Harmless when it is over."""
        self.error = self.error or error
        if self.exchange is not None:
            self.exchange.fail(self.error)
        if self.waiting is not None:
            self.waiting.cancel()

    async def wait(self, work: Awaitable[T]) -> T:
        """Wait for something that is no exchange, so that `fail` ends that too."""
        waiting: asyncio.Future[T] = asyncio.ensure_future(work)
        self.waiting = waiting
        try:
            return await waiting
        except asyncio.CancelledError:
            if self.error is not None:
                raise self.error from None
            raise
        finally:
            self.waiting = None

    def let_go(self) -> None:
        """The call is over: questions still open are not, and nobody reads on."""
        for task in list(self.tasks or ()):
            task.cancel()
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def cancel(self, detail: str) -> None:
        self.fail(CallCancelled("cancelled", detail=detail))
