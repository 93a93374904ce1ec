# SPDX-License-Identifier: MIT
"""The lane beside uvicorn's way: who gets on it, and that nothing but its speed tells it from the other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.server.doors import Doors
from mcp_hangar.server.http_head import Heads
from mcp_hangar.server.listener import HEAD_SECONDS, KEEP_ALIVE, HangarProtocol
from tests.inside import CONTENT, PATIENCE, inside
from tests.server.peers import Peer, body, head, peer, request, said

pytestmark = pytest.mark.anyio


def ours(one: Peer) -> HangarProtocol:
    """The other end of this client's connection."""
    name = one.writer.get_extra_info("sockname")
    (found,) = (each for each in HangarProtocol.open_connections if each.client == name)
    return found


async def warm(one: Peer, tool: str = "echo", **arguments: Any) -> HangarProtocol:
    """Until requests like this one take the lane."""
    for _ in range(2):
        one.send(request(tool, **arguments))
        await one.answer()
    connection = ours(one)
    assert connection.turn is not None, "it did not take the lane"
    return connection


async def test_the_second_request_alike_takes_the_lane_and_is_answered_alike(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request(text="x"))
        first = await one.answer()
        assert ours(one).turn is None
        one.send(request(text="y"))
        second = await one.answer()
        assert ours(one).turn is not None
        assert first[:2] == second[:2]
        assert said(second) == json.loads(json.dumps(said(first)).replace('"x"', '"y"'))
        assert [call["params"]["arguments"] for call in house.connection.calls()] == [{"text": "x"}, {"text": "y"}]
        assert len(await house.all_over()) == 2


async def test_another_connection_takes_the_lane_at_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one, peer(house) as two:
        await warm(one)
        two.send(request())
        assert (await two.answer())[0] == 200
        assert ours(two).turn is not None


