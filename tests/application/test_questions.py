# SPDX-License-Identifier: MIT
"""A provider's questions: to whom they go, how each ends, and that nobody else can answer or go on."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.domain.mcp.eras import Era
from tests.inside import CONTENT, Connection, Inside, a_server, inside
from tests.journeys.wire import LegacyWire, ModernWire, messages

pytestmark = pytest.mark.anyio
CAN: dict[str, Any] = {"elicitation": {}}
ACCEPTED = {"action": "accept", "content": {"name": "Ada"}}
SHARED = {"sessions": "shared"}


def questions(events: list[dict[str, Any]]) -> list[str]:
    return [event.get("outcome") or event["reason"] for event in events if event["method"] == "elicitation/create"]


async def answered(house: Inside, wire: LegacyWire, id: Any, reply: dict[str, Any]) -> int:
    response = await wire.http.post(wire.url, json={"jsonrpc": "2.0", "id": id, **reply}, headers=wire._head("", {}))
    return response.status_code


async def test_a_modern_client_gets_input_required_and_goes_on_where_the_call_waits(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        first = (await wire.call("time__asks")).result
        assert first["resultType"] == "input_required"
        ((key, asked),) = first["inputRequests"].items()
        assert asked["params"]["message"] == "Your name?"
        more = {"inputResponses": {key: ACCEPTED}, "requestState": first["requestState"]}
        going_on = asyncio.create_task(wire.call("time__asks", **more))
        told = await house.connection.posted_one(lambda message: message.get("id") == 77)
        assert told["result"] == ACCEPTED
        house.connection.answer(house.connection.last, {"result": CONTENT})
        assert (await going_on).text == "hi"
        assert len(house.connection.calls()) == 1, "the provider was called once"
        ends = await house.all_over()
        assert questions(ends) == ["ok"]
        assert sorted(event["outcome"] for event in ends if event["method"] == "tools/call") == ["input_required", "ok"]


async def test_a_state_can_be_used_once_and_only_as_it_was_given(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        first = (await wire.call("time__asks")).result
        state = first["requestState"]
        for spoilt in (state[:-2] + "xx", "", "nonsense", state + "A"):
            answer = await wire.call("time__asks", requestState=spoilt, inputResponses={})
            assert answer.message["error"]["data"]["code"] == "invalid_request_state"
        other = await wire.call("time__echo", requestState=state, inputResponses={})
        assert other.message["error"]["data"]["code"] == "invalid_request_state", "bound to the tool"
        both = [
            asyncio.create_task(wire.call("time__asks", requestState=state, inputResponses={"q1": ACCEPTED}))
            for _ in range(2)
        ]
        await house.connection.posted_one(lambda message: message.get("id") == 77)
        house.connection.answer(house.connection.last, {"result": CONTENT})
        answers = [await each for each in both]
        assert sorted("result" in answer.message for answer in answers) == [False, True]
        await house.all_over()


async def test_answers_that_are_missing_are_asked_for_again(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        first = (await wire.call("time__asks")).result
        again = (await wire.call("time__asks", requestState=first["requestState"], inputResponses={})).result
        assert again["inputRequests"] == first["inputRequests"]
        going_on = asyncio.create_task(
            wire.call("time__asks", requestState=again["requestState"], inputResponses={"q1": ACCEPTED})
        )
        await house.connection.posted_one(lambda message: message.get("id") == 77)
        house.connection.answer(house.connection.last, {"result": CONTENT})
        assert (await going_on).text == "hi"
        await house.all_over()


async def test_a_parked_call_whose_provider_dies_ends_and_its_state_is_worthless(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        first = (await wire.call("time__asks")).result
        house.connection.die()
        await house.until(lambda: not house.house.instances.warm)
        answer = await wire.call("time__asks", requestState=first["requestState"], inputResponses={"q1": ACCEPTED})
        assert answer.message["error"]["data"]["code"] == "invalid_request_state"
        assert questions(await house.all_over()) == ["cancelled"]


async def test_a_parked_call_that_nobody_comes_back_for_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hangar.application.questions.PATIENCE", 0.0)
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        await wire.call("time__asks")
        house.house.questions.sweep()
        assert house.connection.exchanges[house.connection.last].failed is not None, "the provider is told"
        assert questions(await house.all_over()) == ["timeout"]


async def test_a_resumed_call_has_a_deadline_again(tmp_path: Path) -> None:
    limits = {"limits": {"call_timeout": "1500ms"}}
    async with inside(tmp_path, provider=limits) as house, ModernWire(house.url, capabilities=CAN) as wire:
        first = (await wire.call("time__asks")).result
        answer = await wire.call("time__asks", requestState=first["requestState"], inputResponses={"q1": ACCEPTED})
        assert answer.message["error"]["data"]["code"] == "timeout"
        await house.all_over()


async def test_too_many_parked_calls_are_refused_by_name_of_the_limit(tmp_path: Path) -> None:
    limits = {"limits": {"parked": 1}}
    async with inside(tmp_path, server=limits) as house, ModernWire(house.url, capabilities=CAN) as wire:
        await wire.call("time__asks")
        refused = (await wire.call("time__asks")).result
        assert refused["isError"] and "server.limits.parked" in refused["content"][0]["text"]
        house.house.questions.close()
        ends = await house.all_over()
        assert questions(ends) == ["cancelled", "cancelled"]
        assert [end.get("reason") for end in ends if end["method"] == "tools/call"] == [None, "limit"]


async def test_a_legacy_client_is_asked_on_the_stream_of_its_call(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url, capabilities=CAN) as wire:
        async with wire.open("tools/call", {"name": "time__asks", "arguments": {}}) as (id, response):
            heard = messages(response)
            question = await anext(heard)
            assert question["method"] == "elicitation/create"
            assert await answered(house, wire, question["id"], {"result": ACCEPTED}) == 202
            told = await house.connection.posted_one(lambda message: message.get("id") == 77)
            assert told["result"] == ACCEPTED
            assert await answered(house, wire, question["id"], {"result": ACCEPTED}) == 202, "late: dropped"
            house.connection.answer(house.connection.last, {"result": CONTENT})
            answer = await anext(heard)
            assert answer["id"] == id and answer["result"]["content"][0]["text"] == "hi"
        assert questions(await house.all_over()) == ["ok"]


async def test_an_answer_with_the_number_as_text_is_no_answer(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url, capabilities=CAN) as wire:
        async with wire.open("tools/call", {"name": "time__asks", "arguments": {}}) as (_, response):
            heard = messages(response)
            question = await anext(heard)
            await answered(house, wire, str(question["id"]), {"result": {"action": "decline"}})
            await answered(house, wire, question["id"], {"result": ACCEPTED})
            told = await house.connection.posted_one(lambda message: message.get("id") == 77)
            assert told["result"] == ACCEPTED
            house.connection.answer(house.connection.last, {"result": CONTENT})
            await anext(heard)
        await house.all_over()


async def test_one_session_cannot_answer_for_another(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(inside(tmp_path, provider={"sessions": "per_session"}))
        mine = await stack.enter_async_context(LegacyWire(house.url, capabilities=CAN))
        other = await stack.enter_async_context(LegacyWire(house.url, capabilities=CAN))
        async with mine.open("tools/call", {"name": "time__asks", "arguments": {}}) as (_, response):
            heard = messages(response)
            question = await anext(heard)
            assert await answered(house, other, question["id"], {"result": {"action": "decline"}}) == 202
            await answered(house, mine, question["id"], {"result": ACCEPTED})
            asked = next(each for each in house.launcher.open if isinstance(each, Connection) and each.last)
            told = await asked.posted_one(lambda message: message.get("id") == 77)
            assert told["result"] == ACCEPTED
            asked.answer(asked.last, {"result": CONTENT})
            await anext(heard)
        await house.all_over()


async def test_a_client_that_did_not_declare_it_is_never_asked(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        calling = asyncio.create_task(wire.call("time__asks"))
        await house.asked("asks")
        told = await house.connection.posted_one(lambda message: message.get("id") == 77)
        assert told["error"]["code"] == -32600
        house.connection.answer(house.connection.last, {"result": CONTENT})
        assert (await calling).text == "hi"
        await house.all_over()
        (denied,) = await house.record("call.denied")
        assert denied["method"] == "elicitation/create" and denied["code"] == "question_refused"


async def test_what_hangar_does_not_know_to_relay_is_refused_as_unknown(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        calling = asyncio.create_task(wire.call("time__silent"))
        id = await house.asked("silent")
        house.connection.ask(id, "secrets/read", {}, "x")
        told = await house.connection.posted_one(lambda message: message.get("id") == "x")
        assert told["error"]["code"] == -32601
        house.connection.answer(id, {"result": CONTENT})
        assert (await calling).text == "hi"


async def test_an_unrelated_question_goes_to_the_only_client_with_a_call_open(tmp_path: Path) -> None:
    async with inside(tmp_path, provider=SHARED) as house, LegacyWire(house.url, capabilities=CAN) as wire:

        async def ask_aside() -> int:
            id = await house.asked("silent")
            house.connection.say(json.dumps({"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {}}))
            return id

        asking = asyncio.create_task(ask_aside())
        async with wire.open("tools/call", {"name": "time__silent", "arguments": {}}) as (_, response):
            heard = messages(response)
            question = await anext(heard)
            await answered(house, wire, question["id"], {"result": ACCEPTED})
            await house.connection.posted_one(lambda message: message.get("id") == 5)
            house.connection.answer(await asking, {"result": CONTENT})
            await anext(heard)
        await house.all_over()


async def test_an_unrelated_question_with_several_clients_calls_open_is_refused_and_recorded(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(inside(tmp_path, provider=SHARED))
        tasks = []
        for _ in range(2):
            wire = await stack.enter_async_context(LegacyWire(house.url, capabilities=CAN))
            tasks.append(asyncio.create_task(wire.call("time__silent")))
        await house.until(lambda: len(house.launcher.open) == 1 and len(house.connection.calls()) == 2)
        house.connection.say(json.dumps({"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {}}))
        told = await house.connection.posted_one(lambda message: message.get("id") == 5)
        assert told["error"]["code"] == -32600
        for call in house.connection.calls():
            house.connection.answer(call["id"], {"result": CONTENT})
        for task in tasks:
            assert (await task).text == "hi"
        await house.all_over()
        assert [event["code"] for event in await house.record("call.denied")] == ["question_refused"]


async def test_a_provider_that_dies_while_it_is_asking_leaves_no_question_open(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url, capabilities=CAN) as wire:
        async with wire.open("tools/call", {"name": "time__asks", "arguments": {}}) as (_, response):
            heard = messages(response)
            await anext(heard)
            house.connection.die()
            assert (await anext(heard))["error"]["data"]["code"] == "provider_died"
        assert questions(await house.all_over()) == ["cancelled"]


async def test_a_burst_that_ends_with_the_provider_leaves_no_question_open(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url, capabilities=CAN) as wire:
        calling = asyncio.create_task(wire.call("time__silent"))
        id = await house.asked("silent")
        house.connection.ask(id, "elicitation/create", {})
        house.connection.die()
        assert "error" in (await calling).message
        assert questions(await house.all_over()) == ["cancelled"]


async def test_a_modern_providers_question_reaches_a_legacy_client_and_the_call_is_repeated(tmp_path: Path) -> None:
    async with inside(tmp_path, a_server(Era.modern)) as house, LegacyWire(house.url, capabilities=CAN) as wire:
        async with wire.open("tools/call", {"name": "time__asks_modern", "arguments": {}}) as (_, response):
            heard = messages(response)
            question = await anext(heard)
            await answered(house, wire, question["id"], {"result": ACCEPTED})
            answer = await anext(heard)
        assert answer["result"]["heard"] == {"a": ACCEPTED}
        first, second = house.connection.calls()
        assert first["id"] != second["id"]
        assert second["params"]["requestState"] == "its own"
        assert questions(await house.all_over()) == ["ok"]


async def test_a_legacy_client_that_cancels_while_it_is_asked_by_a_modern_provider_ends_the_call(
    tmp_path: Path,
) -> None:
    async with inside(tmp_path, a_server(Era.modern)) as house, LegacyWire(house.url, capabilities=CAN) as wire:
        async with wire.open("tools/call", {"name": "time__asks_modern", "arguments": {}}) as (id, response):
            heard = messages(response)
            await anext(heard)
            assert await wire.tell("notifications/cancelled", {"requestId": id}) == 202
            assert [message async for message in heard] == [], "nothing is said to who took it back"
        ends = await house.all_over()
        assert questions(ends) == ["cancelled"]
        assert [end["reason"] for end in ends if end["method"] == "tools/call"] == ["cancelled"]


async def test_a_modern_providers_state_is_sealed_for_the_caller_and_opened_on_its_way_back(tmp_path: Path) -> None:
    async with inside(tmp_path, a_server(Era.modern)) as house, ModernWire(house.url, capabilities=CAN) as wire:
        first = (await wire.call("time__asks_modern")).result
        assert "its own" not in json.dumps(first)
        more = {"requestState": first["requestState"], "inputResponses": {"a": ACCEPTED}}
        assert (await wire.call("time__asks_modern", **more)).result["heard"] == {"a": ACCEPTED}
        assert house.connection.calls()[-1]["params"]["requestState"] == "its own"
        altered = await wire.call("time__echo", **more)
        assert altered.message["error"]["data"]["code"] == "invalid_request_state"
        await house.all_over()


async def test_a_session_that_ends_while_it_is_asked_ends_the_question(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url, capabilities=CAN) as wire:
        async with wire.open("tools/call", {"name": "time__asks", "arguments": {}}) as (_, response):
            heard = messages(response)
            await anext(heard)
            deleted = await wire.http.delete(wire.url, headers=wire._head("", {}))
            assert deleted.status_code == 200
            told = await house.connection.posted_one(lambda message: message.get("id") == 77)
            assert "error" in told
            house.connection.answer(house.connection.last, {"result": CONTENT})
            await anext(heard)
        assert questions(await house.all_over()) == ["cancelled"]
