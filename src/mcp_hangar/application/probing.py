# SPDX-License-Identifier: MIT
"""The health loop: ask each instance the cheapest question of its era, now and then, and let `domain/health.py` judge.

Never `initialize`: a second one ends some servers. What a provider said by itself or answered to a call within the
interval spares it the question. A probe that is not answered in time stays open until the next one is due, so that a
late answer is told from none; there is never more than one open probe per instance, however long it hangs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from mcp_hangar.application.handshake import ask_discover, ask_ping, hear
from mcp_hangar.application.instances import Instance, Instances
from mcp_hangar.domain.errors import CallCancelled, HangarError, SessionExpired
from mcp_hangar.domain.health import Evidence, missed, weigh
from mcp_hangar.domain.mcp.eras import Era

log = structlog.get_logger(__name__)


class Prober:
    """Probes what is warm, and tells `Instances` what that says of it."""

    def __init__(self, instances: Instances, clock: Callable[[], float] = time.monotonic) -> None:
        self._instances = instances
        self._clock = clock
        self._open: dict[Instance, asyncio.Task[Evidence]] = {}
        """Probes not answered in time that may still be."""

    async def run(self, every: float = 1.0) -> None:
        """The loop; `server/bootstrap/background.py` starts it, and cancels it at the end."""
        try:
            while True:
                await asyncio.sleep(every)
                try:
                    await self.probe_once(self._clock())
                except Exception:
                    log.exception("probing instances failed; it goes on")
        finally:
            await self.close()

    async def probe_once(self, now: float) -> None:
        """Judge every instance whose interval is over. Lasts as long as the longest `health.timeout` among them."""
        for instance in [instance for instance in self._open if instance not in self._warm()]:
            await self._give_up(instance)
        due = [instance for instance in self._warm() if _due(instance, now)]
        if due:
            await asyncio.gather(*(self._judge(instance, now) for instance in due))

    async def close(self) -> None:
        for instance in list(self._open):
            await self._give_up(instance)

    def _warm(self) -> list[Instance]:
        return list(self._instances.warm.values())

    async def _judge(self, instance: Instance, now: float) -> None:
        instance.probed = now
        check = instance.provider.health
        if now - instance.last_heard < check.interval:
            await self._give_up(instance)
            evidence = Evidence.answered
        else:
            if await self._give_up(instance) is Evidence.answered:
                self._instances.judged(instance, weigh(instance.health, Evidence.late, check))
            evidence = await self._probe(instance, now)
        if self._instances.warm.get(instance.key) is instance:
            self._instances.judged(instance, weigh(instance.health, evidence, check))

    async def _probe(self, instance: Instance, now: float) -> Evidence:
        probe = asyncio.create_task(self._ask(instance), name=f"probe of {instance.id}")
        self._open[instance] = probe
        try:
            await asyncio.wait({probe}, timeout=instance.provider.health.timeout)
        except asyncio.CancelledError:
            await self._give_up(instance)
            raise
        if not probe.done():
            provider = instance.provider
            return missed(
                in_flight=instance.in_flight,
                unheard=now - max(instance.last_heard, instance.last_answer),
                call_timeout=provider.limits.call_timeout,
                interval=provider.health.interval,
            )
        del self._open[instance]
        return probe.result()

    async def _ask(self, instance: Instance) -> Evidence:
        """Whether it answered. An error is an answer; a connection that fails is none."""
        connection = instance.connection
        question = ask_discover() if instance.era is Era.modern else ask_ping()
        try:
            exchange = await connection.send(question)
            try:
                await hear(connection, exchange)
            finally:
                exchange.fail(CallCancelled("cancelled", detail="The probe is over."))
        except SessionExpired:
            # The provider answered, and no longer knows us: the next call opens another session.
            self._instances.session_lost(instance)
            return Evidence.answered
        except HangarError:
            return Evidence.silent
        instance.last_answer = self._clock()
        return Evidence.answered

    async def _give_up(self, instance: Instance) -> Evidence:
        """End an open probe; whether it was answered after all."""
        probe = self._open.pop(instance, None)
        if probe is None:
            return Evidence.silent
        probe.cancel()
        await asyncio.wait({probe})
        return Evidence.silent if probe.cancelled() else probe.result()


def _due(instance: Instance, now: float) -> bool:
    interval = instance.provider.health.interval
    return interval > 0 and now - instance.probed >= interval
