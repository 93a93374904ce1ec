# SPDX-License-Identifier: MIT
"""Events as a live stream, at `/api/v1/stream`: filtered, and resumable from a cursor without loss or repetition.

A reader authenticates with its first message, subscribes with its second, and then listens. It holds a position in the
records that are kept anyway, so a slow one costs no memory; one that falls too far behind is dropped, told where it
was, and may come back. Nothing here is asked on the path of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

import msgspec

from mcp_hangar.application.event_codec import Record
from mcp_hangar.application.kept_records import EventFilter, Gap, KeptRecords
from mcp_hangar.domain.errors import Denied, HangarError, RequestError
from mcp_hangar.server.api.problems import problem
from mcp_hangar.server.asgi import Receive, Scope, Send
from mcp_hangar.server.errors import defect
from mcp_hangar.server.operator_access import Access

PATH: Final = "/api/v1/stream"
PATIENCE: Final = 10.0
"""Seconds for each of the first two messages."""
MOST_STRANGERS: Final = 32
"""Connections that did not authenticate yet; one more ends the oldest."""
BATCH: Final = 200
"""Records looked at, and at most told, at a time."""
BATCH_BYTES: Final = 256 * 1024
LINGER: Final = 0.02
"""Seconds that a reader who has everything is left alone, so that a busy Hangar sends fewer, larger messages."""
PROGRESS_EVERY: Final = 10.0
"""Seconds after which a reader hears how far its filter has come, though nothing matched."""
LOOK_EVERY: Final = 0.5
"""Seconds between two looks at whether a reader keeps up and may still listen."""

CLOSE_CODES: Final = {
    "stream_message": 4400,
    "invalid_params": 4400,
    "invalid_cursor": 4400,
    "unauthorized": 4401,
    "stream_silent": 4408,
    "limit": 4429,
    "slow_reader": 4430,
    "internal": 1011,
}
"""By the code of the error. 1012: Hangar stops or restarts."""


class Authenticate(msgspec.Struct, frozen=True, tag="authenticate", forbid_unknown_fields=True):
    """The first message: the admin token, or a session token."""

    token: str


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe", forbid_unknown_fields=True):
    """The second message. Empty members match everything."""

    families: list[str] = []
    """Families (`call`) or types (`call.denied`) of events."""
    providers: list[str] = []
    severity: str = ""
    """This one and what matters more."""
    after: str = ""
    """A cursor: go on after it. Without one: from now on."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The answer to `authenticate`."""

    epoch: str
    oldest: str
    """The cursor of the oldest event that is kept."""
    newest: str


class Subscribed(msgspec.Struct, frozen=True, tag="subscribed"):
    """The answer to `subscribe`."""

    cursor: str
    """Events after it follow."""


