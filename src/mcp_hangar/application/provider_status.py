# SPDX-License-Identifier: MIT
"""Providers and their instances as status views show them: frozen rows, read from the bookkeeping at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_hangar.application.pool import Pool
from mcp_hangar.domain.lifecycle import State, shown
from mcp_hangar.domain.mcp.eras import Era


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
