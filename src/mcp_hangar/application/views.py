# SPDX-License-Identifier: MIT
"""Read models folded from records: the newest events, the calls they tell of, and what each provider did.

A local subscriber, in memory and bounded: what is asked for here is what people look at. Folding happens for every
event and reading for few, so a call is kept as its records and made into a row when somebody looks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from mcp_hangar.application.event_codec import Record
from mcp_hangar.application.kept_records import SLICE, KeptRecords, parse_cursor
from mcp_hangar.application.session_view import SessionView
from mcp_hangar.domain.errors import RequestError

_PROVIDERS: Final = 10_000
_OTHERS: Final = "(others)"


class CallRow(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One call, from its admission to its end; `state` is `running`, `completed`, `failed` or `denied`."""

    id: str
    state: str
    outcome: str = ""
    """Of an ended call: `ok`, `tool_error`, `input_required`, `failed` or `denied`."""
    provider: str = ""
    method: str = ""
    name: str = ""
    caller: str = ""
    caller_type: str = ""
    tenant: str = ""
    session: str = ""
    session_source: str = ""
    client: str = ""
    era: str = ""
    trace: str = ""
    parent: str = ""
    """For a provider's question: the call it belongs to."""
    admitted_at: str = ""
    ended_at: str = ""
    seconds: float | None = None
    policy: str = ""
    """Which policy decided, where one did."""
    reason: str = ""
    code: str = ""
    """Of a failed or denied call: the error its caller saw."""
    detail: str = ""
    result_bytes: int = 0
    arguments_hash: str = ""
    arguments_preview: str = ""
    seq: int = 0
    """Of the call's first record; sorts as calls began."""


class ProviderCounts(msgspec.Struct):
    """What one provider did since Hangar started."""

    calls: int = 0
    ok: int = 0
    tool_errors: int = 0
    failed: int = 0
    denied: int = 0
    running: int = 0
    seconds: float = 0.0
    """Sum over ended calls."""
    refused_messages: int = 0
    last_call_at: str = ""
    last_error: str = ""
    last_error_at: str = ""


class CallPage(msgspec.Struct, frozen=True):
    calls: list[CallRow]
    """Newest first."""
    cursor: str = ""
    """Ask for the older ones with it; empty: there are none."""


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Empty members match everything."""

    provider: str = ""
    method: str = ""
    name: str = ""
    outcome: str = ""
    """An outcome, or a state."""
    state: str = ""
    caller: str = ""
    session: str = ""
    tenant: str = ""
    trace: str = ""
    since: str = ""
    """RFC 3339 in UTC, as records have it; the call's last news."""
    until: str = ""

    def matches(self, row: CallRow) -> bool:
        return (
            (not self.provider or row.provider == self.provider)
            and (not self.method or row.method == self.method)
            and (not self.name or row.name == self.name)
            and (not self.outcome or self.outcome in (row.outcome, row.state))
            and (not self.state or row.state == self.state)
            and (not self.caller or row.caller == self.caller)
            and (not self.session or row.session == self.session)
            and (not self.tenant or row.tenant == self.tenant)
            and (not self.trace or row.trace == self.trace)
            and (not self.since or (row.ended_at or row.admitted_at) >= self.since)
            and (not self.until or (row.ended_at or row.admitted_at) < self.until)
        )


class _Facts(msgspec.Struct, kw_only=True, gc=False):
    """The members of a record that are folded into counts; all others are skipped unread."""

    at: str = ""
    provider: str = ""
    call_id: str = ""
    outcome: str = ""
    seconds: float = 0.0
    reason: str = ""
    code: str = ""
    detail: str = ""
    count: int = 1


class _Told(_Facts, kw_only=True, gc=False):
    """All that a row tells of a call's first record."""

    method: str = ""
    name: str = ""
    session_id: str = ""
    caller: str = ""
    tenant: str = ""
    trace_id: str = ""
    policy_id: str = ""
    caller_type: str = ""
    session_source: str = ""
    client: str = ""
    era: str = ""
    parent: str = ""
    result_bytes: int = 0
    arguments_hash: str = ""
    arguments_preview: str = ""


class _Kept(msgspec.Struct, gc=False):
    """A call: the first record of it that is kept, and the one that ended it, if that is another."""

    begun: Record
    ended: Record | None = None


_fold: Final = msgspec.json.Decoder(_Facts).decode
_read: Final = msgspec.json.Decoder(_Told).decode
_STATES: Final = {"call.completed": "completed", "call.failed": "failed", "call.denied": "denied"}


def _row(kept: _Kept) -> CallRow:
    first = _read(kept.begun.data)
    last, end = (first, kept.begun) if kept.ended is None else (_read(kept.ended.data), kept.ended)
    state = _STATES.get(end.type, "running")
    return CallRow(
        id=first.call_id,
        state=state,
        outcome=last.outcome or ("" if state == "running" else state),
        provider=first.provider,
        method=first.method,
        name=first.name,
        caller=first.caller,
        caller_type=first.caller_type,
        tenant=first.tenant,
        session=first.session_id,
        session_source=first.session_source,
        client=first.client,
        era=first.era,
        trace=first.trace_id,
        parent=first.parent,
        admitted_at=first.at if kept.begun.type == "call.admitted" else "",
        ended_at="" if state == "running" else last.at,
        seconds=last.seconds if state in ("completed", "failed") else None,
        policy=last.policy_id or first.policy_id,
        reason=last.reason or first.reason,
        code=last.code,
        detail=last.detail,
        result_bytes=last.result_bytes,
        arguments_hash=first.arguments_hash,
        arguments_preview=first.arguments_preview,
        seq=kept.begun.seq,
    )


