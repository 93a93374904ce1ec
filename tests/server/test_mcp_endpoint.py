# SPDX-License-Identifier: MIT
"""The agents' HTTP door: which status and which body, for whom, and what is left when a client has gone."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.server.bootstrap.logs import configure_logs
from tests.inside import CONTENT, a_server, inside
from tests.journeys.wire import LEGACY, MODERN, LegacyWire, ModernWire, messages

pytestmark = pytest.mark.anyio
BOTH = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
HELLO = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What is logged meanwhile, as `hangar serve` writes it."""
    before = structlog.get_config()
    lines = io.StringIO()
    configure_logs("info", (), lines)
    try:
        yield lines
    finally:
        structlog.configure(**before)


async def post(wire: LegacyWire | ModernWire, body: Any, **headers: str) -> httpx.Response:
    given = body.get("params", {}) if isinstance(body, dict) else {}
    method = body.get("method", "") if isinstance(body, dict) else ""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await wire.http.post(wire.url, content=content, headers={**BOTH, **wire._head(method, given), **headers})


# -- ids


async def test_ids_come_back_as_they_were_given_a_number_is_no_text(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        for id in (1, "1", 0, -7, 2**53 + 1, "", "ä\n"):
            answer = await wire.call("time__echo", id=id)
            assert answer.message["id"] == id and type(answer.message["id"]) is type(id)


@pytest.mark.parametrize("id", [None, 1.5, True, [], {}])
async def test_an_id_that_is_neither_text_nor_whole_number_is_refused(tmp_path: Path, id: Any) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        body = {"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": wire._dress({})}
        answer = await post(wire, body)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == -32600


async def test_two_clients_that_use_the_same_id_each_get_their_own_answer(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(inside(tmp_path))
        wires = [
            await stack.enter_async_context(ModernWire(house.url)),
            await stack.enter_async_context(LegacyWire(house.url)),
            await stack.enter_async_context(LegacyWire(house.url)),
        ]
        tasks = [
            asyncio.create_task(wire.call("time__echo", {"text": f"client {number}"}, id=1))
            for number, wire in enumerate(wires)
        ]
        assert [(await task).text for task in tasks] == ["client 0", "client 1", "client 2"]
        await house.all_over()


# -- eras, methods, notifications


async def test_a_method_that_does_not_exist_is_404_in_the_modern_era_and_200_in_the_legacy_one(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as modern, LegacyWire(house.url) as legacy:
        for wire, status in ((modern, 404), (legacy, 200)):
            answer = await wire.ask("tools/burn")
            assert (answer.status, answer.message["error"]["code"]) == (status, -32601)


@pytest.mark.parametrize(
    ("era", "method"),
    [
        ("modern", "initialize"),
        ("modern", "ping"),
        ("modern", "logging/setLevel"),
        ("modern", "resources/subscribe"),
        ("legacy", "server/discover"),
        ("legacy", "subscriptions/listen"),
    ],
)
async def test_methods_of_the_other_era_do_not_exist(tmp_path: Path, era: str, method: str) -> None:
    async with inside(tmp_path) as house, (ModernWire if era == "modern" else LegacyWire)(house.url) as wire:
        answer = await wire.ask(method, {"level": "info", "notifications": {}})
        assert answer.message["error"]["code"] == -32601


async def test_notifications_are_accepted_in_both_eras_and_never_answered(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as modern, LegacyWire(house.url) as legacy:
        for wire in (modern, legacy):
            for method in ("notifications/initialized", "notifications/cancelled", "notifications/unheard_of"):
                answer = await post(wire, {"jsonrpc": "2.0", "method": method, "params": {"requestId": 99}})
                assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[]", 400, "batch_unsupported"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', 400, "batch_unsupported"),
        (b"{", 400, "parse_error"),
        (b"", 400, "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}', 400, "duplicate_key"),
        (b'{"jsonrpc":"1.0","id":1,"method":"x"}', 400, "invalid_request"),
        (b'{"jsonrpc":"2.0","id":1}', 400, "invalid_request"),
        (b"[" * 100_000, 400, "batch_unsupported"),
        (b'{"a":' * 100, 400, "too_deep"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', 400, "invalid_request"),
    ],
)
async def test_what_is_no_request_is_refused_in_words(tmp_path: Path, body: bytes, status: int, code: str) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        answer = await post(wire, body, **{"mcp-method": "x"})
        assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (status, code)


async def test_a_modern_header_that_contradicts_the_body_is_refused(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        params = wire._dress({"name": "time__echo", "arguments": {}})
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        for wrong in (
            {"mcp-name": "time__fails"},
            {"mcp-name": ""},
            {"mcp-method": "tools/list"},
            {"mcp-protocol-version": "2025-11-25"},
        ):
            answer = await post(wire, body, **wrong)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == -32020, wrong
        assert not house.launcher.launched, "nothing was started for them"


# -- legacy sessions


async def test_a_session_cannot_be_initialized_again_and_a_second_one_is_another(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire, LegacyWire(house.url) as other:
        assert wire.session != other.session
        again = await post(wire, {"jsonrpc": "2.0", "id": 9, "method": "initialize", "params": HELLO})
        assert again.status_code == 400
        assert (await wire.call("time__echo")).text == "hi", "the session is as it was"


async def test_a_deleted_session_is_unknown_from_then_on(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:
        assert (await wire.http.delete(wire.url, headers=wire._head("", {}))).status_code == 200
        assert (await wire.call("time__echo")).status == 404
        assert (await wire.http.delete(wire.url, headers=wire._head("", {}))).status_code == 404
        assert (await wire.http.get(wire.url, headers=wire._head("", {}))).status_code == 404


async def test_a_request_without_a_session_is_told_to_name_one(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:
        answer = await post(wire, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, **{"mcp-session-id": "x"})
        assert answer.status_code == 404
        wire.session = ""
        answer = await post(wire, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert answer.json()["error"]["data"]["code"] == "session_required"


async def test_a_session_is_good_only_at_the_door_it_was_opened_at(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:
        elsewhere = f"{house.url}/time"
        head = wire._head("", {})
        listed = await wire.http.post(
            elsewhere, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers={**BOTH, **head}
        )
        assert listed.status_code == 404
        assert (await wire.http.get(elsewhere, headers=head)).status_code == 404
        assert (await wire.http.delete(elsewhere, headers=head)).status_code == 404
        assert (await wire.call("time__echo")).text == "hi"


async def test_a_second_listener_takes_over_and_the_session_stays_reachable(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:
        (session,) = house.house.sessions.all()
        async with wire.http.stream("GET", wire.url, headers=wire._head("", {})) as first:
            await house.until(lambda: session.listening)
            holder = session.listening
            async with wire.http.stream("GET", wire.url, headers=wire._head("", {})) as second:
                await house.until(lambda: session.listening is not holder)
                await first.aread()
                assert session.listening is not None, "the first one's end does not make it deaf"
                session.standalone.append(b'{"jsonrpc":"2.0","method":"notifications/test"}')
                assert (await anext(messages(second)))["method"] == "notifications/test"
        await house.until(lambda: session.listening is None)
        await house.all_over()


async def test_a_cancelled_legacy_request_is_not_answered_and_the_provider_is_told(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:
        calling = asyncio.create_task(wire.call("time__silent", id="mine"))
        id = await house.asked("silent")
        for unknown in (1, "other", None):
            assert await wire.tell("notifications/cancelled", {"requestId": unknown}) == 202
        assert not calling.done()
        assert await wire.tell("notifications/cancelled", {"requestId": "mine"}) == 202
        answer = await calling
        assert (answer.status, answer.message) == (200, {})
        assert house.connection.exchanges[id].failed is not None
        assert [end["reason"] for end in await house.all_over()] == ["cancelled"]
        assert await wire.tell("notifications/cancelled", {"requestId": "mine"}) == 202, "late: ignored"


async def test_a_cancel_does_not_reach_another_sessions_request_of_the_same_id(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(inside(tmp_path))
        mine = await stack.enter_async_context(LegacyWire(house.url))
        other = await stack.enter_async_context(LegacyWire(house.url))
        calling = asyncio.create_task(mine.call("time__silent", id=1))
        id = await house.asked("silent")
        await other.tell("notifications/cancelled", {"requestId": 1})
        house.connection.answer(id, {"result": CONTENT})
        assert (await calling).text == "hi"


async def test_a_legacy_client_that_left_fetches_the_answer_by_its_last_event(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, LegacyWire(house.url) as wire:

        async def speak() -> int:
            id = await house.asked("silent")
            house.connection.relate(id, {"method": "notifications/message", "params": {"level": "info", "data": "one"}})
            return id

        speaking = asyncio.create_task(speak())
        last = ""
        async with wire.open("tools/call", {"name": "time__silent", "arguments": {}}) as (number, response):
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    last = line[4:]
                if '"one"' in line:
                    break
        house.connection.answer(await speaking, {"result": CONTENT})
        head = {**wire._head("", {}), "last-event-id": last}
        async with wire.http.stream("GET", wire.url, headers=head) as response:
            found = [message async for message in messages(response)]
        assert [message["id"] for message in found] == [number]
        assert [end["outcome"] for end in await house.all_over()] == ["ok"], "leaving was no cancelling"
        head["last-event-id"] = "p99-1"
        assert (await wire.http.get(wire.url, headers=head)).status_code == 400


# -- clients that leave, silence, defects


@pytest.mark.parametrize("era", [Era.legacy, Era.modern])
async def test_a_modern_client_that_leaves_has_cancelled(tmp_path: Path, era: Era) -> None:
    async with inside(tmp_path, a_server(era)) as house:
        async with ModernWire(house.url) as wire:
            calling = asyncio.create_task(wire.call("time__silent"))
            id = await house.asked("silent")
            calling.cancel()
            await asyncio.wait([calling])
        await house.until(lambda: house.connection.exchanges[id].failed)
        assert [end["reason"] for end in await house.all_over()] == ["cancelled"]


async def test_a_client_that_leaves_hangar_invoke_ends_the_calls_inside(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        async with ModernWire(house.url) as wire:
            calling = asyncio.create_task(wire.call("hangar_invoke", {"calls": [{"tool": "time__silent"}] * 3}))
            await house.until(lambda: len(house.launcher.open) == 1 and len(house.connection.calls()) == 3)
            calling.cancel()
            await asyncio.wait([calling])
        ends = await house.all_over()
        assert [end["reason"] for end in ends] == ["cancelled"] * 4


async def test_a_client_that_leaves_while_it_subscribes_leaves_nothing_behind(tmp_path: Path) -> None:
    server = a_server(Era.legacy, resources={"subscribe": True})
    server.results["resources/list"] = {"resources": [{"uri": "file:///a", "name": "a"}]}
    server.silent.add("resources/subscribe")
    async with inside(tmp_path, server) as house:
        async with ModernWire(house.url) as wire:
            listening = asyncio.create_task(
                wire.ask("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["time+file:///a"]}})
            )
            await house.until(lambda: house.launcher.open and "resources/subscribe" in house.connection.methods)
            listening.cancel()
            await asyncio.wait([listening])
        await house.until(lambda: not house.endpoint.open_channels)
        assert not house.house.methods.streams
        asked = next(each["id"] for each in house.connection.sent if each["method"] == "resources/subscribe")
        house.connection.answer(asked, {"result": {}})
        await house.until(lambda: "resources/unsubscribe" in house.connection.methods)


async def test_silence_is_broken_by_comments_and_a_client_that_does_not_read_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hangar.server.mcp_endpoint.KEEPALIVE", 0.0)
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:

        class Stuck:
            async def keep_alive(self) -> None:
                await asyncio.Event().wait()

        stuck: Any = Stuck()
        house.endpoint.open_channels[stuck] = 0.0

        async def say_something() -> int:
            id = await house.asked("silent")
            for _ in range(2):
                house.endpoint.keep_alive()
            return id

        saying = asyncio.create_task(say_something())
        async with wire.open("tools/call", {"name": "time__silent", "arguments": {}}) as (_, response):
            assert response.headers["content-type"] == "text/event-stream"
            lines = response.aiter_lines()
            assert await anext(lines) == ":"
            house.connection.answer(await saying, {"result": CONTENT})
            assert any(line.startswith("data: ") and '"hi"' in line for line in [line async for line in lines])
        assert len(house.endpoint._commenting) == 1
        house.endpoint._commenting[stuck].cancel()
        del house.endpoint.open_channels[stuck]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_defect_is_answered_with_a_reference_that_the_log_has_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    async with inside(tmp_path) as house, (ModernWire if era == "modern" else LegacyWire)(house.url) as wire:

        async def broken(*_: object) -> None:
            raise KeyError("a secret thing")

        monkeypatch.setattr(house.house.methods, "answer", broken)
        with logged() as lines:
            answer = await wire.ask("tools/list")
        error = answer.message["error"]
        assert (error["code"], answer.status) == (-32603, 500)
        assert "secret" not in json.dumps(error) and "Traceback" not in json.dumps(error)
        (line,) = [line for line in lines.getvalue().splitlines() if "request_failed_inside" in line]
        assert "a secret thing" in line
        reference = line.split("reference='")[1].split("'")[0]
        assert reference in error["data"]["why"]


async def test_a_defect_inside_a_call_is_answered_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        await wire.call("time__echo")

        def broken(*_: object) -> None:
            raise KeyError("a secret thing")

        monkeypatch.setattr("mcp_hangar.domain.mcp.bridge.result_back", broken)
        with logged() as lines:
            answer = await wire.call("time__echo")
        assert (answer.status, answer.message["error"]["code"]) == (500, -32603)
        failed = (await house.all_over())[-1]
        assert (failed["reason"], failed["code"]) == ("protocol", "internal")
        assert failed["call_id"] in answer.message["error"]["data"]["why"]
        assert failed["call_id"] in lines.getvalue()


# -- who gets in


async def test_a_token_is_asked_for_before_anything_is_read(tmp_path: Path) -> None:
    async with inside(tmp_path, token="agents-token-12345") as house:
        async with ModernWire(house.url) as stranger:
            answer = await stranger.ask("tools/list")
            assert answer.status == 401
        async with ModernWire(house.url, headers={"authorization": "Bearer agents-token-12345"}) as known:
            assert (await known.call("time__echo")).text == "hi"
        (admitted,) = await house.record("call.admitted")
        assert (admitted["caller"], admitted["caller_type"]) == ("token", "token")


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "evil.example", 421),
        ("origin", "https://evil.example", 403),
        ("content-type", "text/plain", 415),
        ("accept", "text/html", 406),
    ],
)
async def test_doors_that_stay_shut(tmp_path: Path, header: str, value: str, status: int) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": wire._dress({})}
        assert (await post(wire, body, **{header: value})).status_code == status


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "GET"])
async def test_other_methods_are_not_allowed_and_told_which_are(tmp_path: Path, method: str) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        answer = await wire.http.request(method, wire.url)
        assert answer.status_code == 405
        assert "POST" in answer.headers["allow"]
        assert (answer.content == b"") == (method == "HEAD")


async def test_a_door_that_is_not_there_is_404(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(f"{house.url}/nobody") as wire:
        assert (await wire.ask("tools/list")).status == 404
        assert (await wire.http.get(house.url.removesuffix("/mcp") + "/mcpx")).status_code == 404


async def test_the_version_asked_for_must_be_one_that_is_spoken(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, ModernWire(house.url) as wire:
        params = wire._dress({"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}})
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}
        answer = await post(wire, body, **{"mcp-protocol-version": "2099-01-01"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, -32022)
        assert error["data"]["supported"] == [MODERN] and error["data"]["requested"] == "2099-01-01"