class GapTold(msgspec.Struct, frozen=True, tag="gap"):
    """Events that were asked for and are no longer kept."""

    first: str
    last: str


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Nothing matched up to here: resume from this cursor."""

    cursor: str


_message: Final = msgspec.json.Decoder(Authenticate | Subscribe)


class Streams:
    """The door. `limit` bounds the readers, `lag` how many events may wait for one of them."""

    def __init__(self, kept: KeptRecords, access: Access, *, limit: int, lag: int) -> None:
        self._kept, self._access = kept, access
        self._limit, self._lag = limit, lag
        self._strangers: dict[asyncio.Future[None], None] = {}
        self.readers: set[_Reader] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        line = _Line(scope, receive, send)
        try:
            token = await self._authenticated(line)
            if len(self.readers) >= self._limit:
                raise Denied("limit", limit="server.limits.streams", value=self._limit, retry_after=30)
            reader = _Reader(line, self._kept, self._lag, lambda: self._access.admits(token))
            self.readers.add(reader)
            try:
                await reader.run()
            finally:
                self.readers.discard(reader)
        except _Gone:
            pass
        except HangarError as error:
            await line.refuse(error)
        except Exception as error:
            await line.refuse(defect(error))
        finally:
            line.close()

    async def _authenticated(self, line: _Line) -> str:
        """The token. A stranger who says nothing is sent away; at the latest when too many others come."""
        if len(self._strangers) >= MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.set_result(None)
        sent_away: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._strangers[sent_away] = None
        try:
            message = await line.hear(sent_away)
        finally:
            self._strangers.pop(sent_away, None)
        if not isinstance(message, Authenticate):
            raise RequestError("stream_message", detail="the first one must be `authenticate`")
        if not self._access.admits(message.token):
            raise self._access.refused("stream", line.scope)
        return message.token


class _Gone(Exception):
    """The reader has left."""


class _Line:
    """One connection: what is heard on it, what is told."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive, self._send = receive, send
        self._hearing: asyncio.Task[Any] | None = None

    async def hear(self, sent_away: asyncio.Future[None] | None = None) -> Authenticate | Subscribe:
        """The next message. Raises `_Gone`, or `RequestError` for what is none, or comes too late."""
        hearing = self._listen()
        await asyncio.wait(
            {hearing, sent_away} if sent_away else {hearing}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        if not hearing.done():
            raise RequestError("stream_silent", seconds=PATIENCE)
        return self.heard()

    def _listen(self) -> asyncio.Task[Any]:
        if self._hearing is None:
            hearing: Coroutine[Any, Any, Any] = self._receive()  # type: ignore[assignment]  # uvicorn's is a coroutine
            self._hearing = asyncio.create_task(hearing, name="stream: hear")
        return self._hearing

    def heard(self) -> Authenticate | Subscribe:
        """What was heard; the next one is listened for with the next `hear`."""
        assert self._hearing is not None
        event, self._hearing = self._hearing.result(), None
        if event["type"] != "websocket.receive":
            raise _Gone
        text = event.get("text")
        if text is None:
            raise RequestError("stream_message", detail="it is not text")
        try:
            message: Authenticate | Subscribe = _message.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RequestError("stream_message", detail=str(error)) from None
        return message

    async def while_heard_nothing(self, *work: Coroutine[Any, Any, Any]) -> None:
        """Runs until one of them ends, or the reader says something or leaves. Raises what ended it."""
        hearing = self._listen()
        tasks = {asyncio.create_task(each, name="stream: tell") for each in work}
        try:
            done, _ = await asyncio.wait({hearing, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if hearing in done:
                self.heard()
                raise RequestError("stream_message", detail="after `subscribe` the reader only listens")
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def tell(self, message: bytes) -> None:
        try:
            await self._send({"type": "websocket.send", "text": message.decode()})
        except (OSError, RuntimeError):
            raise _Gone from None

    async def refuse(self, error: HangarError) -> None:
        """Say what is wrong, and close."""
        code = CLOSE_CODES.get(error.code, 4400)
        if error.code != "slow_reader":  # who does not read would not read that either
            with contextlib.suppress(_Gone, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self.tell(msgspec.json.encode({"type": "error", "problem": problem(error)}))
        reason = f"{error.code}: {error.what} {error.fix}".encode()[:120].decode(errors="ignore")
        self.scope["state"]["dismiss"](code, reason)

    def close(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()


class _Reader:
    """One subscription, from its second message to its end."""

    def __init__(self, line: _Line, kept: KeptRecords, lag: int, admitted: Callable[[], bool]) -> None:
        self._line, self._kept, self._lag, self._admitted = line, kept, lag, admitted
        self._where = EventFilter()
        self.position = 0
        """Number of the last record that it was told of, or that its filter passed over."""
        self._allowed = lag
        self._told_at = 0.0

    async def run(self) -> None:
        kept = self._kept
        await self._line.tell(msgspec.json.encode(Welcome(kept.epoch, kept.oldest, kept.newest)))
        wanted = await self._line.hear()
        if not isinstance(wanted, Subscribe):
            raise RequestError("stream_message", detail="the second one must be `subscribe`")
        self._where = EventFilter(
            families=tuple(wanted.families), providers=tuple(wanted.providers), severity=wanted.severity
        )
        self._where.check()
        self.position, gap = kept.resume(wanted.after) if wanted.after else (kept.last, None)
        # Whoever comes back is behind, and not slow for that.
        self._allowed = self._lag + kept.last - self.position
        await self._line.tell(msgspec.json.encode(Subscribed(wanted.after or kept.cursor(self.position))))
        await self._line.while_heard_nothing(self._follow(gap), self._watch())

    async def _follow(self, gap: Gap | None) -> None:
        loop = asyncio.get_running_loop()
        self._told_at = loop.time()
        while True:
            if gap is not None:
                await self._line.tell(msgspec.json.encode(GapTold(gap.first, gap.last)))
            records = self._kept.after(self.position, BATCH)
            if records:
                await self._tell(records)
            if self.position >= self._kept.last:
                self._allowed = self._lag
                await self._rest()
            else:
                await asyncio.sleep(0)
            self.position, gap = self._kept.go_on(self.position)

    async def _tell(self, records: list[Record]) -> None:
        chosen: list[bytes] = []
        size = 0
        for record in records:
            if self._where.matches(record):
                if size and size + len(record.data) > BATCH_BYTES:
                    break
                chosen.append(record.data)
                size += len(record.data)
            self.position = record.seq
        if chosen:
            cursor = msgspec.json.encode(self._kept.cursor(self.position))
            await self._line.tell(b'{"type":"events","cursor":%b,"events":[%b]}' % (cursor, b",".join(chosen)))
            self._told_at = asyncio.get_running_loop().time()
        elif asyncio.get_running_loop().time() - self._told_at > PROGRESS_EVERY:
            await self._line.tell(msgspec.json.encode(Progress(self._kept.cursor(self.position))))
            self._told_at = asyncio.get_running_loop().time()

    async def _rest(self) -> None:
        await asyncio.sleep(LINGER)
        await self._kept.news(self.position)

    async def _watch(self) -> NoReturn:
        """Ends a reader that does not keep up, or whose token no longer counts."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._kept.last - self.position > self._allowed:
                raise Denied("slow_reader")
            if not self._admitted():
                raise RequestError("unauthorized", token="a new session token: this one has expired")
