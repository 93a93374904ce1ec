# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_hangar.application.ports.connection import Connection, Outgoing
from mcp_hangar.domain.errors import CallCancelled, CallTimeout, ProtocolError, ProviderDied, Unsent
from mcp_hangar.domain.mcp.envelope import encode, request
from mcp_hangar.domain.provider import Lifecycle, Limits, Mode, Provider, Sharing, SubprocessLaunch
from mcp_hangar.infrastructure.launchers.subprocess import SubprocessLauncher
from mcp_hangar.infrastructure.transports.stdio import StdioConnection, StdioExchange
from tests.ports import script
from tests.ports.connection_suite import (
    PATIENCE,
    Connect,
    ConnectionSuite,
    Heard,
    ask,
    go,
    outgoing,
    read,
    received,
    say,
)

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def provider(code: str | Path, *, message_bytes: int = 16 * MIB, stop_grace: float = 2.0, **env: str) -> Provider:
    where = (str(code),) if isinstance(code, Path) else ("-c", code)
    return Provider(
        name="scripted",
        mode=Mode.subprocess,
        sharing=Sharing.shared,
        launch=SubprocessLaunch(command=(sys.executable, "-S", "-u", *where), env=env),
        lifecycle=Lifecycle(stop_grace=stop_grace),
        limits=Limits(message_bytes=message_bytes),
    )


@pytest.fixture
async def launcher() -> AsyncIterator[SubprocessLauncher]:
    launcher = SubprocessLauncher(os.environ)
    yield launcher
    await launcher.close()


@pytest.fixture
async def connect(launcher: SubprocessLauncher) -> Connect:
    async def connect(message_bytes: int = 16 * MIB) -> Connection:
        scripted = provider(Path(script.__file__), message_bytes=message_bytes)
        return await launcher.launch(scripted, "scripted-1", "stdio")

    return connect


class TestTheLawsOfAConnection(ConnectionSuite):
    pass


# --- framing, without a process: bytes in, messages out -------------------------------------------------------------


class NoProcess:
    """Stands where a provider runs, for tests of bytes alone."""

    def __init__(self) -> None:
        self.on_exit: Any = None

    async def gone(self, within: float) -> bool:
        return True

    def end(self, grace: float) -> None: ...

    async def close(self) -> None: ...


class Bytes:
    """A connection whose pipes are in the test's hands."""

    def __init__(self, limit: int = 16 * MIB) -> None:
        self.connection = StdioConnection("bytes", limit, 1.0, NoProcess())
        self.messages: list[bytes] = []
        self.refused: list[str] = []
        self.connection.listener.on_message = lambda m: self.messages.append(bytes(m.params))
        self.connection.listener.on_refused = self.refused.append

    async def __aenter__(self) -> Bytes:
        self._stdin, stdin = os.pipe()
        stdout, self._stdout = os.pipe()
        await self.connection.open(os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb", buffering=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()
        os.close(self._stdin)
        os.close(self._stdout)

    async def ask(self, method: str = "test/steps") -> StdioExchange:
        return await self.connection.send(outgoing([], method))

    async def until(self, enough: Callable[[], bool]) -> None:
        """Turn the loop a bounded number of times."""
        for _ in range(1000):
            if enough():
                return
            await asyncio.sleep(0)
        raise AssertionError("the loop turned a thousand times")

    def feed(self, data: bytes, cuts: list[int]) -> None:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if end > start:
                self.connection.data_received(data[start:end])


WIRE = (
    b'{"jsonrpc":"2.0","method":"n","params":{"text":"\xc5\xbc\xc3\xb3\xc5\x82w"}}\r\n'
    b"Starting server on stdio...\n"
    b"\n   \n"
    b'{"jsonrpc":"2.0","method":"n","params":{"a":[1,2,3]}}\n'
    b'{"broken": \n'
    b'{"jsonrpc":"2.0","method":"n","params":{}}\n'
)
SAID = [b'{"text":"\xc5\xbc\xc3\xb3\xc5\x82w"}', b'{"a":[1,2,3]}', b"{}"]


async def test_a_message_may_be_split_at_every_byte() -> None:
    async with Bytes() as wire:
        for cut in range(len(WIRE) + 1):
            wire.messages.clear()
            wire.connection.refused = 0
            wire.feed(WIRE, [cut])
            assert wire.messages == SAID, cut
            assert wire.connection.refused == 2, cut


def test_messages_may_be_split_anywhere() -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.integers(0, len(WIRE)), max_size=40).map(sorted))
    @example([WIRE.index(b"\n   "), WIRE.index(b"\n   ") + 1])  # a blank line on its own
    @example([WIRE.index(b"   \n"), WIRE.index(b"   \n") + 4])
    def split(cuts: list[int]) -> None:
        async def run() -> None:
            async with Bytes() as wire:
                wire.feed(WIRE, cuts)
                assert wire.messages == SAID
                assert wire.connection.refused == 2

        asyncio.run(run())

    split()


