# SPDX-License-Identifier: MIT
"""The HTTP front by its bytes: bounded heads, bodies in every shape, and what a client that leaves ends."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from mcp_hangar.domain.errors import ConfigError
from mcp_hangar.server.listener import HEAD_SECONDS, HangarProtocol, bind, bind_unix
from tests.inside import CONTENT, PATIENCE, inside
from tests.server.peers import body, head, peer, request, said

pytestmark = pytest.mark.anyio


async def test_requests_follow_one_another_on_one_connection(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        for id in range(3):
            one.send(request(id=id))
            assert said(await one.answer())["id"] == id
        await house.all_over()


async def test_a_request_may_come_byte_by_byte(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        for byte in request():
            one.send(bytes([byte]))
            await one.writer.drain()
        assert (await one.answer())[0] == 200


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent", 1) + request("echo", 2) + request("fails", 3))
        id = await house.asked("silent")
        house.connection.answer(id, {"result": CONTENT})
        assert [said(await one.answer())["id"] for _ in range(3)] == [1, 2, 3]
        assert len(await house.all_over()) == 3


async def test_a_body_in_chunks_is_read_whole(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body(text="in pieces")
        one.send(head("transfer-encoding: chunked"))
        for start in range(0, len(content), 50):
            piece = content[start : start + 50]
            one.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await one.writer.drain()
        one.send(b"0\r\n\r\n")
        assert said(await one.answer())["result"]["content"][0]["text"] == "in pieces"


async def test_who_waits_for_100_continue_gets_it_if_the_body_will_be_read(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body()
        one.send(head(f"content-length: {len(content)}", "expect: 100-continue"))
        async with asyncio.timeout(PATIENCE):
            assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.send(content)
        assert (await one.answer())[0] == 200


async def test_who_waits_for_100_continue_with_too_much_is_refused_instead(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(head("content-length: 999999999", "expect: 100-continue"))
        status, _, content = await one.answer()
        assert status == 413 and json.loads(content)["error"]["data"]["code"] == "body_too_large"


async def test_a_chunked_body_over_the_bound_is_refused_while_it_arrives(tmp_path: Path) -> None:
    async with inside(tmp_path, server={"limits": {"body_bytes": "64KiB"}}) as house, peer(house) as one:
        one.send(head("transfer-encoding: chunked"))
        for _ in range(20):
            one.send(b"%x\r\n%b\r\n" % (8192, b" " * 8192))
        assert (await one.answer())[0] == 413
        assert not house.launcher.launched


async def test_a_head_over_the_bound_is_refused_while_it_arrives(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        start = head(f"x-much: {'a' * 40_000}")[: 32 * 1024 + 1]
        for at in range(0, len(start), 1024):
            one.send(start[at : at + 1024])
            await asyncio.sleep(0)
        assert (await one.rest()).startswith(b"HTTP/1.1 431 ")


async def test_a_head_over_the_bound_is_refused_even_if_all_of_it_came_at_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body()
        one.send(head(f"x-much: {'a' * 40_000}", f"content-length: {len(content)}") + content)
        answer = await one.rest()
        assert answer.startswith(b"HTTP/1.1 431 ") or not answer  # a reset may overtake it
        assert not house.launcher.launched, "the request did not run"


async def test_a_large_body_in_the_same_breath_as_its_head_is_no_large_head(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request(text="a" * 200_000))
        assert said(await one.answer())["result"]["content"][0]["text"] == "a" * 200_000


async def test_a_large_body_whose_head_ended_within_a_line_end_is_no_large_head(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        content = body(text="a" * 100_000)
        start = head(f"content-length: {len(content)}")
        one.send(start[:-2])
        await one.writer.drain()
        await house.until(lambda: any(each.tail for each in HangarProtocol.open_connections))
        one.send(start[-2:] + content)
        assert (await one.answer())[0] == 200


async def test_a_head_over_the_bound_behind_a_call_under_way_ends_the_connection(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent"))
        await house.asked("silent")
        one.send(head(f"x-much: {'a' * 100_000}")[:-4])
        assert await one.rest() == b""
        assert [end["reason"] for end in await house.all_over()] == ["cancelled"]


async def test_trailers_without_end_are_refused(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(head("transfer-encoding: chunked") + b"5\r\n     \r\n0\r\n")
        for _ in range(200):
            if one.writer.is_closing():
                break
            one.send(b"x-more: %b\r\n" % (b"a" * 8192))
            await asyncio.sleep(0)
        assert (await one.rest()).partition(b" ")[2][:3] in (b"", b"431", b"400")
        assert not house.launcher.launched


async def test_a_head_that_takes_too_long_is_closed_also_on_a_connection_that_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as house, peer(house) as fresh, peer(house) as used, peer(house) as busy:
        used.send(request())
        await used.answer()
        busy.send(request("silent"))
        await house.asked("silent")
        for one in (fresh, used):
            one.send(b"POST /mcp HTTP/1.1\r\nhost: 127")
        await house.until(lambda: sum(bool(each.since) for each in HangarProtocol.open_connections) == 2)
        HangarProtocol.sweep()
        assert not fresh.reader.at_eof() and not used.reader.at_eof(), "there is still time"
        later = asyncio.get_running_loop().time() + HEAD_SECONDS + 1
        monkeypatch.setattr("mcp_hangar.server.listener.time.monotonic", lambda: later)
        HangarProtocol.sweep()
        monkeypatch.undo()
        assert (await fresh.rest(), await used.rest()) == (b"", b"")
        house.connection.answer(house.connection.last, {"result": CONTENT})
        assert (await busy.answer())[0] == 200, "a call under way takes the time it takes"


@pytest.mark.parametrize("way", ["close", "abort", "half"])
async def test_a_client_that_leaves_in_any_way_ends_its_call(tmp_path: Path, way: str) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(request("silent"))
        id = await house.asked("silent")
        if way == "close":
            one.writer.close()
        elif way == "abort":
            one.writer.transport.abort()
        else:
            one.writer.write_eof()
        await house.until(lambda: house.connection.exchanges[id].failed)
        assert [end["reason"] for end in await house.all_over()] == ["cancelled"]


async def test_two_hundred_clients_that_leave_at_once_leave_nothing(tmp_path: Path) -> None:
    limits = {"limits": {"concurrency": 500}}
    async with inside(tmp_path, provider=limits) as house:
        writers = []
        for _ in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(request("silent"))
            writers.append(writer)
        await house.until(lambda: len(house.house.proxy.in_flight) == 200)
        for writer in writers:
            writer.transport.abort()
        ends = await house.all_over()
        assert [end["reason"] for end in ends] == ["cancelled"] * 200
        await house.until(lambda: not HangarProtocol.open_connections)


async def test_what_is_no_http_is_answered_once_and_closed(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what\r\n\r\n")
        assert (await one.rest()).startswith(b"HTTP/1.1 400 ")


async def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with inside(tmp_path) as house, peer(house) as one:
        one.send(b"HEAD /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            first = await one.reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 405 ")
        one.send(request())
        assert (await one.answer())[0] == 200


async def test_a_port_that_is_taken_is_told_in_words() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="something else does"):
        bind("127.0.0.1", taken.getsockname()[1])


async def test_a_unix_socket_left_by_the_dead_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind_unix(path).close()
    with bind_unix(path):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigError, match="something else does"):
            bind_unix(path)


async def test_an_address_of_another_machine_is_told_in_words() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        bind("192.0.2.1", 0)


def test_the_bound_socket_does_not_block() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert listener.type == socket.SOCK_STREAM and not listener.getblocking()