async def test_a_request_may_be_cut_anywhere(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        await warm(one)
        whole = request()
        for cut in range(1, len(whole)):
            one.send(whole[:cut])
            await house.until(lambda: ours(one).since)
            one.send(whole[cut:])
            assert (await one.answer())[0] == 200, cut
        assert len(await house.all_over()) == len(whole) + 1


async def test_requests_sent_without_waiting_are_answered_in_order(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        await warm(one, "echo", text="1")
        one.send(b"".join(request("echo", id, text=str(id)) for id in range(1, 8)) + request("fails", 9))
        answers = [said(await one.answer()) for _ in range(8)]
        assert [answer["id"] for answer in answers] == [*range(1, 8), 9]
        assert [answer["result"]["content"][0]["text"] for answer in answers[:7]] == [str(id) for id in range(1, 8)]
        assert answers[7]["result"]["isError"]


async def test_a_client_that_reads_late_gets_every_answer(tmp_path: Path) -> None:
    text = "x" * 200_000
    async with inside(tmp_path) as house, peer(house) as one:
        await warm(one, text=text)
        for id in range(1, 9):
            one.send(request("echo", id, text=text))
        await house.until(lambda: ours(one).flow.write_paused or len(house.connection.calls()) == 10)
        answers = [said(await one.answer()) for _ in range(8)]
        assert [answer["id"] for answer in answers] == list(range(1, 9))
        assert all(answer["result"]["content"][0]["text"] == text for answer in answers)


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_client_that_leaves_ends_its_call_and_is_no_error_of_ours(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent"))
        id = await house.asked("silent")
        house.connection.answer(id, {"result": CONTENT})
        await one.answer()
        one.send(request("silent", 2))
        await house.until(lambda: len(house.connection.calls()) == 2)
        connection = ours(one)
        assert connection.turn is not None
        one.writer.close() if way == "close" else one.writer.transport.abort()
        ends = await house.all_over()
        assert [end.get("reason") for end in ends] == [None, "cancelled"]
        await house.until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "lane"])
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert "error" not in capsys.readouterr().out


async def test_an_answer_with_something_before_it_is_a_stream_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent"))
        id = await house.asked("silent")
        house.connection.answer(id, {"result": CONTENT})
        await one.answer()
        content = json.loads(body("silent", 5))
        content["params"]["_meta"]["progressToken"] = "p"
        text = json.dumps(content).encode()
        for _ in range(2):  # the second one's head is known
            one.send(head(f"content-length: {len(text)}", tool="silent") + text)
            calls = len(house.connection.calls())
            await house.until(lambda calls=calls: len(house.connection.calls()) > calls)  # type: ignore[misc]
            id = house.connection.last
            token = house.connection.sent[-1]["params"]["_meta"]["progressToken"]
            house.connection.relate(
                id, {"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}
            )
            house.connection.answer(id, {"result": CONTENT})
            async with asyncio.timeout(PATIENCE):
                said_head = await one.reader.readuntil(b"\r\n\r\n")
                stream = await one.reader.readuntil(b"0\r\n\r\n")
            assert b"text/event-stream" in said_head
            assert b"notifications/progress" in stream
            assert b'"id":5' in stream
        assert ours(one).turn is not None
        one.send(request("echo", 6))
        assert said(await one.answer())["id"] == 6
        await house.all_over()


async def test_what_is_wrong_on_the_lane_is_answered_as_elsewhere(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        for wrong in (b"{", b"[]", b'{"jsonrpc":"2.0","id":1,"id":1,"method":"tools/call","params":{}}', b"\xff\xfe"):
            async with peer(house) as one, peer(house) as other:
                padded = wrong + b" " * (len(body()) - len(wrong))
                other.send(head(f"content-length: {len(padded)}", "x-other: 1") + padded)
                elsewhere = await other.answer()
                await warm(one)
                one.send(head(f"content-length: {len(padded)}") + padded)
                assert await one.answer() == elsewhere
                assert elsewhere[0] == 400
                one.send(request())
                assert (await one.answer())[0] == 200


async def test_a_head_that_is_refused_is_never_known(tmp_path: Path) -> None:
    async with inside(tmp_path, token="sesame") as house, peer(house) as one:
        content = body()
        good = head(f"content-length: {len(content)}", "authorization: Bearer sesame")
        for refused, status in (
            (good.replace(b"sesame", b"sesamf"), 401),
            (head(f"content-length: {len(content)}"), 401),
            (good.replace(b"host: 127.0.0.1", b"host: evil.example"), 421),
            (good.replace(b"application/json\r\n", b"text/plain\r\n", 1), 415),
        ):
            for _ in range(2):
                one.send(refused + content)
                assert (await one.answer())[0] == status
            assert house.endpoint.known == {}
        for _ in range(2):
            one.send(good + content)
            assert (await one.answer())[0] == 200
        assert list(house.endpoint.known) == [good]


@pytest.mark.parametrize(
    "line",
    [
        "traceparent: 00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "traceparent: 01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "connection: close",
        "connection: upgrade",
        "expect: 100-continue",
        "te: trailers",
        "x-long: " + "x" * 2048,
    ],
)
async def test_a_head_that_will_not_come_again_or_says_more_is_not_remembered(tmp_path: Path, line: str) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body()
        one.send(head(f"content-length: {len(content)}", line) + content)
        async with asyncio.timeout(PATIENCE):
            await one.reader.readuntil(b"200 OK")
        assert house.endpoint.known == {}


async def test_a_client_that_traces_takes_the_lane_and_each_call_keeps_its_own_trace(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body()
        traces = [f"{number:032x}" for number in (1, 2, 3)]
        for trace in traces:
            line = f"traceparent: 00-{trace}-00000000000000ff-01"
            one.send(head(line, f"content-length: {len(content)}") + content)
            assert (await one.answer())[0] == 200
        assert ours(one).turn is not None
        assert list(house.endpoint.known) == [head(f"content-length: {len(content)}")]
        admitted = await house.record("call.admitted")
        assert [event["trace_id"] for event in admitted] == traces
        sent = [call["params"]["_meta"]["traceparent"] for call in house.connection.calls()]
        assert [trace[3:35] for trace in sent] == traces
        one.send(request())  # without one it is the same head, and has a trace of its own
        await one.answer()
        assert (await house.record("call.admitted"))[-1]["trace_id"] not in traces


@pytest.mark.parametrize(
    "lines",
    [
        ("traceparent: 00-{0}-00000000000000ff-01", "traceparent: 00-{0}-00000000000000ff-01"),
        ("traceparent: 00-{0}-00000000000000ff-01", "Traceparent: 00-{0}-00000000000000ff-01"),
        ("x-other: 1\r\ntraceparent: 00-{0}-00000000000000ff-01 ",),
        ("traceparent:00-{0}-00000000000000ff-01",),
    ],
)
async def test_a_trace_that_is_written_in_any_other_way_takes_uvicorns(tmp_path: Path, lines: tuple[str, ...]) -> None:
    async with inside(tmp_path) as house, peer(house) as one, peer(house) as other:
        await warm(one)
        content = body()
        more = [line.format("0" * 31 + "1") for line in lines]
        other.send(head(f"content-length: {len(content)}", *more) + content)
        await other.answer()
        assert ours(other).turn is None


async def test_a_chunked_body_is_not_remembered(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body()
        one.send(head("transfer-encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))
        assert (await one.answer())[0] == 200
        assert house.endpoint.known == {}


async def test_only_its_own_bytes_are_a_requests_head(tmp_path: Path) -> None:
    """Two requests in one piece: the second one's head is not known by the first one's bytes."""
    async with inside(tmp_path) as house, peer(house) as one:
        first, second = request("echo", 1), request("fails", 2)
        one.send(first + second)
        await one.answer()
        await one.answer()
        assert list(house.endpoint.known) == [first[: first.index(b"\r\n\r\n") + 4]]
        assert next(iter(house.endpoint.known.values())).head.name == "time__echo"


def test_the_number_of_known_heads_is_bounded() -> None:
    heads = Heads(Doors(host="127.0.0.1", port=1, allowed_hosts=(), allowed_origins=()), token="", body_bytes=1000)
    for number in range(5000):
        lines = [(b"host", b"127.0.0.1"), (b"content-length", b"1"), (b"x", b"%d" % number)]
        scope = {"headers": lines, "path": "/mcp", "raw_path": b"/mcp", "query_string": b"", "http_version": "1.1"}
        heads.remember(b"head %d" % number, scope, heads.read(scope))
    assert 0 < len(heads.known) <= 1024


async def test_a_body_that_takes_too_long_ends_the_connection(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        connection = await warm(one)
        one.send(request()[:-1])
        await house.until(lambda: connection.since)
        connection.since -= HEAD_SECONDS + 1
        HangarProtocol.sweep()
        assert await one.rest() == b""


async def test_a_connection_that_rests_gives_up_its_task_and_then_itself(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        connection = await warm(one)
        for _ in range(KEEP_ALIVE // 2):
            HangarProtocol.sweep()
        await house.until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "lane"])
        one.send(request())
        assert (await one.answer())[0] == 200
        assert connection.turn is not None
        for _ in range(KEEP_ALIVE + 1):
            HangarProtocol.sweep()
        assert await one.rest() == b""


async def test_a_stop_waits_for_the_answer_and_closes_behind_it(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent"))
        id = await house.asked("silent")
        house.connection.answer(id, {"result": CONTENT})
        await one.answer()
        one.send(request("silent", 2))
        await house.until(lambda: len(house.connection.calls()) == 2)
        ours(one).shutdown()
        house.connection.answer(house.connection.last, {"result": CONTENT})
        assert said(await one.answer())["id"] == 2
        assert await one.rest() == b""


UPGRADE = (
    b"GET /api/v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_connection_that_becomes_a_websocket_leaves_nothing_behind(tmp_path: Path) -> None:
    """Here operators have an address of their own, so it is refused; but by then it is another protocol's."""
    async with inside(tmp_path) as house, peer(house) as one:
        connection = await warm(one)
        one.send(UPGRADE)
        assert (await one.answer())[0] == 404
        assert connection not in HangarProtocol.open_connections
        await house.until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "lane"])


async def test_a_websocket_behind_a_request_that_is_being_answered_ends_the_connection(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent"))
        await house.asked("silent")
        one.send(UPGRADE)
        assert await one.rest() == b""
        (end,) = await house.all_over()
        assert end["reason"] == "cancelled"


def listening(id: int) -> bytes:
    """A modern subscription, as a client opens it again after each break."""
    params = {**json.loads(body())["params"], "notifications": {"toolsListChanged": True}}
    del params["name"], params["arguments"]
    content = json.dumps({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params}).encode()
    lines = head(f"content-length: {len(content)}").decode()
    lines = lines.replace("mcp-method: tools/call", "mcp-method: subscriptions/listen")
    return lines.replace("mcp-name: time__echo\r\n", "").encode() + content


async def test_a_subscription_on_the_lane_ends_with_its_client_and_leaves_nothing(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        for id in (1, 2, 3):
            async with peer(house) as one:
                one.send(listening(id))
                async with asyncio.timeout(PATIENCE):
                    await one.reader.readuntil(b"notifications/subscriptions/acknowledged")
                assert (ours(one).turn is not None) == (id > 1), "the first one's head was not known"
                assert len(house.endpoint.open_channels) == 1
            await house.until(lambda: not house.endpoint.open_channels and not HangarProtocol.open_connections)
            await house.until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "lane"])


async def test_a_subscription_on_the_lane_gets_its_result_when_hangar_stops(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one, peer(house) as two:
        for each in (one, two):
            each.send(listening(7))
            async with asyncio.timeout(PATIENCE):
                await each.reader.readuntil(b"notifications/subscriptions/acknowledged")
        assert ours(two).turn is not None
        await house.house.stop(1)
        for each in (one, two):
            async with asyncio.timeout(PATIENCE):
                rest = await each.reader.readuntil(b"0\r\n\r\n")
            assert b'"id":7,"result"' in rest
