# SPDX-License-Identifier: MIT
"""What is known of one provider at run time: its instances, their places, its setbacks.

Bookkeeping only: nothing here awaits. `application/instances.py` starts and stops. A *place* belongs to one key and
outlives the instances that stand in it, so that a provider that crashes again and again is waited for longer and
longer. Setbacks are kept twice: a failed start is a matter of the provider and holds back all its starts; a crash may
be the doing of one caller and holds back that caller's place only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mcp_hangar.application.ports.connection import Connection
from mcp_hangar.domain.errors import HangarError, StartFailed
from mcp_hangar.domain.events import Event, ProviderMessageRefused, ProviderStartFailed, ProviderStateChanged, Severity
from mcp_hangar.domain.health import Health
from mcp_hangar.domain.lifecycle import Happening, State, delay, evolve
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Backoff, Mode, Protocol, Provider, Sharing

_OWN_CODES: Final = frozenset(
    {"upstream_auth", "upstream_status", "provider_unreachable", "provider_protocol", "message_too_large"}
)
"""Errors that say by themselves why a start failed."""
_SETTLED: Final = 10.0
"""Seconds an instance must have stayed up before earlier failures are forgiven; the longest backoff if that is less."""
_REFUSALS_EVERY: Final = 10.0


class InstanceKey(NamedTuple):
    """What upstream state is kept apart by. Empty where it is not separated."""

    provider: str
    caller: str
    capabilities: str
    conversation: str


def key_of(provider: Provider, era: Era | None, caller: str, capabilities: str, conversation: str) -> InstanceKey:
    """The key of a call's instance. A modern provider is told capabilities with each request, so instances need not
    differ in them; over HTTP it keeps nothing of a connection at all, so one serves everybody."""
    if era is Era.modern or provider.protocol is Protocol.modern:
        if provider.mode is Mode.remote:
            return InstanceKey(provider.name, "", "", "")
        capabilities = ""
    sharing = provider.sharing
    if sharing is Sharing.shared:
        return InstanceKey(provider.name, "", capabilities, "")
    if sharing is Sharing.per_caller:
        return InstanceKey(provider.name, caller, capabilities, "")
    return InstanceKey(provider.name, caller, capabilities, conversation)


@dataclass(slots=True, eq=False, kw_only=True)
class Instance:
    """One live side of a provider."""

    id: str
    key: InstanceKey
    provider: Provider
    connection: Connection
    wire: str
    era: Era
    version: str
    capabilities: dict[str, Any]
    """What the provider says it can do."""
    info: dict[str, Any]
    instructions: str
    since: float
    """When it became ready; like all times here on the monotonic clock."""
    state: State = State.ready
    in_flight: int = 0
    """Calls under way; counted by the call path."""
    pinned: int = 0
    """Subscriptions and parked calls that need it to stay."""
    last_used: float = 0.0
    """Set by the call path."""
    last_heard: float = 0.0
    """When it last answered a call or said anything; set by the call path and for unrelated messages. It spares the
    provider a probe."""
    health: Health = field(default_factory=Health)
    probed: float = 0.0
    """When it was last judged."""
    last_answer: float = 0.0
    """When it last answered a probe, in time or late. Not traffic: else each answer would spare the next probe."""
    error: HangarError | None = None
    """What ended it, if it ended by itself."""


@dataclass(slots=True)
class Setbacks:
    """Failures in a row, and the time before which nothing is tried again."""

    failures: int = 0
    last: float = 0.0
    until: float = 0.0
    error: HangarError | None = None

    def add(self, error: HangarError, now: float, backoff: Backoff, random: Callable[[], float]) -> None:
        self.failures += 1
        self.last = now
        self.until = now + delay(self.failures, backoff, random)
        self.error = error

    def clear(self) -> None:
        self.failures, self.until, self.error = 0, 0.0, None

    def forgive(self, since: float) -> None:
        """Something came up at `since` and stayed up long enough: what failed before that is forgiven."""
        if since >= self.last:
            self.clear()


@dataclass(slots=True, eq=False)
class Place:
    key: InstanceKey
    state: State = State.cold
    instance: Instance | None = None
    starting: asyncio.Task[Instance | HangarError] | None = None
    waiting: int = 0
    """Callers that wait for the start; until each has taken the instance it is not idle."""
    setbacks: Setbacks = field(default_factory=Setbacks)
    forgotten: bool = False
    """The conversation it belonged to is over."""

    @property
    def idle(self) -> bool:
        instance = self.instance
        return instance is not None and not (self.waiting or instance.in_flight or instance.pinned)


@dataclass(slots=True)
class Refusals:
    """Counts what a provider sent in vain, so that a flood of junk becomes a few events."""

    total: int = 0
    untold: int = 0
    reason: str = ""
    next: float = 0.0

    def add(self, reason: str) -> None:
        self.total += 1
        self.untold += 1
        self.reason = reason[:200]

    def tell(self, now: float) -> int:
        """How many to tell of now; 0 for none."""
        if not self.untold or now < self.next:
            return 0
        count, self.untold, self.next = self.untold, 0, now + _REFUSALS_EVERY
        return count


@dataclass(slots=True, eq=False)
class Pool:
    provider: Provider
    record: Callable[[Event], None]
    wall: Callable[[], float]
    random: Callable[[], float]
    conversations: dict[str, set[InstanceKey]]
    """Keys of the places, by conversation: of all pools, so that the end of one looks at no other's."""
    refusals: Refusals = field(default_factory=Refusals)
    era: Era | None = None
    """Kept while instances live under keys that follow from it."""
    proven: bool = False
    """Whether the era and the wire may be taken for granted at the next start; not after a failure."""
    wire: str = ""
    places: dict[InstanceKey, Place] = field(default_factory=dict)
    closing: dict[asyncio.Task[None], bool] = field(default_factory=dict)
    """Ends under way, and whether each still counts against the limit."""
    leaving: set[Instance] = field(default_factory=set)
    """Out of use, with calls in flight that may finish."""
    setbacks: Setbacks = field(default_factory=Setbacks)
    starts: int = 0
    restarts: int = 0
    last_error: str = ""

    def place(self, key: InstanceKey) -> Place:
        place = self.places.get(key)
        if place is None:
            place = Place(key)
            self._put(place)
        return place

    def rename(self, place: Place, key: InstanceKey) -> None:
        self._drop(place.key)
        place.key = key
        self._put(place)

    def _put(self, place: Place) -> None:
        self.places[place.key] = place
        if place.key.conversation:
            self.conversations.setdefault(place.key.conversation, set()).add(place.key)

    def _drop(self, key: InstanceKey) -> None:
        self.places.pop(key, None)
        keys = self.conversations.get(key.conversation)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self.conversations[key.conversation]

    def narrow(self, key: InstanceKey) -> InstanceKey:
        return key_of(self.provider, self.era, key.caller, key.capabilities, key.conversation)

    @property
    def live(self) -> Iterator[Instance]:
        return (place.instance for place in self.places.values() if place.instance is not None)

    @property
    def taken(self) -> int:
        """How many instances there are: live, coming and going."""
        here = sum(place.instance is not None or place.starting is not None for place in self.places.values())
        return here + sum(self.closing.values())

    def finding_out(self) -> asyncio.Task[Instance | HangarError] | None:
        """The start that is finding out the era of a provider never met before. Others wait for it: what they find
        to be modern would be one instance, not many."""
        if self.era is not None or self.provider.protocol is not Protocol.auto:
            return None
        return next((place.starting for place in self.places.values() if place.starting is not None), None)

    # what happened to a place

    def move(self, place: Place, happening: Happening, id: str, reason: str = "") -> None:
        before = place.state
        place.state = evolve(before, happening)
        if place.instance is not None:
            place.instance.state = place.state
        if place.state is before:
            return
        self.record(
            ProviderStateChanged(
                at=self.wall(),
                severity=Severity.medium if place.state is State.dead else Severity.info,
                provider=self.provider.name,
                before=before,
                after=place.state,
                instance=id,
                reason=reason,
            )
        )

    def start_failed(self, place: Place, id: str, error: HangarError, now: float) -> StartFailed:
        """What the waiters are told."""
        for other in self.places.values():
            if other.instance is not None:
                self.forgive(other, other.instance, now)
        failed = as_start_failed(self.provider.name, error)
        self.setbacks.add(failed, now, self.provider.lifecycle.restart, self.random)
        self.proven = False
        self.last_error = _told(failed)
        self.move(place, Happening.failed, id, failed.code)
        wait = _rounded(self.setbacks.until - now)
        self.record(
            ProviderStartFailed(
                at=self.wall(),
                severity=Severity.medium,
                provider=self.provider.name,
                code=failed.code,
                detail=self.last_error,
                retry_after=wait,
            )
        )
        return StartFailed(failed.code, **{**failed.facts, "retry_after": wait})

    def crashed(self, place: Place, instance: Instance, error: HangarError, now: float) -> None:
        self.forgive(place, instance, now)
        place.setbacks.add(error, now, self.provider.lifecycle.restart, self.random)
        self.proven = False
        self.last_error = _told(error)
        instance.error = error

    def wait(self, place: Place, now: float) -> float:
        """Seconds until a start may be tried."""
        return max(place.setbacks.until, self.setbacks.until) - now

    def not_yet(self, place: Place, wait: float) -> StartFailed:
        later = max((place.setbacks, self.setbacks), key=lambda each: each.until)
        error = as_start_failed(self.provider.name, later.error)
        return StartFailed(error.code, **{**error.facts, "retry_after": _rounded(wait)})

    def forgive(self, place: Place, instance: Instance, now: float) -> None:
        """It stayed up long enough: what failed before it came is forgiven."""
        if now - instance.since >= min(self.provider.lifecycle.restart.longest, _SETTLED):
            self.setbacks.forgive(instance.since)
            place.setbacks.forgive(instance.since)

    def forget_failure(self, place: Place, now: float) -> None:
        """A place that nobody came back to is dropped; a key that never returns must not be kept for ever."""
        if -self.wait(place, now) >= self.provider.lifecycle.restart.longest:
            place.setbacks.clear()
            self.move(place, Happening.ended, "", "forgotten")
            self.tidy(place)

    def tidy(self, place: Place) -> None:
        """Drop a place that says nothing any more. A dead one goes on saying so for a while."""
        if place.instance is not None or place.starting is not None or place.waiting:
            return
        if place.state is State.cold and not place.setbacks.failures and self.places.get(place.key) is place:
            self._drop(place.key)

    # what its connections dropped

    def refused(self, reason: str, now: float) -> None:
        self.refusals.add(reason)
        self.tell_refusals(now)

    def tell_refusals(self, now: float) -> None:
        if count := self.refusals.tell(now):
            self.record(
                ProviderMessageRefused(
                    at=self.wall(), provider=self.provider.name, count=count, reason=self.refusals.reason
                )
            )


def as_start_failed(provider: str, error: HangarError | None) -> StartFailed:
    """Why there is no instance, said of the start. Nothing was sent yet, so the call may be repeated."""
    if isinstance(error, StartFailed):
        return error
    if error is not None and error.code in _OWN_CODES:
        return StartFailed(error.code, **{"provider": provider, **error.facts})
    if error is None or error.code == "provider_died":
        told = "" if error is None else str(error.facts.get("detail", ""))
        detail = f"It ended by itself. {told}".rstrip()
    else:
        detail = _told(error)
    return StartFailed("start_failed", provider=provider, detail=detail, fix=f"Look at `hangar logs {provider}`.")


def _told(error: HangarError) -> str:
    return f"{error.what} {error.why}"


def _rounded(seconds: float) -> float:
    """For people and models: tenths, never less than what is left."""
    return max(0.0, math.ceil(seconds * 10) / 10)
