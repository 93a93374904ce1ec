# SPDX-License-Identifier: MIT
"""From a declaration to an open session: launch, listen, shake hands; another wire or another try where one fails.

When and how often this happens is decided in `application/instances.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mcp_hangar.application.handshake import DiedOfProbe, Handshake, greet
from mcp_hangar.application.pool import Instance
from mcp_hangar.application.ports.connection import Connection, Listener
from mcp_hangar.application.ports.launcher import Launcher
from mcp_hangar.domain.errors import HangarError, SessionExpired, StartFailed, TransportError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Provider

log = structlog.get_logger(__name__)

_NOT_HERE: Final = frozenset({400, 404, 405, 406, 415})
"""HTTP statuses by which a server says that it speaks another wire."""
_LEGACY_WIRE: Final = "legacy_sse"
"""Older than the modern era; probing it would only cost time."""
_EARLY: Final = 256
"""Messages kept for an instance that is still shaking hands."""
_PONGS: Final = 16
_PONG_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An open session that nobody uses yet."""

    connection: Connection
    wire: str
    handshake: Handshake
    ears: Ears


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """Who is told of what a connection says, once it belongs to an instance."""

    on_message: Callable[[Instance, Message], None]
    on_lost: Callable[[Instance, HangarError], None]
    on_session_lost: Callable[[Instance], None]
    on_refused: Callable[[str], None]
    spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
    """Starts a task that is waited for at the end."""


async def bring_up(
    launcher: Launcher,
    provider: Provider,
    id: str,
    *,
    wire: str,
    era: Era | None,
    capabilities: str,
    listen: Callable[[Connection], Ears],
    leave: Callable[[Connection], asyncio.Task[None]],
) -> Arrival:
    """A session of its own, within `lifecycle.start_timeout`. `wire` and `era` are what worked before, if anything.

    Whatever was launched and is not part of the answer is given to `leave`. Raises a `HangarError`.
    """
    timeout = provider.lifecycle.start_timeout
    deadline = asyncio.get_running_loop().time() + timeout
    wires = (wire,) if wire else launcher.wires(provider)
    heard: list[Ears] = []

    async def attempt(wire: str, known: Era | None) -> Arrival:
        connection = await launcher.launch(provider, id, wire)
        ears = listen(connection)
        heard.append(ears)
        try:
            handshake = await greet(connection, provider, known=known, capabilities=capabilities, deadline=deadline)
        except HangarError:
            # The next attempt must not run beside what is left of this one.
            await asyncio.wait({leave(connection)})
            raise
        except BaseException:
            leave(connection)
            raise
        return Arrival(connection=connection, wire=wire, handshake=handshake, ears=ears)

    try:
        async with asyncio.timeout_at(deadline):
            for wire in wires:
                known = Era.legacy if wire == _LEGACY_WIRE else era
                try:
                    return await attempt(wire, known)
                except DiedOfProbe:
                    return await attempt(wire, Era.legacy)
                except TransportError as error:
                    if wire == wires[-1] or error.facts.get("status") not in _NOT_HERE:
                        raise
    except TimeoutError:
        pass
    detail = f"It was not ready within {timeout:g} s."
    fix = f"Look at `hangar logs {provider.name}`; raise lifecycle.start_timeout if it is only slow."
    odd = next((ears.odd for ears in heard if ears.odd), "")
    if odd:
        detail += f" What it said was {odd}"
        fix = f"Its stdout is for MCP alone: let it log to stderr, and check that it is told to speak stdio. {fix}"
    raise StartFailed("start_failed", provider=provider.name, detail=detail, fix=fix)


class Ears:
    """What one connection says, from its first moment on. Until an instance is in service its messages are kept: a
    legacy server may ask something the moment it reads `notifications/initialized`. Pings are answered here."""

    def __init__(self, connection: Connection, provider: str, hearing: Hearing) -> None:
        self.lost: HangarError | None = None
        """What ended it before it belonged to an instance."""
        self.odd = ""
        """The first thing it said before it was ready that was no MCP, and why."""
        self._connection = connection
        self._provider = provider
        self._hearing = hearing
        self._instance: Instance | None = None
        self._early: deque[Message] = deque()
        self._pongs = 0
        connection.listener = Listener(
            on_message=self._heard,
            on_closed=self._closed,
            on_refused=self._refused,
            on_session_lost=self._session_lost,
        )

    def belong_to(self, instance: Instance) -> None:
        self._instance = instance
        while self._early:
            self._hearing.on_message(instance, self._early.popleft())

    def _heard(self, message: Message) -> None:
        if message.is_request and message.method == "ping":
            self._pong(message)
        elif self._instance is not None:
            self._hearing.on_message(self._instance, message)
        elif len(self._early) < _EARLY:
            self._early.append(message)
        else:
            self._hearing.on_refused("too many messages before the handshake was done")

    def _closed(self, error: HangarError) -> None:
        if self._instance is None:
            self.lost = error
        else:
            self._hearing.on_lost(self._instance, error)

    def _refused(self, reason: str) -> None:
        if self._instance is None:
            self.odd = self.odd or reason
        self._hearing.on_refused(reason)

    def _session_lost(self) -> None:
        if self._instance is None:
            self.lost = SessionExpired("session_expired", provider=self._provider)
        else:
            self._hearing.on_session_lost(self._instance)

    def _pong(self, ping: Message) -> None:
        if self._pongs >= _PONGS:
            self._hearing.on_refused("too many pings at once")
            return
        self._pongs += 1
        self._hearing.spawn(self._answer(envelope.result(ping.id, b"{}")), f"pong to {self._provider}")

    async def _answer(self, payload: bytes) -> None:
        try:
            async with asyncio.timeout(_PONG_SECONDS):
                await self._connection.post(payload)
        except (HangarError, TimeoutError) as error:
            # That the connection is over it tells by itself.
            log.debug("a ping went unanswered", provider=self._provider, error=str(error))
        finally:
            self._pongs -= 1
