# SPDX-License-Identifier: MIT
"""Every read for REST and the command line. Nothing here changes anything, and nothing waits for a provider."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.instances import ProviderStatus
from mcp_hangar.application.views import CallFilter, CallPage, CallRow, EventPage, ProviderCounts, Views
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp.catalogue import TOOLS, Offer
from mcp_hangar.domain.provider import Provider

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


class ToolRow(msgspec.Struct, frozen=True, kw_only=True):
    provider: str
    name: str
    title: str
    description: str
    denied_by: str
    """The policy that denies it to everyone; empty if none does."""
    definition: msgspec.Raw
    """As the provider wrote it."""


class ToolList(msgspec.Struct, frozen=True, kw_only=True):
    tools: list[ToolRow]
    unknown: list[str]
    """Providers whose tools are not known yet, since they were never started."""


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


class _Running(Protocol):
    def snapshot(self) -> Sequence[ProviderStatus]: ...

    def held(self, name: str) -> bool: ...


class Queries:
    """`offer` and `denied_by` are asked per provider: what it is known to offer, and which policy denies a tool."""

    def __init__(
        self,
        *,
        views: Views,
        log: EventLog,
        instances: _Running,
        providers: Callable[[], Mapping[str, Provider]],
        offer: Callable[[Provider], Offer | None],
        denied_by: Callable[[Provider, str], str],
        logs: Callable[[Provider], list[str]],
        stopping: Callable[[], bool],
        software: str,
        config: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._views, self._log, self._instances = views, log, instances
        self._providers, self._offer, self._denied_by, self._logs = providers, offer, denied_by, logs
        self._stopping = stopping
        self._software, self._config = software, config
        self._clock = clock
        self._started = clock()

    def status(self) -> StatusRow:
        record = RecordRow(
            epoch=self._views.epoch,
            newest=self._views.newest,
            oldest=self._views.oldest,
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

    def provider(self, name: str) -> ProviderRow:
        provider = self._named(name)
        running = next((row for row in self._instances.snapshot() if row.provider == name), None)
        return self._row(provider, running)

    def logs(self, name: str, limit: int) -> list[str]:
        """The newest lines that a provider wrote to stderr, oldest first."""
        return self._logs(self._named(name))[-limit:]

    def tools(self, provider: str = "", query: str = "") -> ToolList:
        chosen = [self._named(provider)] if provider else [row for _, row in sorted(self._providers().items())]
        words = query.lower().split()
        tools: list[ToolRow] = []
        unknown: list[str] = []
        for one in chosen:
            offer = self._offer(one)
            if offer is None:
                unknown.append(one.name)
                continue
            for name, item in offer.of(TOOLS).items():
                row = self._tool(one, name, item.raw)
                if all(word in f"{name} {row.title} {row.description}".lower() for word in words):
                    tools.append(row)
        return ToolList(tools=tools, unknown=unknown)

    def calls(self, where: CallFilter, before: str, limit: int) -> CallPage:
        return self._views.calls(where, before, limit)

    def call(self, id: str) -> CallDetail:
        row = self._views.call(id)
        if row is None:
            raise RequestError("unknown_call", id=id)
        return CallDetail(call=row, story=story(row), events=self._views.events_of(id))

    def events(self, after: str, limit: int) -> EventPage:
        return self._views.events(after, limit)

    def _named(self, name: str) -> Provider:
        providers = self._providers()
        if name not in providers:
            raise RequestError("unknown_provider", name=name, known=", ".join(sorted(providers)) or "none")
        return providers[name]

    def _row(self, provider: Provider, running: ProviderStatus | None) -> ProviderRow:
        offer = self._offer(provider)
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

    def _tool(self, provider: Provider, name: str, raw: bytes) -> ToolRow:
        definition: dict[str, Any] = msgspec.json.decode(raw)
        title, description = definition.get("title"), definition.get("description")
        return ToolRow(
            provider=provider.name,
            name=name,
            title=title if isinstance(title, str) else "",
            description=description if isinstance(description, str) else "",
            denied_by=self._denied_by(provider, name),
            definition=msgspec.Raw(raw),
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
