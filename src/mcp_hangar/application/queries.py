# SPDX-License-Identifier: MIT
"""Every read for REST and the command line. Nothing here changes anything, and nothing waits for a provider."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.kept_records import EventFilter, EventPage
from mcp_hangar.application.offered import Offered, page_of
from mcp_hangar.application.provider_status import ProviderStatus
from mcp_hangar.application.session_view import SessionCounts
from mcp_hangar.application.sessions import ClientSession
from mcp_hangar.application.views import CallFilter, CallPage, CallRow, ProviderCounts, Views
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp.catalogue import TOOLS
from mcp_hangar.domain.provider import Provider

RECORDED_WITHIN: Final = 1.0
"""Seconds; the record is some milliseconds behind."""
_NO_CALLS: Final = ProviderCounts()


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: str
    caller: str
    era: str
    version: str
    wire: str
    in_flight: int
    up_seconds: float
    idle_seconds: float


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    mode: str
    state: str
    """`cold`, `starting`, `ready`, `degraded` or `dead`."""
    held: bool
    """Stopped by an operator until it is started."""
    era: str
    """What it was found to speak; empty before its first start."""
    sessions: str
    unenforced: tuple[str, ...]
    """What nothing enforces for this mode."""
    tools: int | None
    """None: not asked yet."""
    in_flight: int
    restarts: int
    retry_after: float
    """Seconds until the next start may be tried; 0: at once."""
    last_error: str
    refused_messages: int
    calls: ProviderCounts
    instances: tuple[InstanceRow, ...]


class ProviderPage(msgspec.Struct, frozen=True, kw_only=True):
    providers: list[ProviderRow]
    """By name."""
    cursor: str = ""
    """Ask for the next page with it; empty: there is none."""


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A session: calls that belong together, by caller and conversation."""

    id: str
    open: bool
    """The client (of a legacy revision of MCP) opened it and has not ended it. Modern clients open none."""
    version: str
    """Of an open one: the revision of MCP."""
    door: str
    """Of an open one: the provider at whose own address it was opened; empty for the common one."""
    in_flight: int
    """Of an open one: calls that run."""
    counts: SessionCounts


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    sessions: list[SessionRow]
    """By id."""
    cursor: str = ""
    """Ask for the next page with it; empty: there is none."""


class RecordRow(msgspec.Struct, frozen=True, kw_only=True):
    """How the event log fares."""

    epoch: str
    newest: str
    oldest: str
    refusing: bool
    """Calls are refused because they could not be recorded."""
    detail: str


class StatusRow(msgspec.Struct, frozen=True, kw_only=True):
    software: str
    pid: int
    started_at: str
    uptime_seconds: float
    state: str
    """`ready`, `refusing` (calls, until they can be recorded) or `stopping`."""
    config: str
    record: RecordRow
    totals: ProviderCounts
    providers: list[ProviderRow]


