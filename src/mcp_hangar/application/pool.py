# SPDX-License-Identifier: MIT
"""What is known of one provider at run time: its instances, their places, its setbacks.

Bookkeeping only: nothing here awaits. `application/instances.py` starts and stops. A *place* belongs to one key and
outlives the instances that stand in it, so that a provider that crashes again and again is waited for longer and
longer. Setbacks are kept twice: a failed start is a matter of the provider and holds back all its starts; a crash may
be the doing of one caller and holds back that caller's place only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcp_hangar.application.ports.connection import Connection
from mcp_hangar.domain.errors import HangarError
from mcp_hangar.domain.health import Health
from mcp_hangar.domain.lifecycle import State, delay, shown
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Backoff, Mode, Protocol, Provider, Sharing


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

    every: float
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
        count, self.untold, self.next = self.untold, 0, now + self.every
        return count


@dataclass(slots=True, eq=False)
class Pool:
    provider: Provider
    refusals: Refusals
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
            place = self.places[key] = Place(key)
        return place

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


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatus:
    id: str
    caller: str
    state: State
    era: Era
    version: str
    wire: str
    in_flight: int
    pinned: int
    up_seconds: float
    idle_seconds: float
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """One provider as status views show it. One that was never asked for has no row yet: it is cold."""

    provider: str
    state: State
    held: bool
    """Stopped by an operator until it is started."""
    instances: tuple[InstanceStatus, ...]
    era: Era | None
    in_flight: int
    starts: int
    restarts: int
    failures: int
    retry_after: float
    """Seconds until the next start may be tried; 0: at once."""
    last_error: str
    refused: int
    """Messages dropped so far (junk on stdout, unknown ids)."""


def status(pool: Pool, now: float, held: bool) -> ProviderStatus:
    instances = sorted(pool.live, key=lambda instance: instance.since)
    setbacks = [pool.setbacks, *(place.setbacks for place in pool.places.values())]
    worst = max(setbacks, key=lambda each: each.until)
    return ProviderStatus(
        provider=pool.provider.name,
        state=shown(place.state for place in pool.places.values()),
        held=held,
        instances=tuple(
            InstanceStatus(
                id=instance.id,
                caller=instance.key.caller,
                state=instance.state,
                era=instance.era,
                version=instance.version,
                wire=instance.wire,
                in_flight=instance.in_flight,
                pinned=instance.pinned,
                up_seconds=max(0.0, now - instance.since),
                idle_seconds=max(0.0, now - instance.last_used),
                refused=instance.connection.refused,
            )
            for instance in instances
        ),
        era=pool.era,
        in_flight=sum(instance.in_flight for instance in (*instances, *pool.leaving)),
        starts=pool.starts,
        restarts=pool.restarts,
        failures=max(each.failures for each in setbacks),
        retry_after=max(0.0, worst.until - now),
        last_error=pool.last_error,
        refused=pool.refusals.total,
    )
