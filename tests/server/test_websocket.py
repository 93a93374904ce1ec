# SPDX-License-Identifier: MIT
"""The live stream over real sockets, as its readers see it: from a house inside the test, and its uvicorn front."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.kept_records import KeptRecords
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.events import AuthFailed, CallDenied, Event, ProviderStateChanged, Severity, SystemStopping
from mcp_hangar.server import websocket
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.listener import bind, make_server
from mcp_hangar.server.operator_access import Access
from mcp_hangar.server.operator_plane import OperatorPlane
from mcp_hangar.server.websocket import CLOSE_CODES, MOST_STRANGERS, Streams
from tests.processes import START_LIMIT

pytestmark = pytest.mark.anyio
TOKEN = "an-admin-token-of-tests"
PATIENCE = START_LIMIT
Json = dict[str, Any]


class Stubborn:
    """A guard that lets only the stream through."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise RequestError("not_found", path=scope["path"])
        await self.streams(scope, receive, send)


@dataclass
class Door:
    port: int
    kept: KeptRecords
    access: Access
    streams: Streams
    recorded: list[Event]
    codec: Codec
    now: list[float]
    """What time it is for tokens."""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/v1/stream"

    def record(self, *events: Event) -> None:
        last = self.kept.last
        self.kept.add([self.codec.encode(event, last + number) for number, event in enumerate(events, 1)])

    def happen(self, count: int) -> None:
        self.record(*(SystemStopping(at=float(number)) for number in range(count)))

    @asynccontextmanager
    async def reader(self, token: str = TOKEN, **wanted: Any) -> AsyncIterator[Reader]:
        async with connect(self.url, compression=None, max_queue=None) as line:
            reader = Reader(line)
            await reader.say(type="authenticate", token=token)
            assert (await reader.hear())["type"] == "welcome"
            await reader.say(type="subscribe", **wanted)
            assert (await reader.hear())["type"] == "subscribed"
            yield reader


class Reader:
    def __init__(self, line: ClientConnection) -> None:
        self.line = line
        self.cursor = ""

    async def say(self, **message: Any) -> None:
        await self.line.send(json.dumps(message))

    async def hear(self) -> Json:
        async with asyncio.timeout(PATIENCE):
            message: Json = json.loads(await self.line.recv())
        self.cursor = message.get("cursor", self.cursor)
        return message

    async def seqs(self, count: int) -> list[int]:
        """The numbers of the next events, that many at least."""
        found: list[int] = []
        while len(found) < count:
            message = await self.hear()
            assert message["type"] == "events", message
            found += [event["seq"] for event in message["events"]]
        return found

    async def end(self) -> ConnectionClosed:
        """How the connection was closed, with what was said before left unread."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as error:
            return error


@asynccontextmanager
async def open_door(*, keep: int = 1 << 20, limit: int = 50, lag: int = 10_000) -> AsyncIterator[Door]:
    kept = KeptRecords(epoch="e1", keep=keep)
    recorded: list[Event] = []
    now = [1000.0]
    access = Access(TOKEN, recorded.append, lambda: now[0])
    streams = Streams(kept, access, limit=limit, lag=lag)
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        doors = Doors(host="127.0.0.1", port=port, allowed_hosts=(), allowed_origins=("https://console.example",))
        house: Any = None
        front = make_server(OperatorPlane(house, doors, Stubborn(streams)), 32 * 1024)
        serving = asyncio.create_task(front.serve(sockets=[listener]))
        try:
            yield Door(port, kept, access, streams, recorded, Codec(epoch="e1", hash_key=b"k"), now)
        finally:
            front.should_exit = True
            await serving
    assert not streams.readers


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers and Hangar share one loop here, on a machine that may be busy with other things."""
    monkeypatch.setattr(websocket, "PATIENCE", PATIENCE)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as opened:
        yield opened


async def test_a_reader_hears_what_happens_from_now_on_in_order(door: Door) -> None:
    door.happen(3)
    async with door.reader() as reader:
        door.happen(500)
        assert await reader.seqs(500) == list(range(4, 504))
        assert reader.cursor == "e1:503"
        door.happen(1)
        assert await reader.seqs(1) == [504]


