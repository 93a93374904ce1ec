# SPDX-License-Identifier: MIT
"""Hangar's own tools, called as agents call them: what they show, what they start, and what they never do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.domain.mcp.eras import Era
from tests.inside import CONTENT, a_server, inside
from tests.journeys.wire import LegacyWire, ModernWire, client

pytestmark = pytest.mark.anyio
READ = ["hangar_health", "hangar_invoke", "hangar_status", "hangar_tools"]
ALL: dict[str, Any] = {"expose": {"hangar_tools": "all"}}


async def said(wire: ModernWire | LegacyWire, tool: str, **arguments: Any) -> Any:
    result = (await wire.call(tool, arguments)).result
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"], "both say the same"
    return result["structuredContent"]


def texts(results: list[dict[str, Any]]) -> list[str]:
    return [
        each["result"]["content"][0]["text"] if "result" in each else each["error"]["data"]["code"] for each in results
    ]


@pytest.mark.parametrize(
    ("setting", "offered"), [("none", []), ("read", READ), ("all", sorted([*READ, "hangar_start", "hangar_stop"]))]
)
async def test_what_is_offered_is_what_the_setting_says_and_nothing_else_can_be_called(
    tmp_path: Path, setting: str, offered: list[str]
) -> None:
    async with inside(tmp_path, expose={"hangar_tools": setting}) as house, ModernWire(house.url) as wire:
        listed = [name for name in await wire.tools() if name.startswith("hangar_")]
        assert sorted(listed) == offered
        for name in {*READ, "hangar_start", "hangar_stop"} - set(offered):
            answer = await wire.call(name, {"provider": "time", "calls": [{"tool": "time__echo"}]})
            assert answer.message["error"]["data"]["code"] == "unknown_tool"
        prompt = await wire.ask("prompts/get", {"name": "hangar__status"})
        assert prompt.message["error"]["data"]["code"] == "unknown_prompt"
        assert [connection.provider for connection in house.launcher.open] == ["time"], "nothing else was started"


async def test_a_door_of_one_provider_has_no_tools_of_hangar(tmp_path: Path) -> None:
    async with inside(tmp_path, **ALL) as house, ModernWire(f"{house.url}/time") as wire:
        assert not [name for name in await wire.tools() if name.startswith("hangar_")]
        assert (await wire.call("hangar_status")).message["error"]["data"]["code"] == "unknown_tool"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_results_come_in_the_order_of_the_calls_and_one_failure_fails_one(tmp_path: Path, era: str) -> None:
    async with inside(tmp_path) as house, client(era, house.url) as wire:
        calls: list[Any] = [
            {"tool": "time__echo", "arguments": {"text": "first"}},
            {"tool": "time__wrong"},
            {"tool": "nobody__echo"},
            {"tool": "time__fails"},
            {"tool": "time__nothing"},
            {"tool": "hangar_invoke", "arguments": {"calls": []}},
            {"tool": "time__echo", "surprise": 1},
            {"tool": 7},
            "nonsense",
            {"tool": "time__echo", "arguments": {"text": "last"}},
        ]
        results = (await said(wire, "hangar_invoke", calls=calls))["results"]
        assert len(results) == len(calls)
        assert results[0]["result"]["content"][0]["text"] == "first"
        assert results[1]["error"]["code"] == -32050
        assert results[3]["result"]["isError"] is True
        assert results[9]["result"]["content"][0]["text"] == "last"
        assert [each["error"]["data"]["code"] for each in (results[2], results[4], results[5], results[6])] == [
            "unknown_tool",
            "unknown_tool",
            "unknown_tool",
            "invalid_params",
        ]
        assert all("error" in each for each in results[7:9])
        ends = await house.all_over()
        assert sorted(end["name"] for end in ends) == ["echo", "echo", "fails", "hangar_invoke", "wrong"]
        assert results[0]["call"] in {end["call_id"] for end in ends}


async def test_a_call_over_its_time_fails_alone_and_its_record_says_timeout(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        await wire.call("time__echo")
        calls = [{"tool": "time__silent"}, {"tool": "time__echo"}]
        results = (await said(wire, "hangar_invoke", calls=calls, timeout=1.5))["results"]
        assert "error" in results[0] and results[1]["result"]["content"][0]["text"] == "hi"
        ends = {end["name"]: end for end in await house.all_over()}
        assert ends["silent"]["reason"] == "timeout"
        assert house.connection.exchanges[await house.asked("silent")].failed is not None


async def test_calls_in_a_batch_cannot_ask_the_client(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities={"elicitation": {}}) as wire:
        arguments = {"calls": [{"tool": "time__asks"}], "timeout": 5}
        calling = asyncio.create_task(said(wire, "hangar_invoke", **arguments))
        await house.asked("asks")
        told = await house.connection.posted_one(lambda message: message.get("id") == 77)
        assert "error" in told
        house.connection.answer(house.connection.last, {"result": CONTENT})
        assert texts((await calling)["results"]) == ["hi"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"calls": []},
        {"calls": {}},
        {"calls": [{"tool": "time__echo"}] * 1000},
        {"calls": [{"tool": "time__echo"}], "timeout": 0},
        {"calls": [{"tool": "time__echo"}], "timeout": 301},
        {"calls": [{"tool": "time__echo"}], "timeout": True},
        {"calls": [{"tool": "time__echo"}], "timeout": "1"},
    ],
)
async def test_a_batch_of_another_shape_is_refused_whole(tmp_path: Path, arguments: dict[str, Any]) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        answer = await wire.call("hangar_invoke", arguments)
        assert answer.message["error"]["code"] == -32602
        assert not house.launcher.launched


async def test_a_denied_tool_is_as_unknown_in_a_batch_as_it_is_by_itself(tmp_path: Path) -> None:
    provider = {"tools": {"deny": ["echo"]}}
    async with inside(tmp_path, provider=provider) as house, ModernWire(house.url) as wire:
        alone = (await wire.call("time__echo")).message["error"]
        (inside_,) = (await said(wire, "hangar_invoke", calls=[{"tool": "time__echo"}]))["results"]
        assert inside_["error"] == alone
        found = await said(wire, "hangar_tools")
        assert "time__echo" not in [tool["tool"] for tool in found["tools"]]


async def test_tools_are_found_by_words_and_by_provider(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        everything = await said(wire, "hangar_tools")
        assert everything["total"] == 7 and everything["missing"] == []
        assert all(tool["inputSchema"] == {"type": "object"} for tool in everything["tools"])
        found = await said(wire, "hangar_tools", query="ECHO", schemas=False)
        assert [(tool["tool"], "inputSchema" in tool) for tool in found["tools"]] == [("time__echo", False)]
        nobody = await wire.call("hangar_tools", {"provider": "nobody"})
        assert nobody.message["error"]["data"]["code"] == "unknown_provider"
        odd = await wire.call("hangar_tools", {"surprise": 1})
        assert odd.message["error"]["code"] == -32602


async def test_status_and_health_tell_how_providers_fare(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        (cold,) = (await said(wire, "hangar_status"))["providers"]
        assert (cold["provider"], cold["state"], cold["instances"]) == ("time", "cold", 0)
        await wire.call("time__echo")
        (warm,) = (await said(wire, "hangar_status"))["providers"]
        assert (warm["state"], warm["instances"], warm["stopped"]) == ("ready", 1, False)
        assert (await said(wire, "hangar_health")) == {"healthy": True, "unhealthy_providers": []}


async def test_a_stopped_provider_stays_stopped_until_it_is_started(tmp_path: Path) -> None:
    async with inside(tmp_path, **ALL) as house, ModernWire(house.url) as wire:
        await wire.call("time__echo")
        assert await said(wire, "hangar_stop", provider="time") == {"provider": "time", "stopped": True}
        assert not house.launcher.open
        refused = await wire.call("time__echo")
        assert refused.message["error"]["data"]["code"] == "provider_stopped"
        (row,) = (await said(wire, "hangar_status"))["providers"]
        assert row["stopped"] is True
        await said(wire, "hangar_start", provider="time")
        assert (await wire.call("time__echo")).text == "hi"
        unknown = await wire.call("hangar_stop", {"provider": "hangar"})
        assert unknown.message["error"]["data"]["code"] == "unknown_provider"
        await house.all_over()


async def test_every_use_of_them_is_a_recorded_call_of_its_own(tmp_path: Path) -> None:
    async with inside(tmp_path, a_server(Era.modern)) as house, ModernWire(house.url) as wire:
        for name in ("hangar_tools", "hangar_status", "hangar_health"):
            await said(wire, name)
        assert [(end["provider"], end["name"]) for end in await house.all_over()] == [
            ("hangar", "hangar_tools"),
            ("hangar", "hangar_status"),
            ("hangar", "hangar_health"),
        ]
