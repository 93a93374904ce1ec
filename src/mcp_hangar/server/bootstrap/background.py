# SPDX-License-Identifier: MIT
"""Every loop that runs beside the calls, by name. Nothing else starts one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import structlog

from mcp_hangar.server.bootstrap.wiring import House

log = structlog.get_logger(__name__)

DEADLINES_EVERY: Final = 0.25
SESSIONS_EVERY: Final = 5.0
KEEPALIVE_EVERY: Final = 3.0
HELD_EVERY: Final = 5.0


def loops(house: House) -> Iterator[asyncio.Task[None]]:
    """Start them; the caller cancels them at the end."""

    def sweep_sessions() -> None:
        house.sessions.sweep()
        house.questions.sweep()

    for name, work in (
        ("drain the event log", house.log.drain()),
        ("idle shutdown", house.instances.run()),
        ("health", house.prober.run()),
        ("deadlines", every(DEADLINES_EVERY, house.proxy.sweep)),
        ("sessions", every(SESSIONS_EVERY, sweep_sessions)),
    ):
        yield asyncio.create_task(work, name=name)


async def every(seconds: float, work: Callable[[], Awaitable[None] | None]) -> None:
    """Again and again; an error is logged and the loop goes on, since others depend on it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            done = work()
            if done is not None:
                await done
        except Exception:
            log.exception("loop_failed", loop=getattr(work, "__qualname__", str(work)))
