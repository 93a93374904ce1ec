# SPDX-License-Identifier: MIT
"""Where facts are appended, in order, and told to subscribers, in order, later.

`append` is on the call path: a deque and a number, nothing else. `drain` is the one background loop: it encodes a few
events at a time, giving the loop back in between, and hands the records to each subscriber at that subscriber's own
pace. A subscriber that fails gets the same records again while the others go on. What is not yet delivered is bounded
in bytes; over the bound calls are refused, or (if the operator chose so) the oldest records are dropped and counted.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from mcp_hangar.application.event_codec import Codec, Record
from mcp_hangar.application.ports.subscriber import Subscriber
from mcp_hangar.domain.events import CallAdmitted, CallDenied, Event, EventsLost, Severity, StoreUnavailable

log = structlog.get_logger(__name__)


class Overflow(enum.StrEnum):
    """What happens when records cannot be delivered (setting `events.on_overflow`)."""

    refuse = "refuse"
    """Calls are refused until they can: nothing runs without a trace."""
    drop = "drop"
    """Calls go on; the oldest undelivered records are dropped, and how many is recorded."""


SLICE: Final = 50
"""Events encoded before the loop gets its turn again: well below a millisecond."""
MANY: Final = 20
"""Events within `linger` that make Hangar a busy one."""
BATCH: Final = 250
"""Records delivered at a time."""
BATCH_BYTES: Final = 1024 * 1024
OVERHEAD: Final = 600
"""Bytes that an event is taken for, beside what strangers wrote into it."""
KEPT_OVERHEAD: Final = 150
"""Bytes that a record is taken for, beside its own."""
_PIECE: Final = 256 * 1024
_RETRY: Final = (0.1, 5.0)


class EventLog:
    """The one record. `full` and `detail` are read by the call path before a call is admitted."""

    full: bool
    detail: str

    def __init__(
        self,
        subscribers: Sequence[Subscriber],
        *,
        codec: Codec,
        backlog_bytes: int,
        on_overflow: Overflow = Overflow.refuse,
        clock: Callable[[], float] = time.time,
        linger: float = 0.005,
    ) -> None:
        """`linger`: seconds that the loop waits after the first event for more of them, and five times as long where
        many came, so that a busy Hangar writes in batches (handing a batch to a thread costs more than encoding it);
        an idle one waits for events and does nothing at all."""
        self.full = False
        self.detail = ""
        self.codec = codec
        self.seq = 0
        """Of the newest record."""
        self._clock = clock
        self._linger = linger
        self._limit = backlog_bytes
        self._on_overflow = on_overflow
        self._appended: deque[tuple[Event, int]] = deque()
        """With the bytes each is taken for."""
        self._appended_bytes = 0
        self._taken = 0  # events encoded so far
        self._records: list[Record] = []
        self._base = 0  # how many records came before self._records[0]
        self._record_bytes = 0
        self._lost = 0  # events that were not even kept
        self._closing = False
        self._sealed = False  # nothing more will be encoded
        self._draining: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._watchers: list[asyncio.Future[None]] = []
        self._deliveries = [_Delivery(subscriber) for subscriber in subscribers]

    def append(self, event: Event) -> None:
        """Never awaits, never raises. Loop thread only.

        Events are taken over the bound too, since a call that was admitted must get its end recorded; but at twice the
        bound (or at the bound, for denials, which are many when calls are refused) they are only counted.
        """
        size = OVERHEAD + len(event.name) + len(event.reason)
        kind = type(event)
        if kind is CallAdmitted or kind is CallDenied:
            size += len(event.arguments)  # type: ignore[attr-defined]  # narrowed by hand: isinstance costs thrice
        held = self._appended_bytes + self._record_bytes + size
        if held > self._limit:
            if self._on_overflow is Overflow.refuse:
                self.full = True
                self.detail = self.detail or "the backlog of events is full (events.backlog_bytes)"
                if kind is CallDenied:
                    held += self._limit
            if held > 2 * self._limit:
                self._lost += 1
                return
        self._appended.append((event, size))
        self._appended_bytes += size
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)

    async def drain(self) -> None:
        """Encodes and delivers until `close`, or until it is cancelled; what is left then is left for `close`."""
        self._draining = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                for delivery in self._deliveries:
                    group.create_task(self._deliver(delivery), name=f"events-to-{delivery.subscriber.name}")
                many = False
                while self._appended or not self._closing:
                    if not self._appended:
                        self._wake = asyncio.get_running_loop().create_future()
                        await self._wake
                    if len(self._appended) < BATCH and not self._closing:
                        await asyncio.sleep(self._linger * (5 if many else 1))
                    many = len(self._appended) >= MANY
                    await self._encode_batch()
                self._seal()
        finally:
            self._draining = None

    async def flush(self, timeout: float) -> bool:
        """Waits until all that was appended so far is delivered, at most `timeout` seconds; False if it is not."""
        taken = self._taken + len(self._appended)
        try:
            async with asyncio.timeout(timeout):
                while self._taken < taken:
                    await self._change()
                newest = self._base + len(self._records)
                while any(delivery.position < newest for delivery in self._deliveries):
                    await self._change()
        except TimeoutError:
            return False
        return True

    async def close(self, timeout: float = 5.0) -> None:
        """Delivers what is left, for at most `timeout` seconds, whether `drain` runs or not; closes the subscribers."""
        self._closing = True
        self._ring()
        try:
            async with asyncio.timeout(timeout):
                if self._draining is not None:
                    await asyncio.wait([self._draining])
                while self._appended:
                    await self._encode_batch()
                self._tell_lost()
                self._seal()
                async with asyncio.TaskGroup() as group:
                    for delivery in self._deliveries:
                        group.create_task(self._deliver(delivery), name=f"last-events-to-{delivery.subscriber.name}")
        except TimeoutError:
            if self._draining is not None:
                self._draining.cancel()
                await asyncio.wait([self._draining])
        newest = self._base + len(self._records)
        for delivery in self._deliveries:
            name = delivery.subscriber.name
            if delivery.position < newest or self._appended:
                count = newest - delivery.position + len(self._appended)
                log.error("events_undelivered", subscriber=name, count=count, failure=delivery.failure)
            try:
                await delivery.subscriber.close()
            except Exception as error:  # the others are closed all the same
                log.error("subscriber_close_failed", subscriber=name, error=repr(error))

    # -- encoding ---------------------------------------------------------------------------------------------------

    async def _encode_batch(self) -> None:
        """Slice by slice, so that calls go on in between; then subscribers are told once."""
        self._tell_lost()
        left = BATCH
        while self._appended and left > 0:
            left -= await self._encode_slice()
            await asyncio.sleep(0)
        self._bound()
        self._changed()

    async def _encode_slice(self) -> int:
        """How many records that were, large ones counted for more."""
        appended = self._appended
        count = min(len(appended), SLICE)
        for _ in range(count):
            event, size = appended[0]
            digest = ""
            if size > _PIECE and isinstance(event, (CallAdmitted, CallDenied)):
                digest = await self._digest(event.arguments)
            appended.popleft()
            self._appended_bytes -= size
            self._taken += 1
            self._keep(event, digest)
            if size > BATCH_BYTES:
                return BATCH
        return count

    def _keep(self, event: Event, digest: str = "") -> None:
        try:
            record = self.codec.encode(event, self.seq + 1, digest)
        except Exception as error:  # the loop must survive an event that cannot be written, and say that it is lost
            # Not the traceback: a log that shows variables would show the arguments.
            log.error("event_not_encodable", type=type(event).__name__, error=repr(error)[:500])
            self._lost += not isinstance(event, EventsLost)
            return
        self.seq += 1
        self._records.append(record)
        self._record_bytes += len(record.data) + KEPT_OVERHEAD

    async def _digest(self, arguments: bytes | msgspec.Raw) -> str:
        hasher = self.codec.hasher()
        view = memoryview(arguments)
        for start in range(0, len(view), _PIECE):
            hasher.update(view[start : start + _PIECE])
            await asyncio.sleep(0)
        return hasher.hexdigest()

    def _tell_lost(self) -> None:
        """Records what was lost since it was last told. Losing that record too rings no bell, lest it never end."""
        told = [(self._lost, "the backlog was full before it could be kept")]
        told += [(delivery.lost, f"{delivery.subscriber.name} did not keep up") for delivery in self._deliveries]
        self._lost = 0
        for delivery in self._deliveries:
            delivery.lost = 0
        for count, reason in told:
            if count:
                self._keep(EventsLost(at=self._clock(), severity=Severity.high, count=count, reason=reason))

    # -- delivering -------------------------------------------------------------------------------------------------

    async def _deliver(self, to: _Delivery) -> None:
        """One subscriber, in order, until nothing more will come. Its failures are its own."""
        wait = _RETRY[0]
        while True:
            batch = self._batch(to.position - self._base)
            if not batch:
                if self._sealed:
                    return
                await self._change()
                continue
            to.end = to.position + len(batch)
            try:
                await to.subscriber.see(batch)
            except Exception as error:  # whatever it is, the same records come again
                to.resume(delivered=False)
                self._failed(to, error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _RETRY[1])
                continue
            except asyncio.CancelledError:
                to.resume(delivered=False)
                raise
            to.resume(delivered=True)
            wait = _RETRY[0]
            if to.failure:
                log.info("subscriber_recovered", subscriber=to.subscriber.name)
                to.failure = ""
            if to.lost or self._lost:
                self._ring()
            self._forget(min(delivery.position for delivery in self._deliveries))
            self._changed()

    def _batch(self, start: int) -> list[Record]:
        batch = self._records[start : start + BATCH]
        size = 0
        for index, record in enumerate(batch):
            size += len(record.data)
            if size > BATCH_BYTES and index:
                return batch[:index]
        return batch

    def _failed(self, delivery: _Delivery, error: Exception) -> None:
        name, detail = delivery.subscriber.name, f"{type(error).__name__}: {error}"[:500]
        if not delivery.failure:
            log.error("subscriber_failed", subscriber=name, detail=detail)
            self.append(StoreUnavailable(at=self._clock(), severity=Severity.critical, subscriber=name, detail=detail))
        delivery.failure = detail
        self._changed()

    def _bound(self) -> None:
        """Forgets what everyone has; in `drop` mode also the oldest of what is over the bound."""
        oldest = min((delivery.position for delivery in self._deliveries), default=self._base + len(self._records))
        self._forget(oldest)
        if self._on_overflow is Overflow.refuse:
            return
        excess = self._record_bytes - self._limit
        dropped = 0
        while excess > 0:
            excess -= len(self._records[dropped].data) + KEPT_OVERHEAD
            dropped += 1
        if dropped:
            for delivery in self._deliveries:
                delivery.skip(self._base + dropped)
            self._forget(self._base + dropped)

    def _forget(self, position: int) -> None:
        count = position - self._base
        if count > 0:
            self._record_bytes -= sum([len(record.data) for record in self._records[:count]]) + count * KEPT_OVERHEAD
            del self._records[:count]
            self._base = position

    # -- who waits for what -----------------------------------------------------------------------------------------

    def _ring(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    def _seal(self) -> None:
        self._sealed = True
        self._changed()

    def _changed(self) -> None:
        """After each step: says whether calls may go on, and wakes whoever waits for one."""
        failure = next((d for d in self._deliveries if d.failure), None)
        over = self._appended_bytes + self._record_bytes > self._limit
        self.full = self._on_overflow is Overflow.refuse and (over or failure is not None)
        if failure is not None:
            self.detail = f"{failure.subscriber.name}: {failure.failure}"
        else:
            self.detail = "the backlog of events is full (events.backlog_bytes)" if over else ""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def _change(self) -> None:
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher


class _Delivery:
    """How far one subscriber has come. Positions count records from the beginning of the run."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.failure = ""
        self.position = 0
        """Of the next record that it has not taken."""
        self.end = 0
        """After the batch it is taking now; at most `position` if it is taking none."""
        self.floor = 0
        """Records before this one are no longer there."""
        self.lost = 0

    def resume(self, *, delivered: bool) -> None:
        """After a batch was taken, or not."""
        if delivered:
            self.position = max(self.end, self.floor)
        else:
            self.lost += max(0, min(self.end, self.floor) - self.position)
            self.position = max(self.position, self.floor)
        self.end = self.position

    def skip(self, position: int) -> None:
        """Records before `position` are dropped. Of a batch under way it is not yet known whether that is a loss."""
        self.lost += max(0, position - max(self.position, self.end, self.floor))
        self.floor = max(self.floor, position)
        if self.end <= self.position:
            self.position = max(self.position, self.floor)
