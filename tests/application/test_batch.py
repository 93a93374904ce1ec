# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.application.batch import run_batch
from mcp_hangar.domain.errors import CallTimeout

pytestmark = pytest.mark.anyio


def late(item: int, error: CallTimeout) -> str:
    return f"late {item}: {error.code}"


async def test_results_come_in_the_order_of_the_items_whichever_ends_first() -> None:
    gates = [asyncio.Event() for _ in range(4)]

    async def perform(item: int) -> str:
        if item:
            await gates[item].wait()
        gates[(item - 1) % 4].set()  # each ends after the next one
        return str(item)

    assert await run_batch(range(4), perform, at_once=4, seconds=30, late=late) == ["0", "1", "2", "3"]
    assert await run_batch([], perform, at_once=4, seconds=30, late=late) == []


@given(st.integers(0, 20), st.integers(1, 6))
def test_no_more_run_at_once_than_allowed(items: int, at_once: int) -> None:
    running: set[int] = set()
    most = 0

    async def perform(item: int) -> str:
        nonlocal most
        running.add(item)
        most = max(most, len(running))
        for _ in range(3):
            await asyncio.sleep(0)
        running.remove(item)
        return ""

    asyncio.run(run_batch(range(items), perform, at_once=at_once, seconds=30, late=late))
    assert most == min(items, at_once)


async def test_one_that_takes_too_long_is_cancelled_and_the_others_are_not() -> None:
    cancelled: list[int] = []

    async def perform(item: int) -> str:
        if item == 1:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
        return "done"

    results = await run_batch(range(3), perform, at_once=2, seconds=0.01, late=late)
    assert results == ["done", "late 1: batch_timeout", "done"]
    assert cancelled == [1]


async def test_each_has_its_own_time_and_waiting_for_a_slot_is_not_counted() -> None:
    async def perform(item: int) -> str:
        if item == 0:
            await asyncio.get_running_loop().create_future()
        return "done"

    results = await run_batch(range(3), perform, at_once=1, seconds=0.05, late=late)
    assert results == ["late 0: batch_timeout", "done", "done"]


async def test_a_timeout_of_somebody_else_is_not_taken_for_ours() -> None:
    async def perform(item: int) -> str:
        raise TimeoutError("a socket's")

    with pytest.raises(ExceptionGroup) as ended:
        await run_batch([1], perform, at_once=1, seconds=30, late=late)
    assert ended.group_contains(TimeoutError, match="a socket's")


async def test_a_cancelled_batch_leaves_nothing_running() -> None:
    started, ended = asyncio.Event(), []

    async def perform(item: int) -> str:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(item)
        return ""

    batch = asyncio.create_task(run_batch(range(5), perform, at_once=2, seconds=30, late=late))
    await started.wait()
    await asyncio.sleep(0)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert sorted(ended) == [0, 1]