def test_no_bytes_whatever_break_a_connection() -> None:
    pieces = st.one_of(
        st.binary(max_size=60), st.sampled_from([b"\n", b"{", b"}", b'"id":1', b'{"id":1}\n', b"[[", WIRE])
    )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(pieces, max_size=30))
    def feed(noise: list[bytes]) -> None:
        async def run() -> None:
            async with Bytes(limit=200) as wire:
                for piece in noise:
                    wire.connection.data_received(piece)
                wire.connection.data_received(b"\n")
                wire.messages.clear()
                wire.connection.data_received(b'{"jsonrpc":"2.0","method":"n","params":{"still":"here"}}\n')
                await wire.until(lambda: bool(wire.messages))
                assert wire.messages[-1] == b'{"still":"here"}'

        asyncio.run(run())

    feed()


async def test_what_was_refused_is_told_without_control_characters() -> None:
    async with Bytes() as wire:
        wire.connection.data_received(b"\x1b[31mred\x07 alert\x1b[0m\n")
        (told,) = wire.refused
        assert "alert" in told
        assert told.isprintable()


async def test_a_flood_of_junk_is_counted_whole_and_told_in_part() -> None:
    async with Bytes() as wire:
        wire.connection.data_received(b"x\n" * 5000)
        await wire.until(lambda: wire.connection.refused == 5000)
        assert len(wire.refused) < 100


async def test_a_flood_of_tiny_lines_lets_others_run_in_between() -> None:
    async with Bytes() as wire:
        wire.connection.data_received(b"x\n" * 5000)
        assert wire.connection.refused < 5000


HUGE = b"x" * 5000
OVERSIZED = {
    "the id first": b'{"jsonrpc":"2.0","id":%d,"result":{"t":"' + HUGE + b'"}}',
    "the id first, with blanks": b'{ "id" : %d , "jsonrpc" : "2.0" , "error" : {"t":"' + HUGE + b'"}}',
    "the id last": b'{"result":{"t":"' + HUGE + b'"},"jsonrpc":"2.0","id":%d}',
    "the id before the version": b'{"result":{"t":"' + HUGE + b'"},"id":%d,"jsonrpc":"2.0"}\r',
}


@pytest.mark.parametrize("spelling", OVERSIZED)
@pytest.mark.parametrize("cut", [1, 100, 4000])
async def test_an_oversized_answer_fails_the_exchange_it_answers_and_no_other(spelling: str, cut: int) -> None:
    async with Bytes(limit=1000) as wire:
        first, second = await wire.ask(), await wire.ask()
        line = OVERSIZED[spelling] % int(second.key) + b"\n"
        wire.feed(line, list(range(cut, len(line), cut)))
        with pytest.raises(ProtocolError) as raised:
            await read(second)
        assert raised.value.code == "message_too_large"
        wire.connection.data_received(b'{"jsonrpc":"2.0","id":%b,"result":1}\n' % first.key)
        assert bytes((await read(first)).result) == b"1"


async def test_an_oversized_question_fails_no_exchange_although_it_bears_the_same_number() -> None:
    async with Bytes(limit=1000) as wire:
        exchange = await wire.ask()
        for line in (
            b'{"jsonrpc":"2.0","id":%b,"method":"sampling/createMessage","params":"' + HUGE + b'"}\n',
            b'{"method":"sampling/createMessage","params":"' + HUGE + b'","jsonrpc":"2.0","id":%b}\n',
        ):
            wire.connection.data_received(line % exchange.key)
        assert wire.connection.refused == 2
        wire.connection.data_received(b'{"jsonrpc":"2.0","id":%b,"result":1}\n' % exchange.key)
        assert bytes((await read(exchange)).result) == b"1"


