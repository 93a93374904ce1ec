# SPDX-License-Identifier: MIT
"""The agents' door on stdin and stdout: lines in, lines out, nothing else, and nobody left waiting."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.server import mcp_stdio
from mcp_hangar.server.mcp_stdio import StdioDoor
from tests.fakes import Server
from tests.inside import CONTENT, PATIENCE, Inside, a_server, inside
from tests.journeys.wire import LEGACY, ModernWire

pytestmark = pytest.mark.anyio
HELLO = {"protocolVersion": LEGACY, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}
BODY_BYTES = 64 * 1024
BATCH = 10


class Terminal:
    """The client's end of the two pipes."""

    def __init__(self, house: Inside, write: int, reader: asyncio.StreamReader) -> None:
        self.house, self.fd, self.reader = house, write, reader
        self.early: list[Any] = []

    def send(self, *messages: Any) -> None:
        for message in messages:
            os.write(self.fd, (message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")

    def ask(self, id: Any, method: str, params: dict[str, Any] | None = None) -> None:
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}})

    def tell(self, method: str, params: dict[str, Any] | None = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params or {}})

    async def line(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self.reader.readline())

    async def answer(self, id: Any) -> Any:
        """The message with this id; what came before it is kept in `early`."""
        while (message := await self.line()).get("id", "\0") != id or "method" in message:
            self.early.append(message)
        return message

    async def initialize(self, version: str = LEGACY) -> Any:
        self.ask("hello", "initialize", {**HELLO, "protocolVersion": version})
        answer = await self.answer("hello")
        self.tell("notifications/initialized")
        return answer

    def modern(self, id: Any, method: str, **params: Any) -> None:
        self.ask(id, method, ModernWire("")._dress(params))


@asynccontextmanager
async def terminal(folder: Path, stub: Server | None = None, **more: Any) -> AsyncIterator[Terminal]:
    async with inside(folder, stub, **more) as house:
        door = StdioDoor(house.house.methods, body_bytes=BODY_BYTES, depth=64, batch=BATCH)
        stdin, write = os.pipe()
        read, stdout = os.pipe()
        running = asyncio.create_task(door.run(stdin, stdout))
        reader = asyncio.StreamReader(limit=1 << 20)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
        )
        open_ = Terminal(house, write, reader)
        try:
            yield open_
        finally:
            if open_.fd >= 0:
                os.close(open_.fd)
            await asyncio.wait_for(running, PATIENCE)
            assert not door._tasks and not door._flights and not door._listening
            transport.close()
            await asyncio.sleep(0.01)  # pipes close with the next turns of the loop


