# SPDX-License-Identifier: MIT
"""How systems like this one failed: answers without end, starts without end, and one provider that held up the rest."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest

from tests.house import House, house, remote_provider, subprocess_provider
from tests.journeys.doors import rest, until
from tests.journeys.upstream import HUGE, Server, read_record, recording, stdio_command
from tests.journeys.wire import LegacyWire, ModernWire
from tests.processes import cpu_seconds, lives, wait_until_none_lives

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ERAS = ["legacy", "modern"]
ROOM = 40 * 1024
"""KiB that one answer may cost: its limit a few times over, far from the 100 MB that come."""


def most_memory(pid: int) -> int:
    """The most that was ever resident, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@contextmanager
def provider_over(wire: str, era: str, folder: Path, **more: object) -> Iterator[House]:
    """A Hangar with one provider, over stdio or HTTP."""
    if wire == "stdio":
        provider = subprocess_provider(stdio_command(era), env={"RECORD": str(folder / "record")}, **more)
        with house(folder, {"up": provider}) as opened:
            yield opened
    else:
        with recording(era) as upstream, house(folder, {"up": remote_provider(upstream.url, **more)}) as opened:
            yield opened


async def test_pitfall_31_two_hundred_listeners_that_vanish_leave_hangar_idle(tmp_path: Path) -> None:
    with recording("modern") as upstream, house(tmp_path, {"up": remote_provider(upstream.url)}) as hangar:
        async with ModernWire(hangar.url) as modern, LegacyWire(hangar.url) as legacy:
            listen = modern.raw("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, 1)
            post, _, body = legacy.raw("tools/call", {"name": "up__sleep", "arguments": {"seconds": 30}}, 1).partition(
                b"\r\n\r\n"
            )
            get = post.replace(b"POST", b"GET").replace(b"content-length: %d" % len(body), b"content-length: 0")
            streams = []
            for number in range(200):
                stream = await anyio.connect_tcp("127.0.0.1", hangar.port)
                await stream.send(listen if number % 2 else get + b"\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
                streams.append(stream)
            for stream in streams:
                raw = stream.extra_attributes[anyio.abc.SocketAttribute.raw_socket]()
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await stream.aclose()
            await until(lambda: len(list(Path(f"/proc/{hangar.pid}/fd").iterdir())) < 100)
            before = cpu_seconds(hangar.pid)
            await anyio.sleep(3)  # the window that is measured
            assert cpu_seconds(hangar.pid) - before < 1
            assert (await modern.call("up__echo")).text == "{}"
            assert (await legacy.call("up__echo")).text == "{}"


@pytest.mark.parametrize(
    ("wire", "tool"), [("stdio", "huge"), ("http", "huge"), ("http", "long_stream"), ("http", "bomb")]
)
@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_35_an_answer_of_100_mb_is_a_typed_error_in_bounded_memory_and_the_session_lives(
    tmp_path: Path, wire: str, tool: str, era: str
) -> None:
    assert HUGE > 2 * ROOM * 1024
    with provider_over(wire, era, tmp_path, limits={"message_bytes": "1MiB"}) as hangar:
        async with LegacyWire(hangar.url) as client:
            await client.call("up__count")
            before = most_memory(hangar.pid)
            for _ in range(2):
                error = (await client.call(f"up__{tool}")).message["error"]
                assert error["data"]["code"] == "message_too_large"
            assert most_memory(hangar.pid) - before < ROOM
            if era == "legacy":
                assert (await client.call("up__count")).text == "2"
            assert (await client.call("up__echo")).text == "{}"
    assert len([line for line in read_record(tmp_path / "record") if "started" in line]) == (wire == "stdio")


async def test_pitfall_40_never_more_instances_than_configured_and_none_after_the_end(tmp_path: Path) -> None:
    record = tmp_path / "record"
    provider = subprocess_provider(
        stdio_command(), env={"RECORD": str(record)}, sessions="per_session", limits={"instances": 2}
    )

    def pids() -> list[int]:
        return [line["started"] for line in read_record(record) if "started" in line]

    with house(tmp_path, {"up": provider}) as hangar:
        most = 0
        ended = [False]

        async def watch() -> None:
            nonlocal most
            while not ended[0]:
                most = max(most, sum(map(lives, pids())))
                await anyio.sleep(0.01)

        async def one() -> None:
            async with LegacyWire(hangar.url) as wire:
                answer = (await wire.call("up__count")).message
                # At the limit, with nothing idle, a refusal that says so; never one instance more.
                if "error" in answer or answer["result"].get("isError"):
                    assert "limits.instances" in str(answer)
                else:
                    served.append(answer)

        served: list[object] = []
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(one)
            for _ in range(3):
                await one()
            ended[0] = True
        assert served
        assert 1 <= most <= 2
    assert wait_until_none_lives(pids()) == []


async def test_pitfall_41_hangar_is_ready_while_no_provider_is(tmp_path: Path) -> None:
    providers = {"broken": subprocess_provider(["false"]), "dead": remote_provider("http://127.0.0.1:9/mcp")}
    with house(tmp_path, providers) as hangar:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{hangar.port}", timeout=30) as http:
            for path in ("/healthz", "/readyz"):
                assert (await http.get(path)).status_code == 200
            async with ModernWire(hangar.url) as wire:
                assert (await wire.tools()) == []
                await wire.call("broken__x")
            assert (await http.get("/readyz")).status_code == 200


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_42_all_who_wait_for_a_slow_start_are_served_by_it(tmp_path: Path, era: str) -> None:
    record = tmp_path / "record"
    provider = subprocess_provider(
        stdio_command(era, "--slow-start", "7"),
        env={"RECORD": str(record)},
        limits={"call_timeout": "5s"},
        protocol=era,
    )
    answers: list[str] = []
    with house(tmp_path, {"up": provider}) as hangar:
        async with ModernWire(hangar.url) as wire, anyio.create_task_group() as group:

            async def call() -> None:
                answers.append((await wire.call("up__echo")).text)

            for _ in range(10):
                group.start_soon(call)
    assert answers == ["{}"] * 10
    assert len([line for line in read_record(record) if "started" in line]) == 1


async def test_pitfall_42_a_health_probe_is_never_a_second_initialize(tmp_path: Path) -> None:
    record = tmp_path / "record"
    provider = subprocess_provider(
        stdio_command(), env={"RECORD": str(record)}, health={"interval": "100ms"}, protocol="legacy"
    )
    with house(tmp_path, {"up": provider}) as hangar:
        async with ModernWire(hangar.url) as wire:
            await wire.call("up__echo")
            await until(lambda: sum(line.get("method") == "ping" for line in read_record(record)) >= 5)
            assert (await wire.call("up__echo")).text == "{}"
    methods = [line.get("method") for line in read_record(record)]
    assert methods.count("initialize") == 1
    assert len([line for line in read_record(record) if "started" in line]) == 1


async def test_pitfall_42_a_provider_busy_for_long_is_not_given_up_by_its_probes(tmp_path: Path) -> None:
    record = tmp_path / "record"
    health = {"interval": "200ms", "timeout": "1s", "unhealthy_after": 1}
    provider = subprocess_provider(stdio_command(), env={"RECORD": str(record)}, health=health, protocol="legacy")
    with house(tmp_path, {"up": provider}) as hangar:
        async with ModernWire(hangar.url) as wire:
            await wire.call("up__count")
            assert (await wire.call("up__block", {"seconds": 5})).text == "busy no more"
            assert (await wire.call("up__count")).text == "2"
    assert len([line for line in read_record(record) if "started" in line]) == 1


@pytest.mark.parametrize("stuck", ["call", "start", "connect"])
async def test_pitfall_44_one_provider_that_hangs_holds_nobody_else_up(tmp_path: Path, stuck: str) -> None:
    async def never(method: str) -> None:
        if stuck == "start" or method == "tools/call":
            await anyio.sleep_forever()

    with recording("modern") as good, recording(server=Server("modern", before=never)) as bad:
        # 192.0.2.0/24 is nobody's: a connection there is never answered, or refused by the network at once.
        url = "http://192.0.2.1:9/mcp" if stuck == "connect" else bad.url
        providers = {"good": remote_provider(good.url), "bad": remote_provider(url, connect_timeout="30s")}
        with house(tmp_path, providers, expose={"list_timeout": "1s"}) as hangar:
            over: list[int] = []
            async with ModernWire(hangar.url) as wire, anyio.create_task_group() as group:
                if stuck == "call":
                    await wire.tools()

                async def hang(number: int) -> None:
                    await wire.call("bad__echo")
                    over.append(number)

                for number in range(20):
                    group.start_soon(hang, number)
                for number in range(50):
                    assert (await wire.call("good__echo", {"n": number})).text == f'{{"n": {number}}}'
                if stuck != "connect":
                    assert over == []
                group.cancel_scope.cancel()


async def test_pitfall_45_rest_takes_neither_a_path_nor_a_configuration(tmp_path: Path) -> None:
    with house(tmp_path, {"up": subprocess_provider(["false"])}) as hangar:
        async with rest(hangar) as admin:
            paths = (await admin.get("/openapi.json")).json()["paths"]
            writing = {
                (path, verb): door for path, doors in paths.items() for verb, door in doors.items() if verb != "get"
            }
            assert {(path.removeprefix("/api/v1"), verb) for path, verb in writing} == {
                ("/calls", "post"),
                ("/codes", "post"),
                ("/login", "post"),
                ("/providers/{name}/meet", "post"),
                ("/providers/{name}/start", "post"),
                ("/providers/{name}/stop", "post"),
            }
            bodies = {path.removeprefix("/api/v1") for (path, _), door in writing.items() if "requestBody" in door}
            assert bodies == {"/calls", "/login"}
            body = {"path": "/etc/passwd", "command": ["touch", str(tmp_path / "ran")]}
            for path in ("/reload", "/config", "/providers", "/apply"):
                assert (await admin.post(path, json=body)).status_code in (404, 405)
    assert not (tmp_path / "ran").exists()