async def test_an_id_inside_an_oversized_answer_is_not_taken_for_its_own() -> None:
    async with Bytes(limit=1000) as wire:
        first, second = await wire.ask(), await wire.ask()
        inner = b'"id":%b,"jsonrpc":"2.0"}' % first.key
        line = (
            b'{"result":{"a":1,' + inner + b',"t":"' + HUGE + b',\\"id\\":9}","jsonrpc":"2.0","id":%b}\n' % second.key
        )
        wire.connection.data_received(line)
        with pytest.raises(ProtocolError):
            await read(second)
        wire.connection.data_received(b'{"jsonrpc":"2.0","id":%b,"result":1}\n' % first.key)
        assert (await read(first)).is_response


async def test_nothing_of_an_oversized_line_is_kept() -> None:
    async with Bytes(limit=1000) as wire:
        for _ in range(2000):
            wire.connection.data_received(b"x" * 1000)
        state = vars(wire.connection).values()
        assert sum(len(value) for value in state if isinstance(value, bytes | bytearray)) < 4096


async def test_an_answer_that_is_no_answer_fails_its_exchange() -> None:
    for body in (b'"jsonrpc":"2.0"', b'"result":"\xff\xfe"'):
        async with Bytes() as wire:
            exchange = await wire.ask()
            wire.connection.data_received(b'{"id":%b,%b}\n' % (exchange.key, body))
            with pytest.raises(ProtocolError) as raised:
                await read(exchange)
            assert raised.value.code == "provider_protocol"


async def test_a_key_said_twice_in_an_answer_has_one_meaning_only() -> None:
    async with Bytes() as wire:
        exchange = await wire.ask()
        wire.connection.data_received(b'{"id":%b,"result":1,"result":{"last":true}}\n' % exchange.key)
        assert bytes((await read(exchange)).result) == b'{"last":true}'


async def test_a_line_break_in_a_request_cannot_smuggle_a_second_message() -> None:
    async with Bytes() as wire:
        payload = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":\n{"jsonrpc":"2.0","method":"evil"}\r\n}}'
        await wire.connection.send(Outgoing(1, "m", payload))
        await wire.connection.post(payload)
        written = os.read(wire._stdin, 65536)
        assert written.count(b"\n") == 2
        assert b"\r" not in written
        assert json.loads(written.splitlines()[0]) == json.loads(payload)


# --- what belongs to whom -------------------------------------------------------------------------------------------


async def test_a_question_goes_to_the_only_call_in_flight() -> None:
    async with Bytes() as wire:
        exchange = await wire.ask()
        wire.connection.data_received(b'{"id":1,"method":"roots/list"}\n')
        assert (await read(exchange)).method == "roots/list"


async def test_with_several_calls_in_flight_a_question_goes_to_the_listener() -> None:
    async with Bytes() as wire:
        await wire.ask()
        await wire.ask()
        wire.connection.data_received(b'{"id":1,"method":"roots/list","params":{"for":"whom"}}\n')
        assert wire.messages == [b'{"for":"whom"}']


async def test_a_ping_goes_to_the_listener_even_while_a_call_is_open() -> None:
    async with Bytes() as wire:
        await wire.ask()
        wire.connection.data_received(b'{"id":1,"method":"ping","params":{}}\n')
        assert wire.messages == [b"{}"]


async def test_a_subscription_gets_what_names_it_and_is_no_call_in_flight() -> None:
    async with Bytes() as wire:
        subscription = await wire.ask("subscriptions/listen")
        call = await wire.ask()
        meta = b'{"_meta":{"io.modelcontextprotocol/subscriptionId":%b}}' % subscription.key
        wire.connection.data_received(b'{"method":"notifications/tools/list_changed","params":%b}\n' % meta)
        wire.connection.data_received(b'{"method":"notifications/message","params":{"data":1}}\n')
        wire.connection.data_received(b'{"method":"notifications/tools/list_changed","params":{"for":"all"}}\n')
        assert (await read(subscription)).method == "notifications/tools/list_changed"
        assert (await read(call)).method == "notifications/message"
        assert wire.messages == [b'{"for":"all"}']