class Views:
    """Subscriber. `keep` bounds the bytes of records that are kept; a call is kept as long as its first record is."""

    name = "views"
    effects_outside = False

    def __init__(self, *, epoch: str, keep: int) -> None:
        self.kept = KeptRecords(epoch=epoch, keep=keep)
        self.sessions = SessionView(self.kept)
        self.counts: dict[str, ProviderCounts] = {}
        self._calls: OrderedDict[str, _Kept] = OrderedDict()
        """In the order in which they began."""

    async def see(self, records: Sequence[Record]) -> None:
        for record in records:
            fold = _FOLDS.get(record.type)
            if fold is not None:
                fold(self, record, _fold(record.data))
        for forgotten in self.kept.add(records):
            oldest = next(iter(self._calls), None)
            if oldest is not None and self._calls[oldest].begun is forgotten:
                del self._calls[oldest]

    async def close(self) -> None:
        return None

    # -- reads ------------------------------------------------------------------------------------------------------

    async def calls(self, where: CallFilter, before: str = "", limit: int = 100) -> CallPage:
        """Calls that match, newest first. Others get their turn between the pieces of a long search."""
        epoch, bound = parse_cursor(before) if before else (self.kept.epoch, self.kept.last + 1)
        if epoch != self.kept.epoch:
            raise RequestError("stale_cursor")
        likely = _prefilter(where)
        found: list[CallRow] = []
        for number, kept in enumerate(reversed(list(self._calls.values())), 1):
            if kept.begun.seq < bound and likely(kept) and where.matches(row := _row(kept)):
                if len(found) == limit:
                    return CallPage(found, f"{epoch}:{found[-1].seq}")
                found.append(row)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return CallPage(found)

    def call(self, id: str) -> CallRow | None:
        kept = self._calls.get(id)
        return None if kept is None else _row(kept)

    async def events_of(self, call_id: str) -> list[msgspec.Raw]:
        """The records of one call that are still kept, oldest first."""
        kept = self._calls.get(call_id)
        if kept is None:
            return []
        needle = _member("call_id", call_id)
        found: list[msgspec.Raw] = []
        seq = kept.begun.seq - 1
        while records := self.kept.after(seq, SLICE):
            for record in records:
                seq = record.seq
                if needle in record.data:
                    found.append(msgspec.Raw(record.data))
                    if record.type in _STATES:
                        return found
            await asyncio.sleep(0)
        return found

    # -- folds ------------------------------------------------------------------------------------------------------

    def _admitted(self, record: Record, facts: _Facts) -> None:
        self._calls[facts.call_id] = _Kept(record)
        counts = self._of(facts.provider)
        counts.calls += 1
        counts.running += 1
        counts.last_call_at = facts.at

    def _completed(self, record: Record, facts: _Facts) -> None:
        counts = self._ended(record, facts)
        if facts.outcome == "tool_error":
            counts.tool_errors += 1
        else:
            counts.ok += 1

    def _failed(self, record: Record, facts: _Facts) -> None:
        counts = self._ended(record, facts)
        counts.failed += 1
        if facts.reason != "cancelled":
            counts.last_error, counts.last_error_at = facts.detail or facts.code, facts.at

    def _ended(self, record: Record, facts: _Facts) -> ProviderCounts:
        kept = self._calls.get(facts.call_id)
        if kept is None:  # its beginning is no longer kept
            self._calls[facts.call_id] = _Kept(record)
        else:
            kept.ended = record
        counts = self._of(facts.provider)
        counts.running = max(counts.running - 1, 0)
        counts.seconds += facts.seconds
        return counts

    def _denied(self, record: Record, facts: _Facts) -> None:
        self._calls[facts.call_id] = _Kept(record)
        self._of(facts.provider).denied += 1

    def _start_failed(self, record: Record, facts: _Facts) -> None:
        counts = self._of(facts.provider)
        counts.last_error, counts.last_error_at = facts.detail or facts.code, facts.at

    def _message_refused(self, record: Record, facts: _Facts) -> None:
        self._of(facts.provider).refused_messages += facts.count

    def _of(self, provider: str) -> ProviderCounts:
        counts = self.counts.get(provider)
        if counts is None:
            if len(self.counts) >= _PROVIDERS:
                provider = _OTHERS
            counts = self.counts.setdefault(provider, ProviderCounts())
        return counts


_FOLDS: Final = {
    "call.admitted": Views._admitted,
    "call.completed": Views._completed,
    "call.failed": Views._failed,
    "call.denied": Views._denied,
    "provider.start_failed": Views._start_failed,
    "provider.message_refused": Views._message_refused,
}


def _member(name: str, value: str) -> bytes:
    return b'"%b":%b' % (name.encode(), msgspec.json.encode(value))


def _prefilter(where: CallFilter) -> Callable[[_Kept], bool]:
    """Whether a call may match, told from the bytes of its records: reading every one to answer would take long."""
    wanted = {
        "provider": where.provider,
        "method": where.method,
        "name": where.name,
        "caller": where.caller,
        "session_id": where.session,
        "tenant": where.tenant,
        "trace_id": where.trace,
    }
    needles = [_member(name, value) for name, value in wanted.items() if value and value.isascii()]

    def likely(kept: _Kept) -> bool:
        data = kept.begun.data
        if any(needle not in data for needle in needles):
            return False
        end = kept.ended or kept.begun
        if where.since and _at(end.data) < where.since:
            return False
        state = _STATES.get(end.type, "running")
        if where.state and where.state != state:
            return False
        if not where.outcome:
            return True
        return where.outcome == state or (state == "completed" and _member("outcome", where.outcome) in end.data)

    return likely


def _at(data: bytes) -> str:
    start = data.index(b'"at":"') + 6
    return data[start : data.index(b'"', start)].decode()