async def test_a_legacy_conversation(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        hello = await one.initialize()
        assert hello["result"]["protocolVersion"] == LEGACY
        one.ask(1, "tools/list")
        assert "time__echo" in [tool["name"] for tool in (await one.answer(1))["result"]["tools"]]
        one.ask("1", "tools/call", {"name": "time__echo", "arguments": {"text": "a\nb"}})
        assert (await one.answer("1"))["result"]["content"][0]["text"] == "a\nb"
        one.ask(2, "ping")
        assert (await one.answer(2))["result"] == {}
        await one.house.all_over()


async def test_a_modern_conversation(tmp_path: Path) -> None:
    async with terminal(tmp_path, a_server(Era.modern)) as one:
        one.modern(1, "server/discover")
        assert (await one.answer(1))["result"]["supportedVersions"] == ["2026-07-28"]
        one.modern(2, "tools/call", name="time__echo", arguments={})
        assert (await one.answer(2))["result"]["content"] == CONTENT["content"]
        one.ask(3, "tools/list")
        assert "_meta lacks" in (await one.answer(3))["error"]["message"]
        assert not one.house.house.sessions.all()


async def test_a_second_initialize_is_refused_and_the_session_stays(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()
        one.ask(1, "initialize", HELLO)
        assert (await one.answer(1))["error"]["code"] == -32600
        one.ask(2, "tools/call", {"name": "time__echo"})
        assert "result" in await one.answer(2)
        assert len(one.house.house.sessions.all()) == 1


async def test_answers_go_out_as_they_come(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()
        one.ask(1, "tools/call", {"name": "time__silent"})
        one.ask(2, "tools/call", {"name": "time__echo"})
        assert (await one.line())["id"] == 2
        one.house.connection.answer(await one.house.asked("silent"), {"result": CONTENT})
        assert (await one.line())["id"] == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":5,"method":"no/such"}', -32601),
        (b"\xff\xfe", -32700),
        (b'"text"', -32600),
        (b'{"jsonrpc":"2.0","id":5,"id":6,"method":"ping"}', -32600),
    ],
)
async def test_what_is_no_request_is_answered_and_the_conversation_goes_on(
    tmp_path: Path, line: bytes, code: int
) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()
        one.send(b"", b"   ", line)
        assert (await one.line())["error"]["code"] == code
        one.ask(9, "ping")
        assert (await one.line())["id"] == 9


async def test_a_line_over_the_bound_is_skipped_whole_however_it_comes(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()

        def write() -> None:
            for _ in range(40):
                os.write(one.fd, b"x" * 8192)
            os.write(one.fd, b"\n")

        await asyncio.to_thread(write)
        one.ask(9, "ping")
        assert (await one.line())["error"]["data"]["code"] == "body_too_large"
        assert (await one.line())["id"] == 9, "nothing of the long line was taken for a message"


async def test_a_cancelled_request_is_not_answered(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()
        one.ask("mine", "tools/call", {"name": "time__silent"})
        id = await one.house.asked("silent")
        one.tell("notifications/cancelled", {"requestId": "other"})
        one.tell("notifications/cancelled", {"requestId": "mine", "reason": "enough"})
        await one.house.until(lambda: one.house.connection.exchanges[id].failed)
        (end,) = await one.house.all_over()
        assert end["reason"] == "cancelled"
        one.ask(2, "ping")
        assert (await one.line())["id"] == 2


async def test_a_modern_client_cancels_by_notification_too(tmp_path: Path) -> None:
    async with terminal(tmp_path, a_server(Era.modern)) as one:
        one.modern(1, "tools/call", name="time__silent", arguments={})
        id = await one.house.asked("silent")
        one.tell("notifications/cancelled", {"requestId": 1})
        await one.house.until(lambda: one.house.connection.exchanges[id].failed)
        await one.house.all_over()
        one.modern(2, "tools/call", name="time__echo", arguments={})
        assert (await one.line())["id"] == 2


async def test_a_call_over_its_deadline_is_answered(tmp_path: Path) -> None:
    async with terminal(tmp_path, provider={"limits": {"call_timeout": "300ms"}}) as one:
        await one.initialize()
        one.ask(1, "tools/call", {"name": "time__silent"})
        assert (await one.answer(1))["error"]["data"]["code"] == "timeout"


async def test_a_question_goes_out_and_its_answer_comes_in(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()
        one.ask(1, "tools/call", {"name": "time__asks"})
        question = await one.line()
        assert question["method"] == "elicitation/create"
        one.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
        told = await one.house.connection.posted_one(lambda message: message.get("id") == 77)
        assert told["result"] == {"action": "decline"}
        one.house.connection.answer(one.house.connection.last, {"result": CONTENT})
        assert "result" in await one.answer(1)
        await one.house.all_over()


async def test_calls_that_all_wait_for_answers_do_not_keep_the_answers_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_stdio, "MOST_AT_ONCE", 2)
    async with terminal(tmp_path) as one:
        await one.initialize()
        for id in (1, 2):
            one.ask(id, "tools/call", {"name": "time__asks"})
        asked = [await one.line(), await one.line()]
        one.ask(3, "tools/call", {"name": "time__echo"})
        assert (await one.answer(3))["error"]["data"]["code"] == "limit"
        for question in asked:
            one.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
        await one.house.until(lambda: sum("result" in each for each in one.house.connection.posted) == 2)
        for call in one.house.connection.calls():
            one.house.connection.answer(call["id"], {"result": CONTENT})
        assert {(await one.line())["id"], (await one.line())["id"]} == {1, 2}
        one.ask(4, "tools/call", {"name": "time__echo"})
        assert "result" in await one.answer(4)


async def test_when_stdin_closes_what_is_under_way_is_cancelled(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()
        one.ask(1, "tools/call", {"name": "time__silent"})
        id = await one.house.asked("silent")
        os.close(one.fd)
        one.fd = -1
        await one.house.until(lambda: one.house.connection.exchanges[id].failed)
        assert [end["reason"] for end in await one.house.all_over()] == ["cancelled"]


async def test_a_subscription_is_acknowledged_told_and_ended_by_a_cancel(tmp_path: Path) -> None:
    async with terminal(tmp_path, a_server(Era.modern)) as one:
        one.modern("sub", "subscriptions/listen", notifications={"toolsListChanged": True})
        acknowledged = await one.line()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        one.house.house.subscriptions.fleet_changed()
        changed = await one.line()
        assert changed["method"] == "notifications/tools/list_changed"
        assert changed["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
        one.tell("notifications/cancelled", {"requestId": "sub"})
        await one.house.until(lambda: not one.house.house.subscriptions._ears)
        one.modern(2, "tools/call", name="time__echo", arguments={})
        assert (await one.line())["id"] == 2


async def test_a_subscription_gets_its_result_when_hangar_stops(tmp_path: Path) -> None:
    async with terminal(tmp_path, a_server(Era.modern)) as one:
        one.modern("sub", "subscriptions/listen", notifications={"toolsListChanged": True})
        assert (await one.line())["method"] == "notifications/subscriptions/acknowledged"
        one.house.house.subscriptions.fleet_changed()
        assert (await one.line())["method"] == "notifications/tools/list_changed"
        stopping = asyncio.create_task(one.house.house.stop(PATIENCE))
        end = await one.line()
        assert end["id"] == "sub" and end["result"]["resultType"] == "complete"
        assert end["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
        await stopping
        assert not one.house.house.subscriptions._ears


def a_request(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def test_a_batch_is_answered_by_one_line_and_each_of_its_calls_is_recorded(tmp_path: Path) -> None:
    async with terminal(tmp_path, provider={"tools": {"deny": ["fails"]}}) as one:
        await one.initialize("2025-03-26")
        one.send(
            [
                a_request(1, "ping"),
                a_request("1", "tools/call", name="time__echo", arguments={"text": "one of many"}),
                a_request(2, "tools/call", name="time__fails", arguments={}),
                {"jsonrpc": "2.0", "method": "notifications/initialized"},
                {"jsonrpc": "2.0", "id": 3, "method": 7},
                a_request(4, "initialize", **HELLO),
                a_request(5, "no/such"),
            ]
        )
        found = {repr(each["id"]): each for each in await one.line()}
        assert found["1"]["result"] == {}
        assert found["'1'"]["result"]["content"][0]["text"] == "one of many"
        codes = {id: answer["error"]["code"] for id, answer in found.items() if "error" in answer}
        assert codes == {"2": -32602, "3": -32600, "4": -32600, "5": -32601}
        assert len(found) == 6
        assert [end["name"] for end in await one.house.all_over()] == ["echo"]
        assert [event["name"] for event in await one.house.record("call.denied")] == ["fails"]


async def test_what_needs_no_answer_makes_no_line_of_a_batch(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize("2025-03-26")
        one.send([a_request("mine", "tools/call", name="time__silent", arguments={})])
        await one.house.asked("silent")
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "mine"}}
        one.send([{"jsonrpc": "2.0", "method": "notifications/initialized"}, cancel])
        assert [end["reason"] for end in await one.house.all_over()] == ["cancelled"]
        one.ask(9, "ping")
        assert (await one.line())["id"] == 9


async def test_a_question_of_a_call_in_a_batch_is_answered_by_a_batch(tmp_path: Path) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize("2025-03-26")
        one.send([a_request(1, "tools/call", name="time__asks", arguments={}), a_request(2, "ping")])
        question = await one.line()
        assert question["method"] == "elicitation/create"
        one.send([{"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}])
        told = await one.house.connection.posted_one(lambda message: message.get("id") == 77)
        assert told["result"] == {"action": "decline"}
        one.house.connection.answer(one.house.connection.last, {"result": CONTENT})
        assert [each["id"] for each in await one.line()] == [1, 2]


@pytest.mark.parametrize(
    ("batch", "code"),
    [(b"[]", -32600), (b"[1", -32700), (b"[%b]" % b",".join([b"{}"] * (BATCH + 1)), -32600)],
)
async def test_what_is_no_batch_is_refused_whole(tmp_path: Path, batch: bytes, code: int) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize("2025-03-26")
        one.send(batch)
        answer = await one.line()
        assert (answer["id"], answer["error"]["code"]) == (None, code)


async def test_a_defect_is_answered_with_a_reference_and_nothing_of_its_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with terminal(tmp_path) as one:
        await one.initialize()

        async def broken(*_: object) -> None:
            raise KeyError("a secret thing")

        monkeypatch.setattr(one.house.house.methods, "answer", broken)
        one.ask(1, "tools/list")
        answer = await one.answer(1)
        assert answer["error"]["code"] == -32603 and "secret" not in json.dumps(answer)
        monkeypatch.undo()
        one.ask(2, "ping")
        assert (await one.answer(2))["result"] == {}
