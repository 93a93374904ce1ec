# SPDX-License-Identifier: MIT
"""Tasks in both dialects, each with a provider that speaks it: the task is found again, and only by who began it."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from tests.conftest import Node
from tests.house import fixture_server, house, remote_provider, subprocess_provider
from tests.journeys.wire import Answer, Json, LegacyWire, ModernWire, Wire

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
EXTENSION: Json = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


async def finished(wire: Wire, task: str) -> Answer:
    until = time.monotonic() + 60
    answer = await wire.ask("tasks/get", {"taskId": task})
    while answer.result["status"] not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < until, answer
        await anyio.sleep(0.2)
        answer = await wire.ask("tasks/get", {"taskId": task})
    return answer


async def test_a_modern_task_is_followed_to_its_result_and_is_nobody_elses(tmp_path: Path) -> None:
    with (
        fixture_server(tmp_path, "modern") as one,
        fixture_server(tmp_path, "modern") as two,
        house(tmp_path, {"one": remote_provider(one), "two": remote_provider(two)}) as hangar,
    ):
        async with ModernWire(hangar.url, capabilities=EXTENSION) as wire:
            begun = {
                name: (await wire.call(f"{name}__slow_compute", {"seconds": 0.5, "label": name})).result["taskId"]
                for name in ("one", "two")
            }
            for name, task in begun.items():
                answer = await finished(wire, task)
                assert answer.result["result"]["content"][0]["text"] == f"computed {name}"
                assert answer.result["taskId"] == task
            forged = await wire.ask("tasks/get", {"taskId": "nobody-s-task"})
            assert forged.message["error"]["code"] == -32602
            long = (await wire.call("one__slow_compute", {"seconds": 300})).result["taskId"]
            await wire.ask("tasks/cancel", {"taskId": long})
            assert (await finished(wire, long)).result["status"] == "cancelled"
        async with ModernWire(hangar.url) as without:
            refused = await without.ask("tasks/get", {"taskId": begun["one"]})
            assert refused.message["error"]["code"] == -32021
        names = {record["method"] for record in hangar.audit("call.admitted")}
    assert {"tools/call", "tasks/get", "tasks/cancel"} <= names


@pytest.mark.node
async def test_a_legacy_task_of_a_strangers_server_is_followed_to_its_result(node: Node, tmp_path: Path) -> None:
    provider = subprocess_provider([*node.package("mcp-server-everything"), "stdio"])
    declared: Json = {"tasks": {"list": {}, "cancel": {}, "requests": {}}}
    with house(tmp_path, {"everything": provider}) as hangar:
        async with LegacyWire(hangar.url, capabilities=declared) as wire:
            begun = await wire.call("everything__simulate-research-query", {"topic": "hangars"}, task={"ttl": 60000})
            task = begun.result["task"]["taskId"]
            assert (await finished(wire, task)).result["status"] == "completed"
            told = await wire.ask("tasks/result", {"taskId": task})
            assert "Research Report: hangars" in told.text