async def test_a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice(door: Door) -> None:
    heard: list[int] = []
    cursor = "e1:0"
    for _ in range(5):
        door.happen(700)
        async with door.reader(after=cursor) as reader:
            door.happen(50)
            heard += await reader.seqs(300)
            cursor = reader.cursor
    async with door.reader(after=cursor) as reader:
        heard += await reader.seqs(door.kept.last - len(heard))
    assert heard == list(range(1, door.kept.last + 1))


async def test_whoever_asks_for_what_is_no_longer_kept_hears_the_range_and_then_all_that_is() -> None:
    async with open_door(keep=2_000) as door:
        door.happen(100)
        first = int(door.kept.oldest.partition(":")[2])
        async with door.reader(after="e1:10") as reader:
            assert await reader.hear() == {"type": "gap", "first": "e1:11", "last": f"e1:{first - 1}"}
            assert await reader.seqs(101 - first) == list(range(first, 101))
        async with door.reader(after=f"e1:{first - 1}") as reader:
            assert await reader.seqs(1) != []
        async with door.reader(after="e0:7") as reader:
            assert await reader.hear() == {"type": "gap", "first": "e0:7", "last": f"e1:{first - 1}"}
            assert (await reader.seqs(1))[0] == first


async def test_only_what_was_subscribed_to_is_told(door: Door) -> None:
    events: list[Event] = [
        CallDenied(at=1.0, provider="time", code="denied", severity=Severity.medium),
        CallDenied(at=1.0, provider="git", code="denied"),
        ProviderStateChanged(at=1.0, provider="git", before="cold", after="starting"),
        AuthFailed(at=1.0, door="rest", severity=Severity.high),
    ]
    for wanted, numbers in (
        ({"families": ["call"]}, [1, 2]),
        ({"families": ["auth.failed", "provider"]}, [3, 4]),
        ({"providers": ["git"]}, [2, 3]),
        ({"severity": "medium"}, [1, 4]),
        ({"families": ["call"], "providers": ["time"], "severity": "low"}, [1]),
        ({}, [1, 2, 3, 4]),
    ):
        start = door.kept.last
        async with door.reader(**wanted) as reader:
            door.record(*events)
            assert await reader.seqs(len(numbers)) == [start + number for number in numbers]
            assert int(reader.cursor.partition(":")[2]) >= start + numbers[-1]


async def test_a_filter_that_matches_nothing_still_moves_the_cursor(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "PROGRESS_EVERY", 0.0)
    async with door.reader(families=["call"]) as reader:
        door.happen(10)
        assert (await reader.hear()) == {"type": "progress", "cursor": "e1:10"}


WRONG_TOKENS = ["", "wrong", TOKEN + "x", TOKEN[:-1], "é", "\x00"]


@pytest.mark.parametrize("token", WRONG_TOKENS)
async def test_without_a_token_nothing_is_told(door: Door, token: str) -> None:
    door.happen(3)
    async with connect(door.url) as line:
        reader = Reader(line)
        await reader.say(type="authenticate", token=token)
        message = await reader.hear()
        assert (message["type"], message["problem"]["code"]) == ("error", "unauthorized")
        ended = await reader.end()
        assert ended.rcvd is not None
        assert (ended.rcvd.code, ended.rcvd.reason.partition(":")[0]) == (4401, "unauthorized")
    (told,) = door.recorded
    assert isinstance(told, AuthFailed)
    assert told.door == "stream"


async def test_no_header_cookie_or_query_stands_in_for_the_first_message(door: Door) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"token={TOKEN}"}
    async with connect(f"{door.url}?token={TOKEN}", additional_headers=headers) as line:
        reader = Reader(line)
        await reader.say(type="subscribe")
        assert (await reader.hear())["problem"]["code"] == "stream_message"
        assert (await reader.end()).rcvd.code == 4400  # type: ignore[union-attr]


async def test_a_session_token_opens_the_stream_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LOOK_EVERY", 0.01)
    async with open_door() as door:
        token = door.access.trade(door.access.new_code().code).token
        async with door.reader(token=token) as reader:
            door.happen(1)
            assert await reader.seqs(1) == [1]
            door.now[0] += 13 * 3600
            assert (await reader.end()).rcvd.code == 4401  # type: ignore[union-attr]


