# SPDX-License-Identifier: MIT
"""How systems like this one failed: sessions upstream and down, what is relayed, and how often anything is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.house import House, house, remote_provider, subprocess_provider
from tests.journeys.doors import StdioWire, until
from tests.journeys.upstream import (
    LEGACY,
    ODD_RESULT,
    RICH,
    TOOLS,
    Server,
    Upstream,
    read_record,
    recording,
    stdio_command,
)
from tests.journeys.wire import LegacyWire, ModernWire, client, messages

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ERAS = ["legacy", "modern"]


@pytest.fixture(params=ERAS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[House, Upstream]]:
    """A Hangar in front of one recording provider."""
    with recording(request.param) as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as opened:
        yield opened, upstream


# -- sessions upstream


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_23_what_a_provider_keeps_for_one_session_is_never_seen_by_another(
    tmp_path: Path, era: str
) -> None:
    with recording("legacy") as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as hangar:
        async with client(era, hangar.url) as one, client(era, hangar.url) as two:
            for wire, expected in ((one, "1"), (one, "2"), (two, "1"), (one, "3"), (two, "2")):
                assert (await wire.call("up__count")).text == expected
        ids = {seen.header("mcp-session-id") for seen in upstream.called("count")}
        assert len(ids) == 2
        # What a client that left had there is not handed to the next one.
        async with client(era, hangar.url) as three:
            assert (await three.call("up__count")).text == "1"


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_25_a_warm_call_is_exactly_one_request_upstream(pair: tuple[House, Upstream], era: str) -> None:
    hangar, upstream = pair
    async with client(era, hangar.url) as wire:
        await wire.call("up__echo", {"n": 0})
        before = len(upstream.seen)
        for number in range(1, 11):
            assert json.loads((await wire.call("up__echo", {"n": number})).text) == {"n": number}
        seen = upstream.seen[before:]
    assert [(each.verb, each.method) for each in seen if each.method != "notifications/initialized"] == [
        ("POST", "tools/call")
    ] * 10


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_69_a_call_touches_its_own_provider_only_and_a_list_none(tmp_path: Path, era: str) -> None:
    with ExitStack() as opened:
        upstreams = {f"up-{number}": opened.enter_context(recording(era)) for number in range(8)}
        providers = {name: remote_provider(upstream.url) for name, upstream in upstreams.items()}
        hangar = opened.enter_context(house(tmp_path, providers))

        def asked() -> dict[str, int]:
            return {name: len(upstream.seen) for name, upstream in upstreams.items()}

        # A client's first call, with nobody met yet, goes to one provider; so does each later one.
        async with client(era, hangar.url) as wire:
            await wire.call("up-3__echo", {"n": 0})
            assert {name for name, count in asked().items() if count} == {"up-3"}
            before = asked()
            await wire.call("up-3__echo", {"n": 1})
            assert asked() == before | {"up-3": before["up-3"] + 1}
            known = await wire.tools()
            assert {name.partition("__")[0] for name in known} >= set(upstreams)
            before = asked()
            for _ in range(3):
                assert await wire.tools() == known
            assert asked() == before


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_26_after_a_restart_upstream_one_initialize_and_then_the_call(tmp_path: Path, era: str) -> None:
    with recording("legacy") as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as hangar:
        async with client(era, hangar.url) as wire:
            assert (await wire.call("up__echo")).text == "{}"
            hellos, calls = len(upstream.asked("initialize")), len(upstream.called("echo"))
            upstream.sessions.clear()
            answers: list[str] = []
            # A modern client's calls at once are connections of their own, and so are what is kept for them upstream.
            at_once = 5 if era == "legacy" else 1

            async def call(number: int) -> None:
                answers.append((await wire.call("up__echo", {"n": number})).text)

            async with anyio.create_task_group() as group:
                for number in range(at_once):
                    group.start_soon(call, number)
            assert sorted(answers) == [json.dumps({"n": number}) for number in range(at_once)]
            assert len(upstream.asked("initialize")) == hellos + 1
            # Each is tried in the old session at most once, and runs in the new one exactly once.
            stale = [
                each
                for each in upstream.called("echo")[calls:]
                if each.header("mcp-session-id") not in upstream.sessions
            ]
            assert len(stale) <= at_once
            assert len(upstream.called("echo")) - calls - len(stale) == at_once


@pytest.mark.parametrize("tool", ["echo", "fails"])
@pytest.mark.parametrize("upstream_era", ERAS)
async def test_pitfall_27_a_call_that_may_have_run_is_not_repeated_unless_the_operator_says_it_may(
    tmp_path: Path, upstream_era: str, tool: str
) -> None:
    # `fails` is marked by the operator; `odd` only by the server itself, which does not suffice.
    provider_of = {"tools": {"idempotent": ["fails"]}}
    with (
        recording(upstream_era) as upstream,
        house(tmp_path, {"up": remote_provider(upstream.url, **provider_of)}) as hangar,
    ):
        async with ModernWire(hangar.url) as wire:
            await wire.call("up__count")
            for name in (tool, "odd"):
                upstream.drop_after_send = 1
                answer = (await wire.call(f"up__{name}")).message
                upstream.drop_after_send = 0
                if name == "fails":
                    assert answer["result"]["content"][0]["text"] == "It went wrong."
                    assert len(upstream.called(name)) == 2
                else:
                    assert failed_with(answer) == "connection_lost"
                    assert len(upstream.called(name)) == 1
            upstream.drop_after_send = 5
            if tool == "fails":
                assert failed_with((await wire.call("up__fails")).message) == "connection_lost"
                assert len(upstream.called("fails")) == 4
        records = hangar.audit_until(lambda all: any(r["type"] == "call.failed" for r in all))
        assert {r["reason"] for r in records if r["type"] == "call.failed"} == {"transport"}


def failed_with(message: dict[str, Any]) -> str:
    return str(message["error"]["data"]["code"])


# -- listing


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_28_a_dead_or_slow_provider_hides_only_itself_and_the_gap_is_marked(
    tmp_path: Path, era: str
) -> None:
    async def never(method: str) -> None:
        await anyio.sleep_forever()

    with recording("modern") as good, recording(server=Server("modern", before=never)) as slow:
        providers = {
            "good": remote_provider(good.url),
            "slow": remote_provider(slow.url),
            "dead": remote_provider("http://127.0.0.1:9/mcp"),
            "broken": subprocess_provider(["false"]),
        }
        with house(tmp_path, providers, expose={"list_timeout": "3s"}) as hangar:
            async with client(era, hangar.url) as wire:
                assert (await wire.call("good__echo")).text == "{}"  # known by now: nothing of it takes time
                result = (await wire.ask("tools/list")).result
                assert {tool["name"].partition("__")[0] for tool in result["tools"]} == {"good"}
                assert set(result["_meta"]["io.mcp-hangar/missing"]) == {"slow", "dead", "broken"}
                assert (await wire.call("good__echo")).text == "{}"


async def test_pitfall_29_a_provider_without_a_listening_stream_is_not_asked_for_one_again_and_again(
    tmp_path: Path,
) -> None:
    with recording("legacy") as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as hangar:
        async with LegacyWire(hangar.url) as wire:
            for _ in range(20):
                await wire.call("up__echo")
            await anyio.sleep(2)  # the time in which a storm would show
        gets = [seen for seen in upstream.seen if seen.verb == "GET"]
        assert len(gets) == len(upstream.asked("initialize"))


@pytest.mark.parametrize("status", [500, 200])
async def test_pitfall_29_a_listening_stream_that_ends_at_once_is_not_opened_in_a_storm(
    tmp_path: Path, status: int
) -> None:
    with recording("legacy") as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as hangar:
        upstream.on_get = status
        async with LegacyWire(hangar.url) as wire:
            await wire.call("up__echo")
            await anyio.sleep(3)  # the time in which a storm would show
            assert (await wire.call("up__echo")).text == "{}"
        assert len([seen for seen in upstream.seen if seen.verb == "GET"]) <= 10


async def test_pitfall_29_a_provider_that_calls_every_list_a_changed_one_starts_no_loop(tmp_path: Path) -> None:
    record = tmp_path / "record"
    provider = subprocess_provider(
        stdio_command("legacy", "--restless"), env={"RECORD": str(record)}, protocol="legacy"
    )
    with house(tmp_path, {"up": provider}) as hangar:
        async with LegacyWire(hangar.url) as wire:
            told: list[Any] = []

            async def listen() -> None:
                head = {**wire._head("", {}), "accept": "text/event-stream"}
                async with wire.http.stream("GET", wire.url, headers=head) as response:
                    async for message in messages(response):
                        told.append(message)

            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                for _ in range(3):
                    await wire.tools()
                await anyio.sleep(4)  # the time in which a loop would show
                group.cancel_scope.cancel()
            assert (await wire.call("up__echo")).text == "{}"
    asked = sum(line.get("method") == "tools/list" for line in read_record(record))
    assert 1 <= asked <= 12, asked
    assert told == []


# -- sessions of clients


async def hello(http: httpx.AsyncClient, url: str) -> httpx.Response:
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    return await http.post(url, json=body, headers={"accept": "application/json, text/event-stream"})


async def test_pitfall_30_sessions_that_nobody_closes_are_bounded_and_idle_ones_end(tmp_path: Path) -> None:
    server = {"session_idle": "8s", "limits": {"sessions_per_caller": 5}}
    with (
        recording("legacy") as upstream,
        house(tmp_path, {"up": remote_provider(upstream.url)}, server=server) as hangar,
    ):
        async with httpx.AsyncClient(timeout=60) as http:
            ids = [(await hello(http, hangar.url)).headers["mcp-session-id"] for _ in range(20)]
            assert len(set(ids)) == 20

            async def status(id: str) -> int:
                head = {"accept": "application/json, text/event-stream", "mcp-session-id": id}
                body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "up__echo"}}
                return (await http.post(hangar.url, json=body, headers=head)).status_code

            assert [await status(id) for id in reversed(ids)] == [200] * 5 + [404] * 15
            # Nobody says goodbye: what was kept for them, here and upstream, goes by itself.
            await until(lambda: not upstream.sessions)
            assert await status(ids[-1]) == 404


# -- names


async def test_pitfall_32_names_fit_and_do_not_change_when_another_provider_comes(tmp_path: Path) -> None:
    long = [f"a_tool_with_quite_a_long_name_that_differs_from_its_neighbour_only_at_the_end_{n}" for n in (1, 2)]
    tools = [*long, "x", "with__two", "dots.and-dashes"]
    first = subprocess_provider(stdio_command("legacy", "--tools", ",".join(tools)))
    second = subprocess_provider(stdio_command("legacy", "--tools", ",".join(tools)))
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    with house(alone, {"a-provider": first}) as hangar:
        async with ModernWire(hangar.url) as wire:
            before = await wire.tools()
    with house(together, {"a-provider": first, "another": second}) as hangar:
        async with ModernWire(hangar.url) as wire:
            after = await wire.tools()
            assert len(set(after)) == len(after) == 10
            assert all(len(name) <= 64 for name in after)
            assert [name for name in after if name.startswith("a-provider__")] == before
            for name in after:
                assert (await wire.call(name, {"n": 1})).text == '{"n": 1}'


# -- what is relayed, value for value


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_33_definitions_arrive_with_everything_their_author_wrote(
    pair: tuple[House, Upstream], era: str
) -> None:
    hangar, _ = pair
    for url, prefix in ((hangar.url, "up__"), (hangar.door("up"), "")):
        async with client(era, url) as wire:
            tools = (await wire.ask("tools/list")).result["tools"]
        assert [tool["name"] for tool in tools] == [prefix + tool["name"] for tool in TOOLS]
        odd = next(tool for tool in tools if tool["name"] == prefix + "odd")
        assert json.dumps(odd) == json.dumps({**RICH, "name": prefix + "odd"})


ARGUMENTS = '{"b":1.0,"a":1,"big":123456789012345678901234567890,"e":1E+2,"x":0.10000000000000000555,"é":"\\u00e9/"}'


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_33_spelling_order_and_unknown_members_survive_both_ways(
    pair: tuple[House, Upstream], era: str
) -> None:
    hangar, upstream = pair
    async with client(era, hangar.url) as wire:
        answer = await wire.bytes_of("up__odd", ARGUMENTS.encode())
    for member in ODD_RESULT[1:-1].split(b'},"x-unknown"')[0].split(b',"structuredContent":'):
        assert member in answer, (member, answer)
    assert b'"x-unknown":{"kept":true}' in answer
    assert b'"arguments":' + ARGUMENTS.encode() in upstream.called("odd")[-1].body


async def test_pitfall_33_a_legacy_provider_is_told_that_it_is_initialized_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    with recording("legacy") as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as hangar:
        async with ModernWire(hangar.url) as wire:
            await wire.call("up__echo")
        mine = {seen.header("mcp-session-id") for seen in upstream.called("echo")}
        methods = [seen.method for seen in upstream.seen if seen.header("mcp-session-id") in mine and seen.method]
        assert methods[0] == "notifications/initialized"
        assert methods.count("notifications/initialized") == 1


async def test_pitfall_33_a_tools_own_error_is_told_and_recorded_as_one_and_trips_nothing(
    pair: tuple[House, Upstream],
) -> None:
    hangar, _ = pair
    async with ModernWire(hangar.url) as wire:
        for _ in range(10):
            result = (await wire.call("up__fails")).result
            assert result["isError"] and result["content"][0]["text"] == "It went wrong."
        assert (await wire.call("up__echo")).text == "{}"
    records = hangar.audit_until(lambda all: sum(r["type"] == "call.completed" for r in all) == 11)
    outcomes = [r["outcome"] for r in records if r["type"] == "call.completed"]
    assert outcomes == ["tool_error"] * 10 + ["ok"]


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_33_only_what_is_served_is_advertised(pair: tuple[House, Upstream], era: str) -> None:
    hangar, _ = pair
    async with client(era, hangar.door("up")) as wire:
        if era == "modern":
            capabilities = (await wire.ask("server/discover")).result["capabilities"]
        else:
            capabilities = (await hello(wire.http, hangar.door("up"))).json()["result"]["capabilities"]
    assert set(capabilities) == {"tools"}


async def test_pitfall_36_what_a_provider_or_hangar_logs_never_gets_between_the_messages(tmp_path: Path) -> None:
    noisy = [sys.executable, "-c", "import os,sys; print('Starting…', flush=True); os.execv(sys.argv[1], sys.argv[1:])"]
    providers = {"up": subprocess_provider([*noisy, *stdio_command()])}
    async with StdioWire(tmp_path, providers, audit={"sink": "stdout"}) as wire:
        assert "up__junk" in await wire.tools()
        assert (await wire.call("up__junk")).text == "after the junk"
        assert (await wire.call("up__stderr")).text == "after the flood"
        assert (await wire.call("up__echo")).text == "{}"
    assert wire.said
    for line in wire.said:
        assert json.loads(line)["jsonrpc"] == "2.0"
    assert '"call.completed"' in (tmp_path / "stdio.log").read_text()


TRACES = [f"00-{letter * 32}-{'1' * 16}-01" for letter in "ab"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("header", "meta"), [(True, True), (True, False), (False, True), (False, False)])
async def test_pitfall_38_one_trace_goes_in_and_out_and_meta_wins_over_the_header(
    pair: tuple[House, Upstream], era: str, header: bool, meta: bool
) -> None:
    hangar, upstream = pair
    headers = {"traceparent": TRACES[0]} if header else {}
    more: dict[str, Any] = {"_meta": {"traceparent": TRACES[1], "tracestate": "vendor=1"}} if meta else {}
    async with client(era, hangar.url, headers=headers) as wire:
        await wire.call("up__echo", {}, **more)
    seen = upstream.called("echo")[-1]
    told = seen.message["params"]["_meta"]["traceparent"]
    expected = TRACES[1] if meta else TRACES[0] if header else ""
    if expected:
        assert told[:36] == expected[:36] and told[52:] == expected[52:]
        assert told != expected  # a span of our own in between
    if meta:
        assert seen.message["params"]["_meta"]["tracestate"] == "vendor=1"
    assert seen.header("traceparent") == told