class CallDetail(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one call, for `hangar why`."""

    call: CallRow
    story: list[str]
    """What happened, in sentences."""
    events: list[msgspec.Raw]


class _Open(Protocol):
    def all(self) -> Sequence[ClientSession]: ...


class _Running(Protocol):
    def snapshot(self) -> Sequence[ProviderStatus]: ...

    def held(self, name: str) -> bool: ...


class Queries:
    """Providers and their offers, calls, sessions, events, and how Hangar fares."""

    def __init__(
        self,
        *,
        views: Views,
        log: EventLog,
        instances: _Running,
        sessions: _Open,
        providers: Callable[[], Mapping[str, Provider]],
        offered: Offered,
        logs: Callable[[Provider], list[str]],
        stopping: Callable[[], bool],
        software: str,
        config: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.kept = views.kept
        self.offered = offered
        self._views, self._log, self._instances, self._sessions = views, log, instances, sessions
        self._providers, self._logs = providers, logs
        self._stopping = stopping
        self._software, self._config = software, config
        self._clock = clock
        self._started = clock()

    def status(self) -> StatusRow:
        record = RecordRow(
            epoch=self.kept.epoch,
            newest=self.kept.newest,
            oldest=self.kept.oldest,
            refusing=self._log.full,
            detail=self._log.detail,
        )
        totals = ProviderCounts()
        for counts in self._views.counts.values():
            for field in ("calls", "ok", "tool_errors", "failed", "denied", "running", "seconds", "refused_messages"):
                setattr(totals, field, getattr(totals, field) + getattr(counts, field))
            totals.last_call_at = max(totals.last_call_at, counts.last_call_at)
            if counts.last_error_at > totals.last_error_at:
                totals.last_error, totals.last_error_at = counts.last_error, counts.last_error_at
        return StatusRow(
            software=self._software,
            pid=os.getpid(),
            started_at=datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds")[:-6] + "Z",
            uptime_seconds=max(self._clock() - self._started, 0.0),
            state="stopping" if self._stopping() else "refusing" if self._log.full else "ready",
            config=self._config,
            record=record,
            totals=totals,
            providers=self.providers(),
        )

    def providers(self) -> list[ProviderRow]:
        running = {row.provider: row for row in self._instances.snapshot()}
        return [self._row(provider, running.get(name)) for name, provider in sorted(self._providers().items())]

    def provider_page(self, mode: str, state: str, cursor: str, limit: int) -> ProviderPage:
        """Those of a mode, in a state (`held`: stopped by an operator)."""
        rows = [
            row
            for row in self.providers()
            if (not mode or row.mode == mode) and (not state or (row.held if state == "held" else row.state == state))
        ]
        found, following = page_of(rows, lambda row: (row.name, ""), cursor, limit)
        return ProviderPage(providers=found, cursor=following)

    def provider(self, name: str) -> ProviderRow:
        provider = self.offered.named(name)
        running = next((row for row in self._instances.snapshot() if row.provider == name), None)
        return self._row(provider, running)

    def logs(self, name: str, limit: int) -> list[str]:
        """The newest lines that a provider wrote to stderr, oldest first."""
        return self._logs(self.offered.named(name))[-limit:]

    async def calls(self, where: CallFilter, before: str, limit: int) -> CallPage:
        return await self._views.calls(where, before, limit)

    async def call(self, id: str) -> CallDetail:
        row = self._views.call(id)
        if row is None:
            raise RequestError("unknown_call", id=id)
        return CallDetail(call=row, story=story(row), events=await self._views.events_of(id))

    async def recorded(self, call: str) -> None:
        """Waits (not for ever) until the end of a call that was just made can be read: the record follows its call."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECORDED_WITHIN):
                while (row := self._views.call(call)) is None or row.state == "running":
                    await self.kept.news(self.kept.last)

    async def sessions(self, caller: str, state: str, cursor: str, limit: int) -> SessionPage:
        """Those that are open, and those that calls were recorded of; `state`: `open`, `ended` or all."""
        counts = await self._views.sessions.all()
        open_ = {session.id: session for session in self._sessions.all()}
        callers = {id: each.caller for id, each in counts.items()}
        callers |= {id: session.caller.id for id, session in open_.items()}
        wanted = [
            id
            for id, theirs in callers.items()
            if (not state or (id in open_) is (state == "open")) and (not caller or theirs == caller)
        ]
        found, following = page_of(wanted, lambda id: (id, ""), cursor, limit)
        rows = [_session(id, counts.get(id), open_.get(id)) for id in found]
        return SessionPage(sessions=rows, cursor=following)

    async def session(self, id: str) -> SessionRow:
        counts = (await self._views.sessions.all()).get(id)
        live = next((session for session in self._sessions.all() if session.id == id), None)
        if live is None and counts is None:
            raise RequestError("session_unknown_here", id=id)
        return _session(id, counts, live)

    async def events(self, after: str, limit: int, where: EventFilter) -> EventPage:
        return await self.kept.page(after, limit, where)

    def _row(self, provider: Provider, running: ProviderStatus | None) -> ProviderRow:
        offer = self.offered.offer(provider)
        counts = self._views.counts.get(provider.name, _NO_CALLS)
        return ProviderRow(
            name=provider.name,
            description=provider.description,
            mode=provider.mode.value,
            state=(running.state if running else State.cold).value,
            held=self._instances.held(provider.name),
            era=(running.era or "") if running else "",
            sessions=provider.sharing.value,
            unenforced=provider.unenforced,
            tools=None if offer is None else len(offer.of(TOOLS)),
            in_flight=running.in_flight if running else 0,
            restarts=running.restarts if running else 0,
            retry_after=running.retry_after if running else 0.0,
            last_error=(running.last_error if running else "") or counts.last_error,
            refused_messages=running.refused if running else 0,
            calls=counts,
            instances=tuple(
                InstanceRow(
                    id=instance.id,
                    state=instance.state.value,
                    caller=instance.caller,
                    era=instance.era.value,
                    version=instance.version,
                    wire=instance.wire,
                    in_flight=instance.in_flight,
                    up_seconds=round(instance.up_seconds, 3),
                    idle_seconds=round(instance.idle_seconds, 3),
                )
                for instance in (running.instances if running else ())
            ),
        )


def _session(id: str, counts: SessionCounts | None, live: ClientSession | None) -> SessionRow:
    if counts is None:
        assert live is not None
        counts = SessionCounts(
            id,
            source="explicit",
            caller=live.caller.id,
            caller_type=live.caller.type.value,
            client=live.client,
            era="legacy",
        )
    return SessionRow(
        id=id,
        open=live is not None,
        version=live.version if live else "",
        door=live.scope if live else "",
        in_flight=len(live.flights) if live else 0,
        counts=counts,
    )


def story(row: CallRow) -> list[str]:
    """One call in sentences: who asked what, what was decided and why, how it ended."""
    who = f"{row.caller or 'Somebody'}{f' ({row.client})' if row.client else ''}"
    told = [f"{who} asked {row.provider or 'Hangar'} for {row.method} {row.name}".rstrip() + "."]
    if row.parent:
        told.append(f"It is a question that came up in call {row.parent}.")
    if row.state == "denied":
        by = f" by {row.policy}" if row.policy else ""
        told.append(f"It was denied at {row.ended_at}{by}: {row.reason or row.detail or row.code}.".replace("..", "."))
        told.append("It never reached the provider.")
        return told
    if row.admitted_at:
        told.append(f"It was admitted at {row.admitted_at}.")
    took = f" after {row.seconds:.3f} s" if row.seconds is not None else ""
    match row.outcome:
        case "ok":
            told.append(f"It was answered{took}.")
        case "tool_error":
            told.append(f"The tool answered with an error{took}: that is the tool's own verdict, not Hangar's.")
        case "input_required":
            told.append(f"The provider asked back{took}; the client goes on with another request.")
        case "failed":
            why = ": ".join(part for part in (row.reason or row.code, row.detail) if part)
            told.append(f"It failed{took}: {why}.".replace("..", "."))
        case _:
            told.append("It is still running.")
    return told