async def test_progress_for_nobody_goes_to_the_listener() -> None:
    async with Bytes() as wire:
        exchange = await wire.ask()
        for token in (b'"%b"' % exchange.key, b"99"):
            wire.connection.data_received(
                b'{"method":"notifications/progress","params":{"progressToken":%b}}\n' % token
            )
        assert len(wire.messages) == 2


async def test_unread_messages_over_the_limit_fail_their_exchange_and_no_other() -> None:
    async with Bytes(limit=1000) as wire:
        slow = await wire.ask("subscriptions/listen")
        other = await wire.ask()
        meta = b'{"_meta":{"io.modelcontextprotocol/subscriptionId":%b},"x":"%b"}' % (slow.key, b"x" * 300)
        for _ in range(4):
            wire.connection.data_received(b'{"method":"notifications/n","params":%b}\n' % meta)
        with pytest.raises(ProtocolError) as raised:
            await read(slow)
        assert raised.value.code == "provider_protocol"
        wire.connection.data_received(b'{"id":%b,"result":1}\n' % other.key)
        assert (await read(other)).is_response


async def test_a_reader_that_keeps_up_may_read_more_than_the_limit() -> None:
    async with Bytes(limit=1000) as wire:
        call = await wire.ask()
        line = b'{"method":"notifications/message","params":"%b"}\n' % (b"x" * 300)
        wire.connection.data_received(line)
        for _ in range(10):
            wire.connection.data_received(line)
            await read(call)
        assert (await read(call)).method == "notifications/message"


# --- giving up, and being told --------------------------------------------------------------------------------------


async def test_a_cancelled_call_is_cancelled_at_the_provider(connect: Connect) -> None:
    connection = await connect()
    late = await ask(connection, {"until": "later"}, {"answer": "{}"})
    timed_out = await ask(connection, {"until": "never"})
    late.fail(CallCancelled("cancelled", detail="the client left"))
    timed_out.fail(CallTimeout("timeout", name="x", seconds=1, provider="scripted"))
    told = [m["params"] for m in await received(connection) if m["method"] == "notifications/cancelled"]
    assert isinstance(late, StdioExchange)
    assert isinstance(timed_out, StdioExchange)
    assert [params["requestId"] for params in told] == [int(late.key), int(timed_out.key)]
    assert [params["reason"] for params in told] == ["cancelled", "timed out"]
    await go(connection, "later")
    assert (await read(await ask(connection, {"answer": "{}"}))).is_response
    assert connection.refused == 0, "an answer that came too late is nobody's fault"


async def test_an_initialize_is_never_cancelled_at_the_provider(connect: Connect) -> None:
    connection = await connect()
    exchange = await ask(connection, {"until": "never"}, method="initialize")
    exchange.fail(CallTimeout("timeout", name="initialize", seconds=1, provider="scripted"))
    assert [m["method"] for m in await received(connection)] == ["initialize", "test/steps"]


# --- with real processes --------------------------------------------------------------------------------------------


async def test_a_message_of_many_mebibytes_passes(connect: Connect) -> None:
    connection = await connect()
    answer = await read(await ask(connection, {"big": 12 * MIB}))
    assert len(json.loads(bytes(answer.result))["text"]) == 12 * MIB


async def test_a_request_of_many_mebibytes_passes(connect: Connect) -> None:
    connection = await connect()
    steps = [{"say": json.dumps({"method": "n", "params": "y" * 8 * MIB})}, {"answer": '"done"'}]
    heard = Heard(connection)
    exchange = await connection.send(outgoing(steps))
    assert bytes((await read(exchange)).result) == b'"done"'
    await heard.until(lambda: bool(heard.messages))
    assert len(heard.messages[0].params) == 8 * MIB + 2


async def test_a_line_of_100_megabytes_is_refused_and_the_session_lives(launcher: SubprocessLauncher) -> None:
    code = """
import sys, json
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "huge":
        sys.stdout.write('{"jsonrpc":"2.0","result":{"text":"')
        for _ in range(100):
            sys.stdout.write("x" * 1000000)
        sys.stdout.write('"},"id":%d}\\n' % message["id"])
    else:
        sys.stdout.write('{"jsonrpc":"2.0","id":%d,"result":{}}\\n' % message["id"])
    sys.stdout.flush()
"""
    connection = await launcher.launch(provider(code), "huge-1", "stdio")
    exchange = await connection.send(Outgoing(1, "huge", request(1, "huge", b"{}")))
    with pytest.raises(ProtocolError) as raised:
        await read(exchange)
    assert raised.value.code == "message_too_large"
    answer = await connection.send(Outgoing(2, "small", request(2, "small", b"{}")))
    assert (await read(answer)).is_response


