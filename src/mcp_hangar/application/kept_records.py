# SPDX-License-Identifier: MIT
"""The newest records of this run, bounded in bytes, for whoever reads after the fact: a page at a time, or as they
come. Readers hold a position and copy nothing, so their number costs no memory.

A cursor `{epoch}:{seq}` names the last record that was seen. Whoever goes on from one that is no longer kept, or from
another run's, is told the gap.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, get_args

import msgspec

from mcp_hangar.application.event_codec import Record
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.events import AnyEvent, Severity

TYPES: Final = tuple(str(cls.__struct_config__.tag) for cls in get_args(AnyEvent))
FAMILIES: Final = tuple(dict.fromkeys(tag.partition(".")[0] for tag in TYPES))
"""The first word of each type of event."""
SLICE: Final = 1000
"""Records or rows that one search looks at before the loop gets its turn."""
_RANKS: Final = {severity.value: rank for rank, severity in enumerate(Severity)}


class Gap(msgspec.Struct, frozen=True):
    """Records that are asked for and no longer kept, or were another run's. What is kept goes on after `last`."""

    first: str
    """The cursor of the first one. Of another run it is the cursor that was asked with: how many followed it there is
    not known."""
    last: str
    """The cursor of the last one in this run."""


class EventPage(msgspec.Struct, frozen=True):
    events: list[msgspec.Raw]
    """Oldest first, as the record has them."""
    cursor: str
    """Ask for what comes after it."""
    gap: Gap | None = None


class _Subject(msgspec.Struct, gc=False):
    """What filters look at; the rest of a record is skipped unread."""

    severity: str = ""
    provider: str = ""
    call_id: str = ""
    session_id: str = ""


_read: Final = msgspec.json.Decoder(_Subject).decode


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Empty members match everything."""

    families: tuple[str, ...] = ()
    """Families (`call`) or types (`call.denied`)."""
    providers: tuple[str, ...] = ()
    severity: str = ""
    """This one and what matters more."""
    call: str = ""
    session: str = ""

    @property
    def everything(self) -> bool:
        return self == EVERYTHING

    def matches(self, record: Record) -> bool:
        if self.families and not (record.type in self.families or record.type.partition(".")[0] in self.families):
            return False
        if not (self.providers or self.severity or self.call or self.session):
            return True
        subject = _read(record.data)
        return (
            (not self.providers or subject.provider in self.providers)
            and (not self.severity or _RANKS[subject.severity] >= _RANKS[self.severity])
            and (not self.call or subject.call_id == self.call)
            and (not self.session or subject.session_id == self.session)
        )

    def check(self) -> None:
        """Raises `RequestError("invalid_params")` for words that no event has: such a filter would match nothing."""
        for word in self.families:
            if word not in FAMILIES and word not in TYPES:
                _refuse(f"there is no family or type of events {word!r}; families: {', '.join(FAMILIES)}")
        if self.severity and self.severity not in _RANKS:
            _refuse(f"there is no severity {self.severity!r}; there are: {', '.join(_RANKS)}")


EVERYTHING: Final = EventFilter()


def _refuse(detail: str) -> None:
    raise RequestError("invalid_params", method="the events", detail=detail)


class KeptRecords:
    """`keep` bounds their bytes."""

    def __init__(self, *, epoch: str, keep: int) -> None:
        self.epoch = epoch
        self.last = 0
        """Number of the newest record, kept or not."""
        self._keep = keep
        self._records: list[Record] = []
        self._start = 0  # records before it are forgotten, and cut off now and then
        self._bytes = 0
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, records: Sequence[Record]) -> Sequence[Record]:
        """Answers those that are forgotten for it, oldest first."""
        self._records.extend(records)
        self._bytes += sum(len(record.data) for record in records)
        self.last = records[-1].seq
        gone = self._start
        while self._bytes > self._keep and self._start < len(self._records):
            self._bytes -= len(self._records[self._start].data)
            self._start += 1
        forgotten = self._records[gone : self._start]
        if self._start > 1000 or self._start == len(self._records):
            del self._records[: self._start]
            self._start = 0
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)
        return forgotten

    @property
    def newest(self) -> str:
        return self.cursor(self.last)

    @property
    def oldest(self) -> str:
        """The cursor of the oldest record that is kept; the newest's if none is."""
        return self.cursor(self._records[self._start].seq) if self._start < len(self._records) else self.newest

    def cursor(self, seq: int) -> str:
        return f"{self.epoch}:{seq}"

    def resume(self, cursor: str) -> tuple[int, Gap | None]:
        """The number after which to go on, and what is missing between. Raises `RequestError("invalid_cursor")`."""
        epoch, seq = parse_cursor(cursor)
        if epoch != self.epoch:
            # Another run's: how far it came is not known here.
            before = self._records[self._start].seq - 1 if self._start < len(self._records) else self.last
            return before, Gap(cursor, self.cursor(before))
        if seq > self.last:
            raise RequestError("invalid_cursor")
        return self.go_on(seq)

    def go_on(self, seq: int) -> tuple[int, Gap | None]:
        """The same within this run."""
        at = self._after(seq)
        missing = self._records[at].seq - 1 if at < len(self._records) else self.last
        return (missing, Gap(self.cursor(seq + 1), self.cursor(missing))) if missing > seq else (seq, None)

    def after(self, seq: int, most: int) -> list[Record]:
        """The next records after a number, oldest first."""
        at = self._after(seq)
        return self._records[at : at + most]

    def before(self, seq: int, most: int) -> list[Record]:
        """The records before a number, newest first."""
        at = self._after(seq - 1)
        return self._records[max(self._start, at - most) : at][::-1]

    def _after(self, seq: int) -> int:
        return bisect_right(self._records, seq, lo=self._start, key=lambda record: record.seq)

    async def news(self, seq: int) -> None:
        """Waits until there is a record after this number."""
        while self.last <= seq:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if not waiting.done() or waiting.cancelled():
                    self._waiting = [each for each in self._waiting if each is not waiting]

    async def page(self, after: str = "", limit: int = 100, where: EventFilter = EVERYTHING) -> EventPage:
        """The records after a cursor that match, oldest first; without one, the newest `limit`."""
        if not after:
            return await self._newest(limit, where)
        seq, gap = self.resume(after)
        found: list[Record] = []
        while len(found) < limit:
            seq, later = self.go_on(seq)  # some may have been forgotten while others had their turn
            gap = Gap((gap or later).first, later.last) if later else gap
            records = self.after(seq, SLICE if not where.everything else limit)
            if not records:
                break
            for record in records:
                seq = record.seq
                if where.matches(record):
                    found.append(record)
                    if len(found) == limit:
                        break
            else:
                await asyncio.sleep(0)
        return EventPage([msgspec.Raw(record.data) for record in found], self.cursor(seq), gap)

    async def _newest(self, limit: int, where: EventFilter) -> EventPage:
        newest = self.last
        found: list[Record] = []
        seq = newest + 1
        while len(found) < limit and (records := self.before(seq, SLICE if not where.everything else limit)):
            found += [record for record in records if where.matches(record)]
            seq = records[-1].seq
            await asyncio.sleep(0)
        found = found[:limit][::-1]
        return EventPage([msgspec.Raw(record.data) for record in found], self.cursor(newest))


def parse_cursor(cursor: str) -> tuple[str, int]:
    """`{epoch}:{seq}` -> its parts. Raises `RequestError("invalid_cursor")`."""
    epoch, _, seq = cursor.rpartition(":")
    if not epoch or not seq.isascii() or not seq.isdigit() or len(seq) > 18:
        raise RequestError("invalid_cursor")
    return epoch, int(seq)
