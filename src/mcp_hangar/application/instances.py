# SPDX-License-Identifier: MIT
"""Live instances of providers: started when the first call needs them, ended when nobody does.

The call path reads `warm` and nothing else; everything below runs when that look-up misses, or off the path.

- *Single flight.* One task starts an instance, however many wait for it. Whoever waits may give up; the start goes on
  and what it brought up is kept.
- *No herd, no pile.* After a failure the next start waits out a backoff. Instances that are live, coming or going never
  outnumber `limits.instances`: at the limit the longest idle one ends first, and only then the new one is launched.
- *Crashes are told, not polled.* The connection says that it is over; the instance is out of `warm` before anything
  else runs.

Everything is on one event loop: a block without `await` is atomic, and that is all the locking there is.
"""

from __future__ import annotations

import asyncio
import math
import random as randomness
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

import structlog

from mcp_hangar.application.launching import Arrival, Ears, Hearing, bring_up
from mcp_hangar.application.pool import Instance, InstanceKey, Place, Pool, as_start_failed, key_of
from mcp_hangar.application.ports.connection import Connection
from mcp_hangar.application.ports.launcher import Launcher
from mcp_hangar.application.provider_status import InstanceStatus, ProviderStatus, status
from mcp_hangar.domain.errors import (
    CallCancelled,
    Denied,
    HangarError,
    ProviderDied,
    SessionExpired,
    StartFailed,
    Unavailable,
)
from mcp_hangar.domain.events import Event
from mcp_hangar.domain.health import Health, Verdict
from mcp_hangar.domain.lifecycle import Happening, State
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Mode, Provider

__all__ = ["Instance", "InstanceKey", "InstanceStatus", "Instances", "ProviderStatus"]

log = structlog.get_logger(__name__)

_DRAIN_STEP: Final = 0.02

T = TypeVar("T")
OnMessage = Callable[[Instance, Message], None]
OnReady = Callable[[Instance], None]
OnGone = Callable[[Instance, HangarError | None], None]