async def test_a_defect_is_told_with_a_reference_and_no_internals(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(cursor: str) -> None:
        raise ZeroDivisionError("secret internals")

    monkeypatch.setattr(door.kept, "resume", broken)
    async with connect(door.url) as line:
        reader = Reader(line)
        await reader.say(type="authenticate", token=TOKEN)
        await reader.say(type="subscribe", after="e1:0")
        assert (await reader.hear())["type"] == "welcome"
        message = await reader.hear()
        assert message["problem"]["code"] == "internal" and "secret" not in json.dumps(message)
        assert (await reader.end()).rcvd.code == 1011  # type: ignore[union-attr]


async def test_silence_is_ended(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PATIENCE", 0.05)
    async with connect(door.url) as line:
        assert (await Reader(line).end()).rcvd.code == 4408  # type: ignore[union-attr]


async def test_strangers_cannot_keep_an_operator_out(door: Door) -> None:
    silent = [await connect(door.url) for _ in range(MOST_STRANGERS + 5)]
    try:
        async with door.reader() as reader:
            door.happen(1)
            assert await reader.seqs(1) == [1]
        for line in silent[:5]:
            assert (await Reader(line).end()).rcvd.code == 4408  # type: ignore[union-attr]
    finally:
        for line in silent:
            await line.close()


async def test_readers_are_bounded() -> None:
    async with open_door(limit=2) as door, door.reader(), door.reader(), connect(door.url) as line:
        reader = Reader(line)
        await reader.say(type="authenticate", token=TOKEN)
        message = await reader.hear()
        assert message["problem"]["code"] == "limit"
        assert message["problem"]["retryAfter"] > 0
        assert (await reader.end()).rcvd.code == 4429  # type: ignore[union-attr]


async def test_a_reader_that_does_not_read_is_dropped_with_a_reason_and_can_resume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "LOOK_EVERY", 0.01)
    async with open_door(keep=1 << 30, lag=5_000) as door:
        fat = [CallDenied(at=1.0, provider="time", code="denied", reason="x" * 2000) for _ in range(1000)]
        async with connect(door.url, compression=None, max_queue=1) as line:
            reader = Reader(line)
            await reader.say(type="authenticate", token=TOKEN)
            await reader.say(type="subscribe")
            assert [(await reader.hear())["type"] for _ in range(2)] == ["welcome", "subscribed"]
            while door.streams.readers:
                assert door.kept.last < 100_000, "nobody was dropped"
                door.record(*fat)
                await asyncio.sleep(0)
            heard, ended = 0, None
            while ended is None:
                try:
                    numbers = [event["seq"] for event in (await reader.hear())["events"]]
                except ConnectionClosed as error:
                    ended = error.rcvd
                else:
                    assert numbers == list(range(heard + 1, heard + 1 + len(numbers)))
                    heard = numbers[-1]
        assert (ended.code, ended.reason.partition(":")[0]) == (4430, "slow_reader")
        assert 0 < heard < door.kept.last
        async with door.reader(after=reader.cursor) as again:
            assert await again.seqs(door.kept.last - heard) == list(range(heard + 1, door.kept.last + 1))


async def test_one_that_comes_back_far_behind_is_not_slow_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LOOK_EVERY", 0.0)
    async with open_door(lag=100) as door:
        door.happen(3_000)
        async with door.reader(after="e1:0") as reader:
            assert await reader.seqs(3_000) == list(range(1, 3_001))


async def test_a_slow_reader_delays_nobody_else() -> None:
    async with open_door(keep=64 << 20) as door, connect(door.url, compression=None, max_queue=1) as line:
        stuck = Reader(line)
        await stuck.say(type="authenticate", token=TOKEN)
        await stuck.say(type="subscribe")
        assert [(await stuck.hear())["type"] for _ in range(2)] == ["welcome", "subscribed"]
        async with door.reader() as reader:
            door.record(*[CallDenied(at=1.0, code="denied", reason="x" * 4000) for _ in range(3_000)])
            assert len(await reader.seqs(3_000)) == 3_000


async def test_another_origin_or_host_is_refused_before_the_connection_is_open(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    for status, code, more in (
        (403, "origin_refused", {"additional_headers": {"Origin": "https://evil.example"}}),
        (421, "host_refused", {"host": "127.0.0.1", "port": door.port}),
    ):
        with pytest.raises(InvalidStatus) as caught:
            await connect(door.url if status == 403 else "ws://evil.example/api/v1/stream", **more)
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body or b"")["code"] == code
    assert not caplog.records, "whoever knocks could fill the log"


async def test_an_allowed_origin_is_let_in(door: Door) -> None:
    for origin in ("https://console.example", f"http://127.0.0.1:{door.port}"):
        async with connect(door.url, additional_headers={"Origin": origin}):
            pass


async def test_no_other_path_speaks_websocket(door: Door) -> None:
    for path in ("/mcp", "/api/v1/streams", "/"):
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{door.port}{path}")
        assert caught.value.response.status_code == 404


async def test_when_hangar_stops_its_readers_hear_it() -> None:
    async with open_door() as door:
        line = await connect(door.url, compression=None)
        reader = Reader(line)
        await reader.say(type="authenticate", token=TOKEN)
        await reader.say(type="subscribe")
        assert [(await reader.hear())["type"] for _ in range(2)] == ["welcome", "subscribed"]
    assert (await reader.end()).rcvd.code == 1012  # type: ignore[union-attr]
    await line.close()


# whatever is said first


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NEARLY = st.fixed_dictionaries(
    {"type": st.sampled_from(["authenticate", "subscribe", "welcome"]) | JSON},
    optional={
        "token": st.sampled_from(WRONG_TOKENS) | JSON,
        "families": st.lists(st.sampled_from(["call", "cal"]), max_size=2) | JSON,
        "providers": JSON,
        "severity": st.sampled_from(["low", "nope"]) | JSON,
        "after": st.sampled_from(["e1:0", "e1:999999", "x", ":", "e1:-1"]) | JSON,
        "more": JSON,
    },
)
MESSAGES = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    JSON.map(json.dumps),
    NEARLY.map(json.dumps),
    st.sampled_from(["[" * 5_000, '{"type":' * 2_000, "", "null", '{"type":"authenticate","type":"subscribe"}']),
)
FUZZ = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(message=MESSAGES)
async def test_whatever_a_stranger_says_first_lets_him_in_nowhere(door: Door, message: str | bytes) -> None:
    async with connect(door.url, compression=None) as line:
        await line.send(message)
        reader = Reader(line)
        answer = await reader.hear()
        assert (answer["type"], answer["problem"]["code"] in ("stream_message", "unauthorized")) == ("error", True)
        ended = await reader.end()
        assert ended.rcvd is not None
        assert ended.rcvd.code == CLOSE_CODES[answer["problem"]["code"]]
    assert not door.streams.readers


