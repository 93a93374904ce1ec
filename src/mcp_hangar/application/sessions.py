# SPDX-License-Identifier: MIT
"""Downstream sessions: what a legacy client opened with `initialize`, and the governance session of a modern one.

A session belongs to its principal. Its event streams keep what they said for a while, so that a client whose
connection broke can go on from the last event it saw. Everything is bounded: sessions, per caller, bytes kept.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Final

from mcp_hangar.application.flight import Flight
from mcp_hangar.domain.call import Caller, Capabilities, Session
from mcp_hangar.domain.errors import Denied, RequestError
from mcp_hangar.domain.mcp.envelope import Json, Message

_KEPT_BYTES: Final = 1024 * 1024
_FINISHED_KEPT: Final = 16
_IDLE_WINDOW: Final = 1800.0
_INFERRED_KEPT: Final = 10_000


class EventStream:
    """What goes to a client on one event stream, numbered, with the newest kept for a resumption."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.finished = False
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._last = 0
        self._wake: asyncio.Future[None] | None = None

    def append(self, message: bytes) -> str:
        """Returns the event id."""
        self._last += 1
        self._kept.append((self._last, message))
        self._bytes += len(message)
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= len(self._kept.popleft()[1])
        self._notice()
        return self.event_id(self._last)

    def event_id(self, number: int) -> str:
        return f"{self.name}-{number}"

    def finish(self) -> None:
        self.finished = True
        self._notice()

    def _notice(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def follow(self, after: int) -> AsyncIterator[tuple[str, bytes]]:
        """(event id, message) from the one after `after` on, until the stream is finished. One follower at a time:
        a second one takes over and ends the first."""
        mine = asyncio.get_running_loop().create_future()
        self._notice()
        self._wake = mine
        position = after
        while self._wake is mine:
            fresh = list(islice(reversed(self._kept), max(0, self._last - position)))
            for number, message in reversed(fresh):
                position = number
                yield self.event_id(number), message
            if fresh:
                continue
            if self.finished:
                return
            await mine
            if self._wake is mine:
                mine = self._wake = asyncio.get_running_loop().create_future()

    @property
    def last(self) -> int:
        return self._last


class ClientSession:
    """One legacy client's session."""

    def __init__(
        self, *, id: str, caller: Caller, version: str, capabilities: Capabilities, client: str, info: Json, scope: str
    ) -> None:
        self.id = id
        self.caller = caller
        self.version = version
        self.capabilities = capabilities
        self.client = client
        self.info = bytes(info)
        self.scope = scope
        """The provider whose door it was opened at; empty for the common one."""
        self.governance = Session(id=id)
        self.log_level = ""
        self.used = time.monotonic()
        self.standalone = EventStream("s")
        self.listening: object | None = None
        """Who reads the standalone stream (a GET, or the stdio door), so that unasked-for messages reach the client."""
        self.streams: OrderedDict[str, EventStream] = OrderedDict()
        self.asks: dict[int, asyncio.Future[Message]] = {}
        self.flights: dict[bytes, Flight] = {}
        self.last_ask = 0
        self._streams_made = 0

    def open_stream(self) -> EventStream:
        self._streams_made += 1
        stream = EventStream(f"p{self._streams_made}")
        self.streams[stream.name] = stream
        finished = [name for name, old in self.streams.items() if old.finished]
        for name in finished[: max(0, len(finished) - _FINISHED_KEPT)]:
            del self.streams[name]
        return stream

    def find_stream(self, event_id: str) -> tuple[EventStream, int] | None:
        """The stream and the number of an event that it has sent; None if there is none such."""
        name, _, number = event_id.rpartition("-")
        stream = self.standalone if name == self.standalone.name else self.streams.get(name)
        if stream is None or not number.isdecimal() or len(number) > 15 or int(number) > stream.last:
            return None
        return stream, int(number)

    @property
    def busy(self) -> bool:
        return bool(self.flights) or self.listening is not None


class Sessions:
    """All of them. `on_closed` is told once for each session that ends."""

    def __init__(self, *, limit: int, per_caller: int, idle: float, on_closed: Callable[[ClientSession], None]) -> None:
        self._limit, self._per_caller, self._idle = limit, per_caller, idle
        self._on_closed = on_closed
        self._open: OrderedDict[str, ClientSession] = OrderedDict()
        self._counts: dict[str, int] = {}
        self._inferred: OrderedDict[tuple[str, str], tuple[Session, list[float]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def all(self) -> list[ClientSession]:
        return list(self._open.values())

    def open(
        self, *, caller: Caller, version: str, capabilities: Capabilities, client: str, info: Json, scope: str
    ) -> ClientSession:
        """Raises `Denied("limit")` when all that could make room are busy."""
        if self._counts.get(caller.id, 0) >= self._per_caller:
            self._make_room("server.limits.sessions_per_caller", self._per_caller, caller.id)
        if len(self._open) >= self._limit:
            self._make_room("server.limits.sessions", self._limit, "")
        session = ClientSession(
            id=uuid.uuid4().hex,
            caller=caller,
            version=version,
            capabilities=capabilities,
            client=client,
            info=info,
            scope=scope,
        )
        self._open[session.id] = session
        self._counts[caller.id] = self._counts.get(caller.id, 0) + 1
        return session

    def _make_room(self, limit: str, value: int, caller: str) -> None:
        for session in self._open.values():
            if not session.busy and (not caller or session.caller.id == caller):
                return self.close(session)
        raise Denied("limit", limit=limit, value=value, retry_after=30)

    def by_id(self, id: str) -> ClientSession | None:
        """For those who answer to a provider, not to a client."""
        return self._open.get(id)

    def find(self, id: str, caller: Caller) -> ClientSession:
        """Raises `RequestError("unknown_session")`, also for somebody else's."""
        session = self._open.get(id)
        if session is None or session.caller.id != caller.id:
            raise RequestError("unknown_session")
        self._touch(session, time.monotonic())
        return session

    def close(self, session: ClientSession) -> None:
        if self._open.pop(session.id, None) is None:
            return
        left = self._counts.pop(session.caller.id) - 1
        if left:
            self._counts[session.caller.id] = left
        for ask in session.asks.values():
            if not ask.done():
                ask.cancel()
        session.standalone.finish()
        for stream in session.streams.values():
            stream.finish()
        self._on_closed(session)

    def sweep(self) -> None:
        """End what was idle for too long: most clients never say goodbye. Whoever listens or waits is not idle."""
        now = time.monotonic()
        for session in list(self._open.values()):
            if session.used > now - self._idle:
                break
            if session.busy:
                self._touch(session, now)
            else:
                self.close(session)

    def _touch(self, session: ClientSession, now: float) -> None:
        session.used = now
        self._open.move_to_end(session.id)

    def inferred(self, caller: Caller, client: str) -> tuple[Session, list[float]]:
        """The governance session of a modern client that names none: caller, client and an idle window. The second
        value is where to note when it was last heard of."""
        now = time.monotonic()
        key = (caller.id, client)
        known = self._inferred.get(key)
        if known is not None and now - known[1][0] < _IDLE_WINDOW:
            known[1][0] = now
            self._inferred.move_to_end(key)
            return known
        if known is None and len(self._inferred) >= _INFERRED_KEPT:
            self._inferred.popitem(last=False)
        made = self._inferred[key] = (Session(id=uuid.uuid4().hex, source="inferred"), [now])
        self._inferred.move_to_end(key)
        return made
