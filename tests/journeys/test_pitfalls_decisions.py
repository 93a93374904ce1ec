# SPDX-License-Identifier: MIT
"""How systems like this one failed: one decision for listing and calling, on what is forwarded, recorded as it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.house import House, house, remote_provider, subprocess_provider
from tests.journeys.doors import StdioWire, rest, until
from tests.journeys.upstream import TOOLS, Server, Upstream, read_record, recording, stdio_command
from tests.journeys.wire import LegacyWire, ModernWire, client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ERAS = ["legacy", "modern"]
LONG = "a_tool_whose_name_says_all_that_there_is_to_say_about_what_it_does_and_then_deletes"


RULES = {"allow": ["e*", "count", "o*", "a_tool*"], "deny": ["odd", "*_deletes"]}
MAY = {"echo", "count"}
MAY_NOT = {"odd", LONG, "sleep", "fails", "no_such_tool"}


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Upstream]]:
    """A Hangar whose one provider offers far more than its rules let through."""
    folder = tmp_path_factory.mktemp("ruled")
    server = Server("modern", tools=[*TOOLS, {"name": LONG, "inputSchema": {"type": "object"}}])
    with recording(server=server) as upstream:
        provider = remote_provider(upstream.url, tools=RULES)
        with house(folder, {"up": provider}, expose={"hangar_tools": "read"}) as opened:
            yield opened, upstream


@asynccontextmanager
async def every_door(hangar: House, upstream: Upstream, folder: Path) -> AsyncIterator[dict[str, tuple[str, Any]]]:
    """Each way in: the prefix that names have there, and the wire."""
    async with AsyncExitStack() as stack:
        behind = {"up": remote_provider(upstream.url, tools=RULES)}
        yield {
            "/mcp modern": ("up__", await stack.enter_async_context(ModernWire(hangar.url))),
            "/mcp legacy": ("up__", await stack.enter_async_context(LegacyWire(hangar.url))),
            "/mcp/up modern": ("", await stack.enter_async_context(ModernWire(hangar.door("up")))),
            "/mcp/up legacy": ("", await stack.enter_async_context(LegacyWire(hangar.door("up")))),
            "--stdio": ("up__", await stack.enter_async_context(StdioWire(folder, behind))),
        }


async def test_pitfall_11_what_is_listed_can_be_called_and_nothing_else_at_every_door(
    ruled: tuple[House, Upstream], tmp_path: Path
) -> None:
    hangar, upstream = ruled
    async with every_door(hangar, upstream, tmp_path) as doors:
        for door, (prefix, wire) in doors.items():
            listed = {name for name in await wire.tools() if not name.startswith("hangar_")}
            assert listed == {prefix + name for name in MAY}, door
            for name in MAY:
                assert not (await wire.call(prefix + name, {"x": 1})).result.get("isError"), (door, name)
            for name in MAY_NOT:
                answer = (await wire.call(prefix + name, {"x": 1})).message
                assert "error" in answer or answer["result"]["isError"], (door, name)
        # In a batch, and by search.
        wire = doors["/mcp modern"][1]
        found = (await wire.call("hangar_tools")).result["structuredContent"]["tools"]
        assert {row["tool"] for row in found} == {f"up__{name}" for name in MAY}
        calls = [{"tool": f"up__{name}", "arguments": {}} for name in (*MAY, *MAY_NOT)]
        done = (await wire.call("hangar_invoke", {"calls": calls})).result["structuredContent"]["results"]
        ran = ["result" in each and not each["result"].get("isError") for each in done]
        assert ran == [True] * len(MAY) + [False] * len(MAY_NOT)
    async with rest(hangar) as admin:
        for name in MAY:
            assert (await admin.post("/calls", json={"provider": "up", "tool": name})).status_code == 200
        for name in MAY_NOT:
            assert (await admin.post("/calls", json={"provider": "up", "tool": name})).status_code >= 400
    assert {seen.message["params"]["name"] for seen in upstream.asked("tools/call")} <= MAY


async def test_pitfall_12_a_header_that_names_another_tool_than_the_body_is_rejected(
    ruled: tuple[House, Upstream],
) -> None:
    hangar, upstream = ruled
    before = len(upstream.asked("tools/call"))
    async with ModernWire(hangar.url) as wire:
        for body, header in (("up__odd", "up__echo"), ("up__echo", "up__odd"), ("up__echo", "")):
            params = wire._dress({"name": body, "arguments": {}})
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            head = {**wire._head("tools/call", params), "mcp-name": header}
            answer = await wire.http.post(hangar.url, json=message, headers=head)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020), (body, header)
    assert len(upstream.asked("tools/call")) == before


META = (
    '"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
    '"io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"}'
)


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/call","params":{"name":"up__echo","_meta":{M}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up__odd","name":"up__echo","_meta":{M}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"n\\u0061me":"up__odd","name":"up__echo","_meta":{M}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up__echo","_meta":{M,"a":1,"a":2}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up__echo","_meta":{M}},"params":{}}',
        '{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"up__echo","_meta":{M}}}',
    ],
)
async def test_pitfall_12_a_key_said_twice_where_hangar_decides_is_rejected(
    ruled: tuple[House, Upstream], body: str
) -> None:
    hangar, upstream = ruled
    before = len(upstream.asked("tools/call"))
    async with ModernWire(hangar.url) as wire:
        head = {**wire._head("tools/call", {"name": "up__echo"}), "content-type": "application/json"}
        answer = await wire.http.post(hangar.url, content=body.replace("{M", "{" + META), headers=head)
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (400, "duplicate_key")
    assert len(upstream.asked("tools/call")) == before


@pytest.mark.parametrize(
    "params",
    [
        '{"name":"up__odd","name":"up__echo"}',
        '{"name":"up__echo","arguments":{},"arguments":{}}',
        '{"name":"up__echo","_meta":{"progressToken":1,"progressToken":2}}',
    ],
)
async def test_pitfall_12_a_key_said_twice_is_rejected_in_a_session_too(
    ruled: tuple[House, Upstream], params: str
) -> None:
    hangar, upstream = ruled
    before = len(upstream.asked("tools/call"))
    async with LegacyWire(hangar.url) as wire:
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
        head = {**wire._head("tools/call", {}), "content-type": "application/json"}
        answer = await wire.http.post(hangar.url, content=body, headers=head)
        assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (400, "duplicate_key")
        assert len(upstream.asked("tools/call")) == before
        assert (await wire.call("up__echo")).text == "{}"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"calls":[{"tool":"up__odd","tool":"up__echo"}]}',
        '{"calls":[{"tool":"up__echo","arguments":{},"arguments":{"x":1}}]}',
        '{"calls":[],"calls":[{"tool":"up__echo"}]}',
    ],
)
async def test_pitfall_12_a_key_said_twice_in_a_batch_calls_nothing(
    ruled: tuple[House, Upstream], arguments: str
) -> None:
    hangar, upstream = ruled
    before = len(upstream.asked("tools/call"))
    async with ModernWire(hangar.url) as wire:
        params = wire._dress({"name": "hangar_invoke", "arguments": "HERE"})
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        head = {**wire._head("tools/call", params), "content-type": "application/json"}
        answer = await wire.http.post(hangar.url, content=body.replace('"HERE"', arguments), headers=head)
    assert "more than once" in answer.text
    assert len(upstream.asked("tools/call")) == before


@pytest.mark.parametrize("twice", ["mcp-name", "mcp-method", "mcp-protocol-version", "host", "authorization"])
async def test_pitfall_12_a_routing_header_said_twice_is_rejected(ruled: tuple[House, Upstream], twice: str) -> None:
    hangar, upstream = ruled
    before = len(upstream.asked("tools/call"))
    async with ModernWire(hangar.url) as wire:
        body = wire.raw("tools/call", {"name": "up__echo", "arguments": {}}, 1)
        head, _, rest_of_it = body.partition(b"\r\n\r\n")
        line = next((line for line in head.split(b"\r\n") if line.startswith(twice.encode())), b"authorization: x")
        more = [line] if twice in head.decode() else [line, line]
        stream = await anyio.connect_tcp("127.0.0.1", hangar.port)
        async with stream:
            await stream.send(b"\r\n".join([head, *more]) + b"\r\n\r\n" + rest_of_it)
            answer = await stream.receive()
    assert answer.split(b" ")[1] == b"400"
    assert len(upstream.asked("tools/call")) == before


async def test_pitfall_13_the_policy_sees_the_name_that_is_forwarded_however_it_was_spelt(
    ruled: tuple[House, Upstream],
) -> None:
    hangar, upstream = ruled
    async with ModernWire(hangar.url) as wire:
        everything = (await wire.call("up__" + LONG)).message
        shortened = [name for name in await wire.tools() if name.startswith("up__a_tool")]
    assert "error" in everything
    assert shortened == []
    assert not upstream.called(LONG)
    exposed = "up__odd"
    async with ModernWire(hangar.url) as wire:
        params = wire._dress({"name": exposed, "arguments": {}})
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        head = {**wire._head("tools/call", {"name": exposed}), "content-type": "application/json"}
        escaped = message.replace('"up__odd"', '"up__\\u006fdd"')
        answer = (await wire.http.post(hangar.url, content=escaped, headers=head)).json()
    assert "error" in answer or answer["result"]["isError"]
    assert not upstream.called("odd")


async def test_pitfall_14_a_call_that_waited_for_a_cold_start_is_judged_again_before_it_is_sent(
    tmp_path: Path,
) -> None:
    record = tmp_path / "record"
    command = stdio_command("legacy", "--slow-start", "25")  # far longer than it takes to stop it meanwhile
    provider = subprocess_provider(command, env={"RECORD": str(record)}, protocol="legacy")
    results: list[Any] = []
    with house(tmp_path, {"up": provider}) as hangar:
        async with ModernWire(hangar.url) as wire, rest(hangar) as admin, anyio.create_task_group() as group:

            async def call() -> None:
                results.append((await wire.call("up__echo")).message)

            group.start_soon(call)
            await until(lambda: any(line.get("method") == "initialize" for line in read_record(record)))
            assert (await admin.post("/providers/up/stop")).status_code == 200
    assert "error" in results[0] or results[0]["result"]["isError"]
    assert not any(line.get("method") == "tools/call" for line in read_record(record))


async def test_pitfall_19_calls_at_the_same_time_and_inside_a_batch_keep_who_made_them(
    ruled: tuple[House, Upstream],
) -> None:
    hangar, _ = ruled
    parents = {f"client-{number}": f"00-{number:032x}-00f067aa0ba902b7-01" for number in range(1, 9)}

    async def go(name: str, era: str) -> None:
        async with client(era, hangar.url, name=name) as wire:
            calls = [{"tool": "up__echo", "arguments": {"who": name, "n": n}} for n in range(4)]
            meta = {"traceparent": parents[name]}
            await wire.call("hangar_invoke", {"calls": calls}, _meta=meta)
            await wire.call("up__count", {"who": name}, _meta=meta)

    async with anyio.create_task_group() as group:
        for number, name in enumerate(parents):
            group.start_soon(go, name, ERAS[number % 2])

    def mine(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
        return [r for r in records if r["type"] == "call.admitted" and r.get("client") == f"{name}/1"]

    records = hangar.audit_until(lambda told: all(len(mine(told, name)) == 6 for name in parents))
    for name, parent in parents.items():
        assert {record["trace_id"] for record in mine(records, name)} == {parent[3:35]}
        assert len({record["session_id"] for record in mine(records, name)}) == 1
        assert all(record["caller"] for record in mine(records, name))


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_22_a_denial_is_no_success_on_the_wire_nor_in_the_record(
    ruled: tuple[House, Upstream], era: str
) -> None:
    hangar, _ = ruled
    name = f"denied-{era}"
    async with client(era, hangar.url, name=name) as wire:
        answer = (await wire.call("up__odd")).message
    assert "error" in answer or answer["result"]["isError"]

    def refused(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [r for r in records if r.get("client") == f"{name}/1"]

    records = hangar.audit_until(lambda all: bool(refused(all)))
    [denial] = refused(records)
    assert denial["type"] == "call.denied" and denial["policy_id"] == "providers.up.tools.deny" and denial["reason"]
    assert [r["type"] for r in records if r.get("call_id") == denial["call_id"]] == ["call.denied"]
    async with rest(hangar) as admin:

        async def denied() -> set[str]:
            rows = (await admin.get("/calls", params={"outcome": "denied", "name": "odd"})).json()["calls"]
            return {row["id"] for row in rows}

        with anyio.fail_after(60):  # the view may learn of it a moment later than the file
            while denial["call_id"] not in await denied():
                pass
        for wrong in ({"outcome": "ok"}, {"state": "completed"}):
            assert (await admin.get("/calls", params={**wrong, "name": "odd"})).json()["calls"] == []
