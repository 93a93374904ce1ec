# SPDX-License-Identifier: MIT
"""What each method means: what Hangar answers itself, what becomes a call, and whom unrelated messages reach."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.domain.errors import CallCancelled, CallTimeout
from mcp_hangar.domain.mcp.envelope import Raw
from mcp_hangar.domain.mcp.eras import LEGACY_VERSIONS, NEWEST_LEGACY, Era
from mcp_hangar.domain.mcp.request import Request
from mcp_hangar.server.asking import ask_session, take_response
from mcp_hangar.server.mcp_methods import client_name, known_in
from tests.inside import Inside, a_server, inside
from tests.journeys.wire import LegacyWire, ModernWire, client, messages

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("version", [*LEGACY_VERSIONS, "2030-01-01", "nonsense"])
async def test_initialize_agrees_on_the_version_asked_for_or_the_newest_legacy_one(
    tmp_path: Path, version: str
) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = await wire.http.post(
            house.url,
            json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
            headers={"accept": "application/json, text/event-stream"},
        )
        result = answer.json()["result"]
        assert result["protocolVersion"] == (version if version in LEGACY_VERSIONS else NEWEST_LEGACY)
        assert answer.headers["mcp-session-id"]


@pytest.mark.parametrize("params", [{}, {"protocolVersion": 7}, {"protocolVersion": ""}])
async def test_an_initialize_without_a_version_opens_nothing(tmp_path: Path, params: dict[str, Any]) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        answer = await wire.http.post(
            house.url,
            json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
            headers={"accept": "application/json, text/event-stream"},
        )
        assert answer.json()["error"]["code"] == -32602
        assert not house.house.sessions.all()


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_lists_are_filtered_as_calls_are_decided(tmp_path: Path, era: str) -> None:
    provider = {"tools": {"deny": ["f*"]}}
    async with inside(tmp_path, provider=provider) as house, client(era, house.url) as wire:
        listed = await wire.tools()
        assert "time__echo" in listed and "time__fails" not in listed
        for name in ("time__fails", "time__no_such", "nobody__echo", "echo", ""):
            refused = (await wire.call(name)).message["error"]
            assert refused["code"] == -32602
        events = await house.record("call.denied")
        assert {event["name"] for event in events} >= {"fails"}


async def test_a_modern_list_says_how_long_and_for_whom_it_holds(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        result = (await wire.ask("tools/list")).result
        assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
        assert result["ttlMs"] >= 0
        for cursor in ("", "made-up", 7):
            answer = await wire.ask("tools/list", {"cursor": cursor})
            assert answer.message["error"]["data"]["code"] == "invalid_cursor"


async def test_a_legacy_list_has_nothing_of_the_modern_era(tmp_path: Path) -> None:
    async with inside(tmp_path, a_server(Era.modern)) as house, LegacyWire(house.url) as wire:
        result = (await wire.ask("tools/list")).result
        assert not {"resultType", "ttlMs", "cacheScope"} & set(result)


async def test_a_log_level_must_be_one_and_belongs_to_the_session(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as one, LegacyWire(house.url) as other:
        assert (await one.ask("logging/setLevel", {"level": "loud"})).message["error"]["code"] == -32602
        assert (await one.ask("logging/setLevel", {"level": "error"})).result == {}
        levels = {session.id: session.log_level for session in house.house.sessions.all()}
        assert (levels[one.session], levels[other.session]) == ("error", "")


async def test_log_messages_below_the_sessions_level_are_kept_back(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:
        await wire.ask("logging/setLevel", {"level": "error"})

        async def speak() -> None:
            id = await house.asked("silent")
            for level in ("info", "critical"):
                house.connection.relate(id, {"method": "notifications/message", "params": {"level": level, "data": 1}})
            house.connection.answer(id, {"result": {"content": []}})

        speaking = asyncio.create_task(speak())
        answer = await wire.call("time__silent")
        await speaking
        assert [message["params"]["level"] for message in answer.others] == ["critical"]


async def test_a_modern_client_that_asked_for_no_log_messages_gets_none(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:

        async def speak() -> None:
            id = await house.asked("silent")
            house.connection.relate(id, {"method": "notifications/message", "params": {"level": "error", "data": 1}})
            house.connection.answer(id, {"result": {"content": []}})

        speaking = asyncio.create_task(speak())
        answer = await wire.call("time__silent")
        await speaking
        assert answer.others == []


async def test_progress_comes_back_under_the_clients_token_and_goes_out_under_ours(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:

        async def speak() -> None:
            id = await house.asked("silent")
            sent = house.connection.calls()[-1]["params"]["_meta"]["progressToken"]
            assert sent == id
            about = {"progressToken": sent, "progress": 1.50, "x": "kept"}
            house.connection.relate(id, {"method": "notifications/progress", "params": about})
            house.connection.answer(id, {"result": {"content": []}})

        speaking = asyncio.create_task(speak())
        answer = await wire.call("time__silent", _meta={"progressToken": "mine"})
        await speaking
        assert [message["params"] for message in answer.others] == [
            {"progressToken": "mine", "progress": 1.5, "x": "kept"}
        ]


async def test_a_door_of_one_provider_offers_what_it_offers(tmp_path: Path) -> None:
    async with inside(tmp_path, a_server(Era.modern)) as house, ModernWire(f"{house.url}/time") as wire:
        result = (await wire.ask("server/discover")).result
        assert result["instructions"] == "Be kind." and set(result["capabilities"]) == {"tools"}
        assert "echo" in await wire.tools()
        assert (await wire.call("echo")).text == "hi"


async def test_the_trace_of_a_client_is_continued_with_a_span_of_our_own(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await wire.call("time__echo", _meta={"traceparent": trace})
        await wire.call("time__echo", _meta={"traceparent": "00-nonsense"})
        sent = [call["params"]["_meta"]["traceparent"] for call in house.connection.calls()]
        assert sent[0][:36] == trace[:36] and sent[0] != trace and sent[0].endswith("-01")
        assert sent[1][3:35] != trace[3:35]
        first, _ = await house.record("call.admitted")
        assert first["trace_id"] == trace[3:35]


async def unrelated(house: Inside, number: int) -> Any:
    text = {"jsonrpc": "2.0", "id": number, "method": "roots/list"}
    house.connection.say(json.dumps(text))
    return await house.connection.posted_one(lambda message: message.get("id") == number)


async def test_a_question_outside_of_any_call_reaches_the_session_it_can_only_mean(tmp_path: Path) -> None:
    provider = {"sessions": "per_session"}
    async with inside(tmp_path, provider=provider) as house, LegacyWire(house.url, capabilities={"roots": {}}) as wire:
        await wire.call("time__echo")
        assert "error" in await unrelated(house, 1), "nobody listens"
        (session,) = house.house.sessions.all()
        async with wire.http.stream("GET", wire.url, headers=wire._head("", {})) as stream:
            await house.until(lambda: session.listening)
            asking = asyncio.create_task(unrelated(house, 2))
            question = await anext(messages(stream))
            assert question["method"] == "roots/list"
            await wire.http.post(
                wire.url,
                json={"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}},
                headers=wire._head("", {}),
            )
            assert (await asking)["result"] == {"roots": []}
        await house.until(lambda: session.listening is None)


async def test_changed_roots_are_told_to_the_sessions_own_provider(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url, capabilities={"roots": {}}) as wire:
        await wire.call("time__echo")
        assert await wire.tell("notifications/roots/list_changed") == 202
        await house.connection.posted_one(lambda message: message.get("method") == "notifications/roots/list_changed")


async def test_a_list_change_is_told_once_to_who_listens(tmp_path: Path) -> None:
    server = a_server(Era.legacy)
    async with inside(tmp_path, server) as house, ModernWire(house.url) as wire:
        await wire.call("time__echo")
        wanted = {"notifications": {"toolsListChanged": True}}
        async with wire.open("subscriptions/listen", wanted, id="sub") as (_, response):
            heard = messages(response)
            assert (await anext(heard))["method"] == "notifications/subscriptions/acknowledged"
            server.results["tools/list"] = {"tools": [{"name": "new", "inputSchema": {"type": "object"}}]}
            for _ in range(3):
                house.connection.say('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
            changed = await anext(heard)
            assert changed["method"] == "notifications/tools/list_changed"
            assert changed["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
            assert "time__new" in await wire.tools()
            stopping = asyncio.create_task(house.house.stop(0.1))
            end = await anext(heard)
            assert end["id"] == "sub" and end["result"]["resultType"] == "complete", "and nothing before the end"
            await stopping


@pytest.mark.parametrize("notifications", [None, [], "all", 7])
async def test_a_listen_that_names_no_wishes_is_refused(tmp_path: Path, notifications: Any) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        answer = await wire.ask("subscriptions/listen", {"notifications": notifications})
        assert answer.message["error"]["code"] == -32602
        assert not house.house.methods.streams and not house.endpoint.open_channels


async def a_session(house: Inside) -> Any:
    wire = LegacyWire(house.url)
    await wire.__aenter__()
    await wire.http.aclose()
    return house.house.sessions.by_id(wire.session)


async def test_a_question_is_answered_once_and_by_its_number(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        session = await a_session(house)
        sent: list[dict[str, Any]] = []

        async def deliver(message: bytes) -> None:
            sent.append(json.loads(message))

        asking = asyncio.create_task(ask_session(session, "roots/list", b"{}", 5, deliver))
        await house.until(lambda: sent)
        for id in (b'"1"', b"99", b"-1", b"1" * 30):
            take_response(session, Request(id, "", {}, {}, "", Raw(b"{}")))
        take_response(session, Request(b"%d" % sent[0]["id"], "", {}, {}, "", Raw(b'{"a":1}')))
        take_response(session, Request(b"%d" % sent[0]["id"], "", {}, {}, "", Raw(b'{"a":2}')))
        assert bytes((await asking).result) == b'{"a":1}'
        assert not session.asks


async def test_a_question_that_nobody_answers_ends_and_so_does_one_whose_session_ends(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        session = await a_session(house)

        async def deliver(message: bytes) -> None:
            return None

        with pytest.raises(CallTimeout):
            await ask_session(session, "roots/list", b"{}", 0.01, deliver)
        asking = asyncio.create_task(ask_session(session, "roots/list", b"{}", 5, deliver))
        await house.until(lambda: session.asks)
        house.house.sessions.close(session)
        with pytest.raises(CallCancelled):
            await asking
        assert not session.asks


def test_each_era_knows_its_own_methods() -> None:
    assert known_in("tools/call", Era.legacy) and known_in("tools/call", Era.modern)
    assert known_in("initialize", Era.legacy) and not known_in("initialize", Era.modern)
    assert known_in("server/discover", Era.modern) and not known_in("server/discover", Era.legacy)


def test_a_clients_name_is_bounded_and_whatever_it_is_no_error() -> None:
    assert client_name(b'{"name":"inspector","version":"1.2"}') == "inspector/1.2"
    assert client_name(b'{"name":"inspector"}') == "inspector"
    assert len(client_name(json.dumps({"name": "n" * 999, "version": "v" * 999}).encode())) == 64 + 1 + 32
    for odd in (b"[]", b"7", b'{"name":7}', b"{"):
        assert client_name(odd) == ""