class Instances:
    """All live instances. `record` takes events; the hooks are called on the loop and must neither block nor raise:
    `on_message` for what a provider says unasked (its pings are answered here), `on_ready` before the first call,
    `on_gone` once an instance is out of use (with what ended it, if it ended by itself)."""

    def __init__(
        self,
        launchers: Mapping[Mode, Launcher],
        record: Callable[[Event], None],
        *,
        on_message: OnMessage = lambda instance, message: None,
        on_ready: OnReady = lambda instance: None,
        on_gone: OnGone = lambda instance, error: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self.warm: dict[InstanceKey, Instance] = {}
        """Ready and degraded ones. The call path reads it directly."""
        self._launchers = launchers
        self._record = record
        self.on_message = on_message
        self.on_ready = on_ready
        self.on_gone = on_gone
        self._clock = clock
        self._wall = wall
        self._random = random
        self._pools: dict[str, Pool] = {}
        self._conversations: dict[str, set[InstanceKey]] = {}
        self._eras: dict[str, Era] = {}
        self._held: set[str] = set()
        self._stopping = False
        self._hurry = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- what the call path reads

    def key(self, provider: Provider, caller: str, capabilities: str, conversation: str) -> InstanceKey:
        return key_of(provider, self._eras.get(provider.name), caller, capabilities, conversation)

    def era(self, provider: str) -> Era | None:
        """What the provider was found to speak; None before its first start."""
        return self._eras.get(provider)

    # -- getting one

    async def ready(self, provider: Provider, key: InstanceKey, deadline: float) -> Instance:
        """The instance for `key`, started if need be; its own key may be narrower, once the era is known.

        `deadline` is on the loop's clock. Raises `StartFailed`, `Denied` (limits.instances) or `Unavailable`.
        """
        asked = key
        pool = self._pool(provider)
        now = asyncio.get_running_loop().time
        while True:
            key = pool.narrow(asked)
            instance = self.warm.get(key)
            if instance is not None:
                return instance
            self._refuse_if_stopped(provider.name)
            place = pool.place(key)
            place.waiting += 1
            try:
                starting = place.starting or pool.finding_out()
                if starting is None:
                    wait = pool.wait(place, self._clock())
                    if wait > 0:
                        if now() + wait >= deadline:
                            raise pool.not_yet(place, wait)
                        await asyncio.sleep(wait)
                        continue
                    starting = self._begin(pool, place)
                # Neither ends the other: a waiter may be cancelled, and so may the start.
                await asyncio.wait({starting}, timeout=max(0.0, deadline - now()))
                outcome = self._outcome(pool, place, starting)
                if outcome is not None and self.warm.get(outcome.key) is outcome and pool.narrow(asked) == outcome.key:
                    return outcome
            finally:
                place.waiting -= 1
                pool.tidy(place)

    async def renew(self, instance: Instance) -> Instance:
        """After `SessionExpired`: leave the stale session and open one under the same key. Many may ask at once; the
        first ends it, all get the same new one."""
        pool = self._pools[instance.provider.name]
        if self.warm.get(instance.key) is instance:
            self._session_lost(pool, instance)
        deadline = asyncio.get_running_loop().time() + instance.provider.lifecycle.start_timeout
        return await self.ready(pool.provider, instance.key, deadline)

    # -- ending them

    async def start(self, name: str) -> None:
        """Lift the hold, and let the next call try at once. Providers start when they are needed."""
        self._held.discard(name)
        if pool := self._pools.get(name):
            pool.setbacks.clear()
            for place in pool.places.values():
                place.setbacks.clear()

    async def stop(self, name: str, held: bool = True) -> None:
        """End all instances of a provider; calls in flight have `lifecycle.stop_grace` to finish. With `held` no call
        starts it again until `start`."""
        if held:
            self._held.add(name)
        if pool := self._pools.get(name):
            await self._stopped([pool])

    async def drain(self) -> None:
        """Take no new calls, finish those in flight within their providers' `stop_grace`, end everything."""
        self._stopping = True
        await self._stopped(list(self._pools.values()))

    async def close(self) -> None:
        """End everything at once. Bounded by what the launchers need to end a process for good."""
        self._stopping = self._hurry = True
        for pool in self._pools.values():
            self._stop(pool)
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def forget(self, conversation: str) -> None:
        """A downstream conversation is over: end what belongs to it alone."""
        if not conversation:
            return
        for key in list(self._conversations.get(conversation, ())):
            pool = self._pools[key.provider]
            place = pool.places[key]
            place.forgotten = True
            place.setbacks.clear()
            if place.starting is not None:
                place.starting.cancel()
            if place.instance is not None:
                self._retire(pool, place.instance, Happening.ended, None, reason="session over", drain=True)
            if place.state is State.dead:
                pool.move(place, Happening.ended, "", "session over")
            pool.tidy(place)

    # -- what background.py starts

    async def run(self, every: float = 1.0) -> None:
        """The loop of idle shutdown; `server/bootstrap/background.py` starts it, and cancels it at the end."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sweep_once(self._clock())
            except Exception:
                log.exception("sweeping instances failed; it goes on")

    async def sweep_once(self, now: float) -> None:
        """End what is idle, forgive what stayed up, forget old setbacks, tell of refused messages."""
        for pool in self._pools.values():
            ttl = pool.provider.lifecycle.idle_ttl
            for place in list(pool.places.values()):
                instance = place.instance
                if instance is not None:
                    pool.forgive(place, instance, now)
                    if ttl > 0 and place.idle and now - instance.last_used >= ttl:
                        self._retire(pool, instance, Happening.ended, None, reason="idle")
                elif place.state is State.dead and place.starting is None and not place.waiting:
                    pool.forget_failure(place, now)
            pool.tell_refusals(now)

    # -- what probing finds

    def judged(self, instance: Instance, health: Health) -> None:
        """Take over what probing concluded. One declared dead is closed, and the next call starts another."""
        instance.health = health
        pool = self._pools[instance.provider.name]
        place = pool.places.get(instance.key)
        if place is None or place.instance is not instance:
            return
        match health.verdict:
            case Verdict.healthy:
                pool.move(place, Happening.recovered, instance.id)
            case Verdict.unhealthy:
                pool.move(place, Happening.sickened, instance.id, f"{health.misses} probes unanswered")
            case Verdict.dead:
                error = ProviderDied(
                    "provider_died",
                    provider=instance.provider.name,
                    detail=f"Nothing was heard of it for {health.silence} probes in a row, so it was given up.",
                )
                self._lost(pool, instance, error)

    def session_lost(self, instance: Instance) -> None:
        """The provider no longer knows the session; the next call opens another."""
        self._session_lost(self._pools[instance.provider.name], instance)

    def snapshot(self) -> list[ProviderStatus]:
        now = self._clock()
        rows = [status(pool, now, name in self._held) for name, pool in self._pools.items()]
        return sorted(rows, key=lambda row: row.provider)

    def held(self, name: str) -> bool:
        return name in self._held

    # -- inside

    def _pool(self, provider: Provider) -> Pool:
        pool = self._pools.get(provider.name)
        if pool is None:
            pool = self._pools[provider.name] = Pool(
                provider, self._record, self._wall, self._random, self._conversations
            )
        pool.provider = provider
        return pool

    def _refuse_if_stopped(self, name: str) -> None:
        if self._stopping:
            raise Unavailable("stopping")
        if name in self._held:
            raise Unavailable("provider_stopped", provider=name)

    def _outcome(self, pool: Pool, place: Place, starting: asyncio.Task[Instance | HangarError]) -> Instance | None:
        """What a start brought; None to look again. Each waiter gets an exception of its own."""
        name = pool.provider.name
        if place.forgotten:
            raise CallCancelled("cancelled", detail="The client's session is over.")
        if not starting.done():
            raise StartFailed(
                "start_failed",
                provider=name,
                detail="It was not ready within the time of the call; its start goes on.",
                fix="Repeat the call; raise limits.call_timeout if this provider takes long to start.",
            )
        if starting.cancelled():
            return None
        outcome = starting.result()
        if isinstance(outcome, HangarError):
            raise type(outcome)(outcome.code, **outcome.facts)
        if outcome.error is not None:
            error = as_start_failed(name, outcome.error)
            raise StartFailed(error.code, **error.facts)
        return outcome

    def _begin(self, pool: Pool, place: Place) -> asyncio.Task[Instance | HangarError]:
        before = self._make_room(pool)
        pool.starts += 1
        pool.restarts += place.setbacks.failures > 0 or pool.setbacks.failures > 0
        id = f"{pool.provider.name}-{pool.starts}"
        pool.move(place, Happening.launched, id)
        place.starting = self._spawn(self._start(pool, place, id, before), f"start of {id}")
        return place.starting

    def _make_room(self, pool: Pool) -> asyncio.Task[None] | None:
        """Make sure that one more may start; what is answered must have ended before it does."""
        limit = pool.provider.limits.instances
        if pool.taken < limit:
            return None
        if not any(pool.closing.values()):
            idle = [place.instance for place in pool.places.values() if place.idle and place.instance is not None]
            if not idle:
                raise Denied("limit", limit="limits.instances", value=limit, provider=pool.provider.name)
            longest = min(idle, key=lambda instance: instance.last_used)
            self._retire(pool, longest, Happening.ended, None, reason="made room")
        # Its place goes to the one who waits for it, and to nobody else.
        task = next(task for task, counts in pool.closing.items() if counts)
        pool.closing[task] = False
        return task

    async def _start(
        self, pool: Pool, place: Place, id: str, before: asyncio.Task[None] | None
    ) -> Instance | HangarError:
        connection: Connection | None = None
        try:
            if before is not None:
                await asyncio.wait({before})
            arrival = await bring_up(
                self._launchers[pool.provider.mode],
                pool.provider,
                id,
                wire=pool.wire if pool.proven else "",
                era=pool.era if pool.proven else None,
                capabilities=place.key.capabilities,
                listen=lambda connection: Ears(connection, pool.provider.name, self._hearing(pool)),
                leave=lambda connection: self._close_later(pool, None, connection, id),
            )
            connection = arrival.connection
            instance = self._welcome(pool, place, id, arrival)
            if instance.connection is connection:
                connection = None
            return instance
        except asyncio.CancelledError:
            if before in pool.closing:
                pool.closing[before] = True
            pool.move(place, Happening.ended, id)
            raise
        except HangarError as error:
            return pool.start_failed(place, id, error, self._clock())
        except Exception as error:
            # The waiters and the backoff depend on an outcome, whatever an adapter does.
            log.exception("starting a provider failed unexpectedly", provider=pool.provider.name, instance=id)
            fix = "This is a defect in Hangar; its log has the details."
            detail = f"{type(error).__name__} in Hangar."
            unexpected = StartFailed("start_failed", provider=pool.provider.name, detail=detail, fix=fix)
            return pool.start_failed(place, id, unexpected, self._clock())
        finally:
            if connection is not None:
                self._close_later(pool, None, connection, id)
            place.starting = None
            pool.tidy(place)

    def _welcome(self, pool: Pool, place: Place, id: str, arrival: Arrival) -> Instance:
        """The instance enters service. Another one answers instead if it turns out to stand for the same key."""
        provider, handshake = pool.provider, arrival.handshake
        if arrival.ears.lost is not None:
            raise arrival.ears.lost
        flipped = pool.era is Era.modern and handshake.era is Era.legacy
        pool.era = self._eras[provider.name] = handshake.era
        pool.wire, pool.proven = arrival.wire, True
        if flipped:
            # The key was made for a provider that keeps no state: several callers may be waiting under it.
            detail = "It speaks the legacy era now; this call was prepared for the modern one, which it spoke before."
            raise StartFailed("start_failed", provider=provider.name, detail=detail, fix="Repeat the call.")
        key = pool.narrow(place.key)
        if twin := self.warm.get(key):
            pool.move(place, Happening.ended, id)
            return twin
        if key != place.key:
            pool.rename(place, key)
        now = self._clock()
        instance = Instance(
            id=id,
            key=key,
            provider=provider,
            connection=arrival.connection,
            wire=arrival.wire,
            era=handshake.era,
            version=handshake.version,
            capabilities=handshake.capabilities,
            info=handshake.info,
            instructions=handshake.instructions,
            since=now,
            last_used=now,
            last_heard=now,
            probed=now,
        )
        place.instance = self.warm[key] = instance
        pool.move(place, Happening.answered, id)
        self.on_ready(instance)
        arrival.ears.belong_to(instance)
        return instance

    def _lost(self, pool: Pool, instance: Instance, error: HangarError) -> None:
        """An instance ended by itself."""
        place = pool.places.get(instance.key)
        if place is None or place.instance is not instance:
            return
        pool.crashed(place, instance, error, self._clock())
        self._retire(pool, instance, Happening.died, error, reason=error.code)

    def _session_lost(self, pool: Pool, instance: Instance) -> None:
        error = SessionExpired("session_expired", provider=pool.provider.name)
        # The session is gone upstream already, so it takes nobody's place; and the caller who asks to renew it still
        # counts as in flight on it.
        self._retire(pool, instance, Happening.ended, error, reason=error.code, drain=True, vacate=True)

    def _retire(
        self,
        pool: Pool,
        instance: Instance,
        happening: Happening,
        error: HangarError | None,
        *,
        reason: str = "",
        drain: bool = False,
        vacate: bool = False,
    ) -> None:
        """Out of use at once; then close it, after the calls in flight if `drain`."""
        place = pool.places.get(instance.key)
        if place is None or place.instance is not instance:
            return
        if self.warm.get(instance.key) is instance:
            del self.warm[instance.key]
        pool.move(place, happening, instance.id, reason)
        place.instance = None
        finishing = drain and instance.in_flight > 0
        if finishing:
            pool.leaving.add(instance)
        if error is not None or not finishing:
            self.on_gone(instance, error)
        self._close_later(pool, instance if finishing else None, instance.connection, instance.id, error, vacate)
        pool.tidy(place)

    def _close_later(
        self,
        pool: Pool,
        leaving: Instance | None,
        connection: Connection,
        id: str,
        error: HangarError | None = None,
        vacate: bool = False,
    ) -> asyncio.Task[None]:
        task = self._spawn(self._close(pool, leaving, connection, id, error), f"end of {id}")
        pool.closing[task] = not vacate
        task.add_done_callback(pool.closing.pop)
        return task

    async def _close(
        self, pool: Pool, leaving: Instance | None, connection: Connection, id: str, error: HangarError | None
    ) -> None:
        grace = pool.provider.lifecycle.stop_grace
        if leaving is not None:
            for _ in range(math.ceil(grace / _DRAIN_STEP)):
                if self._hurry or not leaving.in_flight:
                    break
                await asyncio.sleep(_DRAIN_STEP)
            pool.leaving.discard(leaving)
            if error is None:
                self.on_gone(leaving, None)
        try:
            async with asyncio.timeout(2 * grace + 5):
                await connection.close()
        except TimeoutError:
            log.error("an instance did not end in time", provider=pool.provider.name, instance=id)
        except HangarError as failure:
            log.warning("ending an instance failed", provider=pool.provider.name, instance=id, error=str(failure))

    def _stop(self, pool: Pool) -> list[asyncio.Task[Any]]:
        """Begin to end everything of it; what is answered are the starts that were cut short."""
        cut = [place.starting for place in pool.places.values() if place.starting is not None]
        for task in cut:
            task.cancel()
        for place in list(pool.places.values()):
            if place.instance is not None:
                self._retire(pool, place.instance, Happening.ended, None, reason="stopped", drain=True)
        return cut

    async def _stopped(self, pools: list[Pool]) -> None:
        cut = [task for pool in pools for task in self._stop(pool)]
        if cut:
            await asyncio.wait(cut)
        closing = [task for pool in pools for task in pool.closing]
        if closing:
            await asyncio.wait(closing)

    def _hearing(self, pool: Pool) -> Hearing:
        return Hearing(
            on_message=self._heard,
            on_lost=lambda instance, error: self._lost(pool, instance, error),
            on_session_lost=lambda instance: self._session_lost(pool, instance),
            on_refused=lambda reason: pool.refused(reason, self._clock()),
            spawn=self._spawn,
        )

    def _heard(self, instance: Instance, message: Message) -> None:
        instance.last_heard = self._clock()
        self.on_message(instance, message)

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
