# SPDX-License-Identifier: MIT
"""Many calls in one: bounded at once, each with its own time, results in order, one failure fails one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from mcp_hangar.domain.errors import CallTimeout

T = TypeVar("T")
R = TypeVar("R")


async def run_batch(
    items: Sequence[T],
    perform: Callable[[T], Awaitable[R]],
    *,
    at_once: int,
    seconds: float,
    late: Callable[[T, CallTimeout], R],
) -> list[R]:
    """The results of `perform`, in the order of `items`. `late` says what stands for one that took over `seconds`.

    `perform` answers failures too: what it raises ends the batch. If the caller is cancelled, so are the calls under
    way.
    """
    slots = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with slots:
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    return await perform(item)
            except TimeoutError:
                if not limit.expired():
                    raise
                return late(item, CallTimeout("batch_timeout", seconds=seconds))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item), name=f"batch {number}") for number, item in enumerate(items)]
    return [task.result() for task in tasks]