@FUZZ
@given(message=MESSAGES)
async def test_whatever_is_said_second_is_a_subscription_or_a_problem(door: Door, message: str | bytes) -> None:
    async with connect(door.url, compression=None) as line:
        reader = Reader(line)
        await reader.say(type="authenticate", token=TOKEN)
        assert (await reader.hear())["type"] == "welcome"
        await line.send(message)
        answer = await reader.hear()
        if answer["type"] != "subscribed":
            assert answer["problem"]["code"] in ("stream_message", "invalid_params", "invalid_cursor")
            assert (await reader.end()).rcvd.code == 4400  # type: ignore[union-attr]


@pytest.mark.parametrize("message", ["x" * 20_000, b"x" * 20_000])
async def test_a_large_message_ends_the_connection(door: Door, message: str | bytes) -> None:
    async with connect(door.url, compression=None) as line:
        await line.send(message)
        assert (await Reader(line).end()).rcvd.code == 1009  # type: ignore[union-attr]


async def test_whoever_talks_after_subscribing_is_sent_away(door: Door) -> None:
    async with door.reader() as reader:
        await reader.say(type="subscribe")
        assert (await reader.hear())["problem"]["code"] == "stream_message"
        assert (await reader.end()).rcvd.code == 4400  # type: ignore[union-attr]