async def test_an_answer_written_just_before_the_exit_still_arrives(launcher: SubprocessLauncher) -> None:
    code = 'import sys; sys.stdin.readline(); sys.stdout.write(\'{"id":1,"result":"last"}\\n\'); sys.stdout.flush()'
    for _ in range(10):
        connection = await launcher.launch(provider(code), "brief-1", "stdio")
        answered = await connection.send(Outgoing(1, "m", request(1, "m", b"{}")))
        other = await connection.send(Outgoing(2, "m", request(2, "m", b"{}")))
        assert bytes((await read(answered)).result) == b'"last"'
        with pytest.raises(ProviderDied):
            await read(other)


async def test_a_provider_that_dies_mid_call_says_how_and_its_last_words(launcher: SubprocessLauncher) -> None:
    ends = {
        "sys.exit(3)": "exited with status 3",
        "os.kill(os.getpid(), 9)": "ended by SIGKILL",
        "os.kill(os.getpid(), 11)": "ended by SIGSEGV",
    }
    for how, said in ends.items():
        code = f"import os, sys; sys.stdin.readline(); print('the disk is full', file=sys.stderr); {how}"
        connection = await launcher.launch(provider(code), "dying-1", "stdio")
        heard = Heard(connection)
        exchange = await connection.send(Outgoing(1, "m", request(1, "m", b"{}")))
        with pytest.raises(ProviderDied) as raised:
            await read(exchange)
        assert said in str(raised.value.facts["detail"])
        assert "the disk is full" in str(raised.value.facts["detail"])
        assert len(heard.closed) == 1


@pytest.mark.parametrize("stream", [0, 1])
async def test_a_provider_that_closes_its_pipes_but_lives_on_is_given_up(
    launcher: SubprocessLauncher, stream: int
) -> None:
    code = f"import os, time; os.close({stream}); time.sleep(1000)"
    connection = await launcher.launch(provider(code, stop_grace=0.2), "mute-1", "stdio")
    heard = Heard(connection)
    await heard.until(lambda: bool(heard.closed))
    assert re.search("closed its standard (in|out)put", str(heard.closed[0].facts["detail"]))
    with pytest.raises(Unsent):
        await connection.send(Outgoing(1, "m", request(1, "m", b"{}")))


async def test_a_provider_that_reads_nothing_makes_senders_wait_and_close_still_works(
    launcher: SubprocessLauncher,
) -> None:
    connection = await launcher.launch(provider("import time; time.sleep(1000)", stop_grace=0.2), "deaf-1", "stdio")
    first = await connection.send(Outgoing(1, "m", request(1, "m", encode("x" * 4 * MIB))))
    second = asyncio.create_task(connection.send(Outgoing(2, "m", request(2, "m", b"{}"))))
    third = asyncio.create_task(connection.send(Outgoing(3, "m", request(3, "m", b"{}"))))
    done, _ = await asyncio.wait([second, third], timeout=0.05)
    assert not done
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    assert not second.done(), "one that gives up takes no other along"
    await asyncio.wait_for(connection.close(), PATIENCE)
    with pytest.raises(Unsent):
        await second
    with pytest.raises(ProviderDied):
        await read(first)


async def test_a_call_makes_no_task(connect: Connect) -> None:
    connection = await connect()
    await read(await ask(connection, {"answer": "{}"}))
    before = asyncio.all_tasks()
    exchange = await ask(connection, say("notifications/message", data=1), {"answer": "{}"})
    assert asyncio.all_tasks() == before
    await read(exchange)
    await read(exchange)
    assert asyncio.all_tasks() == before


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def test_nothing_is_left_after_close(launcher: SubprocessLauncher, connect: Connect) -> None:
    await (await connect()).close()
    tasks, open_files = asyncio.all_tasks(), descriptors()
    for _ in range(3):
        connection = await connect()
        await read(await ask(connection, {"answer": "{}"}))
        await connection.close()
    assert asyncio.all_tasks() == tasks
    assert descriptors() <= open_files
