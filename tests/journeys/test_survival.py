# SPDX-License-Identifier: MIT
"""Crowds, crashes and clients that vanish; told by what the kernel still has running."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import anyio
import pytest

from tests.conftest import Node, RealServers
from tests.house import House, fixture_command, fixture_server, house, remote_provider, subprocess_provider
from tests.journeys.wire import ModernWire, Wire, client
from tests.processes import cpu_seconds, descendants, marked, wait_until_gone, wait_until_none_lives

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CROWD = 1000
VANISHING = 200
WINDOW = 3.0


async def test_a_thousand_simultaneous_first_calls_start_one_process(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    counted = ["sh", "-c", 'echo $$ >> "$0"; exec "$@"', str(starts), *fixture_command("--transport", "stdio")]
    provider = subprocess_provider(counted, limits={"concurrency": 2 * CROWD, "call_timeout": "200s"})
    answered: set[int] = set()
    with house(tmp_path, {"fixture": provider}) as hangar:
        async with ModernWire(hangar.url) as wire:

            async def call(number: int) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", hangar.port)
                asked = {"name": "fixture__greet", "arguments": {"name": f"caller {number}"}}
                writer.write(wire.raw("tools/call", asked, number))
                if f"Hello, caller {number}!".encode() in await reader.read():
                    answered.add(number)
                writer.close()
                await writer.wait_closed()

            async with anyio.create_task_group() as group:
                for number in range(CROWD):
                    group.start_soon(call, number)
    assert answered == set(range(CROWD))
    assert len(starts.read_text().split()) == 1


@pytest.mark.node
async def test_killing_hangar_leaves_no_process_of_any_provider(
    node: Node, real_servers: RealServers, tmp_path: Path
) -> None:
    everything = [*node.package("mcp-server-everything"), "stdio"]
    # As npx does it, and worse: the server is a grandchild, and a cousin has a session of its own.
    nested = ["sh", "-c", 'setsid sleep 1000 & "$@"; true', "sh", *everything]
    providers = {
        "time": subprocess_provider([real_servers.time]),
        "everything": subprocess_provider(everything),
        "nested": subprocess_provider(nested),
    }
    with house(tmp_path, providers) as hangar:
        async with ModernWire(hangar.url) as wire:
            assert "UTC" in (await wire.call("time__get_current_time", {"timezone": "UTC"})).text
            assert "a" in (await wire.call("everything__echo", {"message": "a"})).text
            assert "b" in (await wire.call("nested__echo", {"message": "b"})).text
        alive = marked(hangar.mark)
        assert len(alive) >= 5
        below = descendants(hangar.pid)
        hangar.running.kill()
        assert wait_until_gone(hangar.mark) == []
        assert wait_until_none_lives(below) == []


@pytest.mark.node
async def test_stopping_hangar_ends_its_providers_and_itself(node: Node, tmp_path: Path) -> None:
    nested = ["sh", "-c", 'setsid sleep 1000 & "$@"; true', "sh", *node.package("mcp-server-everything"), "stdio"]
    with house(tmp_path, {"nested": subprocess_provider(nested, lifecycle={"stop_grace": "2s"})}) as hangar:
        async with ModernWire(hangar.url) as wire:
            assert "b" in (await wire.call("nested__echo", {"message": "b"})).text
        assert marked(hangar.mark)
        status = hangar.running.end()
    assert status == 0, hangar.running.said()
    assert marked(hangar.mark) == []


async def test_a_provider_killed_in_the_middle_of_a_call_fails_that_call_and_starts_again(tmp_path: Path) -> None:
    provider = subprocess_provider(
        fixture_command("--transport", "stdio"), lifecycle={"restart": {"backoff": "100ms..1s"}}
    )
    with house(tmp_path, {"fixture": provider}) as hangar:
        async with ModernWire(hangar.url) as wire:
            await wire.call("fixture__greet", {"name": "x"})
            results = []

            async def sleep() -> None:
                results.append(await wire.call("fixture__test_sleep", {"seconds": 300}))

            async with anyio.create_task_group() as group:
                group.start_soon(sleep)
                await until_sleeping(wire, "fixture__test_sleepers")
                for pid in marked(hangar.mark):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
            assert "error" in results[0].message or results[0].result["isError"]
            until = time.monotonic() + 60
            answer = await wire.call("fixture__greet", {"name": "again"})
            while "result" not in answer.message or answer.result.get("isError"):
                assert time.monotonic() < until, answer
                await anyio.sleep(0.1)
                answer = await wire.call("fixture__greet", {"name": "again"})
            assert answer.text == "Hello, again!"
        records = hangar.audit_until(lambda all: any(r["type"] == "call.failed" for r in all))
        assert next(r["reason"] for r in records if r["type"] == "call.failed") == "provider_died"


async def until_sleeping(wire: Wire, tool: str) -> None:
    until = time.monotonic() + 60
    while json.loads((await wire.call(tool)).text)["sleeping"] == 0:
        assert time.monotonic() < until
        await anyio.sleep(0.05)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_two_hundred_clients_that_vanish_leave_hangar_idle(tmp_path: Path, era: str) -> None:
    with (
        fixture_server(tmp_path, "dual") as fixture,
        house(tmp_path, {"fixture": remote_provider(fixture, limits={"concurrency": 1000})}) as hangar,
    ):
        async with client(era, hangar.url) as wire:
            await wire.call("fixture__greet", {"name": "x"})
            asked = {"name": "fixture__test_sleep", "arguments": {"seconds": 3}}
            crowd = []
            for number in range(VANISHING):
                _, writer = await asyncio.open_connection("127.0.0.1", hangar.port)
                writer.write(wire.raw("tools/call", asked, number))
                await writer.drain()
                crowd.append(writer)
            hangar.audit_until(lambda all: sum(r["type"] == "call.admitted" for r in all) > VANISHING)
            for writer in crowd:
                writer.transport.abort()
            ended = ("call.completed", "call.failed")
            hangar.audit_until(lambda all: sum(r["type"] in ended for r in all) > VANISHING, limit=60)
            await settle(hangar)
            before = cpu_seconds(hangar.pid)
            await anyio.sleep(WINDOW)  # the window that is measured
            spent = cpu_seconds(hangar.pid) - before
            assert spent < WINDOW / 4, f"{spent:.2f} s of CPU in {WINDOW:g} s without a call"
            assert (await wire.call("fixture__greet", {"name": "y"})).text == "Hello, y!"


async def settle(hangar: House) -> None:
    """Until Hangar's CPU time stands still for a moment, or for ten seconds."""
    last = cpu_seconds(hangar.pid)
    for _ in range(20):
        await anyio.sleep(0.5)
        now = cpu_seconds(hangar.pid)
        if now - last < 0.03:
            return
        last = now
