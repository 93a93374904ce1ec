# SPDX-License-Identifier: MIT
"""What happens while a call is under way: progress, log messages, cancellation, others with the same id."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.house import House, fixture_server, house, remote_provider
from tests.journeys.wire import LegacyWire, ModernWire, Wire, client, messages

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ERAS = ["legacy", "modern"]


@dataclass(frozen=True)
class Pair:
    house: House
    fixture: str
    """The provider's own URL, to ask it directly what it saw."""
    era: str

    async def seen(self) -> dict[str, int]:
        async with client(self.era, self.fixture) as direct:
            told: dict[str, int] = json.loads((await direct.call("test_sleepers")).text)
        return told

    async def wake(self) -> None:
        """End every sleep at the provider."""
        async with client(self.era, self.fixture) as direct:
            await direct.call("test_wake")

    async def until(self, **wanted: int) -> None:
        """Until the provider itself says so; bounded."""
        until = time.monotonic() + 60
        told = await self.seen()
        while {key: told[key] for key in wanted} != wanted:
            assert time.monotonic() < until, f"the provider still says {told}, not {wanted}"
            await anyio.sleep(0.05)
            told = await self.seen()


@contextmanager
def pair(folder: Path, era: str) -> Iterator[Pair]:
    with ExitStack() as stack:
        fixture = stack.enter_context(fixture_server(folder, era))
        yield Pair(stack.enter_context(house(folder, {"fixture": remote_provider(fixture)})), fixture, era)


@pytest.fixture(scope="module", params=ERAS)
def upstream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("pair"), request.param) as both:
        yield both


@pytest.mark.parametrize("era", ERAS)
async def test_two_clients_that_use_the_same_id_do_not_get_each_others_answers(upstream: Pair, era: str) -> None:
    async with client(era, upstream.house.url, name="a") as one, client(era, upstream.house.url, name="b") as two:
        answers: dict[str, str] = {}

        async def ask(who: str, wire: Wire, number: int) -> None:
            answer = await wire.call("fixture__greet", {"name": f"{who}{number}"}, id=1)
            assert answer.message["id"] == 1
            answers[f"{who}{number}"] = answer.text

        for number in range(10):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, "one", one, number)
                group.start_soon(ask, "two", two, number)
    assert answers == {who: f"Hello, {who}!" for who in answers}
    assert len(answers) == 20


@pytest.mark.parametrize("era", ERAS)
async def test_ids_keep_their_type(upstream: Pair, era: str) -> None:
    async with client(era, upstream.house.url) as wire:
        for number in (7, "7", "a-name", 2**53 - 1):
            answer = await wire.call("fixture__greet", {"name": "x"}, id=number)
            assert answer.message["id"] == number
            assert type(answer.message["id"]) is type(number)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("token", ["a token of mine", 42])
async def test_progress_arrives_on_the_calls_own_stream_and_carries_the_clients_token(
    upstream: Pair, era: str, token: str | int
) -> None:
    async with client(era, upstream.house.url) as wire:
        answer = await wire.call("fixture__test_tool_with_progress", {}, _meta={"progressToken": token})
        silent = await wire.call("fixture__test_tool_with_progress", {})
    told = [m["params"] for m in answer.others if m["method"] == "notifications/progress"]
    assert [(params["progress"], params["total"]) for params in told] == [(0, 100), (50, 100), (100, 100)]
    assert [params["progressToken"] for params in told] == [token] * 3
    assert not [m for m in silent.others if m["method"] == "notifications/progress"]


async def test_a_modern_client_gets_log_messages_only_where_it_asks_for_them(upstream: Pair) -> None:
    level = {"io.modelcontextprotocol/logLevel": "info"}
    async with ModernWire(upstream.house.url) as wire:
        asked = await wire.call("fixture__test_tool_with_logging", {}, _meta=level)
        silent = await wire.call("fixture__test_tool_with_logging", {})
    assert len([m for m in asked.others if m["method"] == "notifications/message"]) == 3
    assert not [m for m in silent.others if m["method"] == "notifications/message"]


async def test_a_legacy_client_gets_log_messages_from_the_level_it_set(upstream: Pair) -> None:
    async with LegacyWire(upstream.house.url) as wire:
        await wire.ask("logging/setLevel", {"level": "info"})
        asked = await wire.call("fixture__test_tool_with_logging", {})
        await wire.ask("logging/setLevel", {"level": "error"})
        silent = await wire.call("fixture__test_tool_with_logging", {})
    assert len([m for m in asked.others if m["method"] == "notifications/message"]) == 3
    assert not [m for m in silent.others if m["method"] == "notifications/message"]


async def test_a_modern_client_that_closes_its_stream_stops_the_providers_work(upstream: Pair) -> None:
    before = await upstream.seen()
    async with ModernWire(upstream.house.url) as wire:
        asked = {"name": "fixture__test_sleep", "arguments": {"seconds": 300}, "_meta": {"progressToken": 1}}
        async with wire.open("tools/call", asked) as (_, response):
            stream = messages(response)
            assert (await anext(stream))["method"] == "notifications/progress"
            await upstream.until(sleeping=1)
    await upstream.until(sleeping=0, cancelled=before["cancelled"] + 1)


async def test_a_legacy_client_that_cancels_stops_the_providers_work(upstream: Pair) -> None:
    before = await upstream.seen()
    async with LegacyWire(upstream.house.url) as wire, anyio.create_task_group() as group:

        async def sleep() -> None:
            asked = {"name": "fixture__test_sleep", "arguments": {"seconds": 300}}
            async with wire.open("tools/call", asked, id="long") as (_, response):
                async for _message in messages(response):
                    pass

        group.start_soon(sleep)
        await upstream.until(sleeping=1)
        assert await wire.tell("notifications/cancelled", {"requestId": "long", "reason": "enough"}) == 202
        await upstream.until(sleeping=0, cancelled=before["cancelled"] + 1)
        group.cancel_scope.cancel()


async def test_a_legacy_client_that_only_loses_its_connection_has_not_cancelled(upstream: Pair) -> None:
    before = await upstream.seen()
    async with LegacyWire(upstream.house.url) as wire:
        asked = {"name": "fixture__test_sleep", "arguments": {"seconds": 300}}
        async with anyio.create_task_group() as group:

            async def sleep() -> None:
                async with wire.open("tools/call", asked) as (_, response):
                    await response.aread()

            group.start_soon(sleep)
            await upstream.until(sleeping=1)
            group.cancel_scope.cancel()
        # Whatever Hangar made of it, it has done so by the time it answers again.
        for _ in range(3):
            assert (await wire.call("fixture__greet", {"name": "x"})).text == "Hello, x!"
        assert (await upstream.seen())["sleeping"] == 1
        await upstream.wake()
        await upstream.until(sleeping=0, cancelled=before["cancelled"])


async def test_an_unknown_or_late_cancellation_is_ignored(upstream: Pair) -> None:
    async with LegacyWire(upstream.house.url) as wire:
        await wire.call("fixture__greet", {"name": "x"}, id=5)
        for number in (5, "5", 999):
            assert await wire.tell("notifications/cancelled", {"requestId": number}) == 202
        assert (await wire.call("fixture__greet", {"name": "y"})).text == "Hello, y!"


@pytest.mark.parametrize("era", ERAS)
async def test_the_id_of_another_client_cancels_nothing(upstream: Pair, era: str) -> None:
    before = await upstream.seen()
    results: list[str] = []
    async with (
        client(era, upstream.house.url) as victim,
        LegacyWire(upstream.house.url) as other,
        anyio.create_task_group() as group,
    ):

        async def sleep() -> None:
            results.append((await victim.call("fixture__test_sleep", {"seconds": 300}, id=77)).text)

        group.start_soon(sleep)
        await upstream.until(sleeping=1)
        await other.tell("notifications/cancelled", {"requestId": 77})
        assert (await other.call("fixture__greet", {"name": "x"})).text == "Hello, x!"
        await upstream.wake()
    assert results == ["slept"]
    assert (await upstream.seen())["cancelled"] == before["cancelled"]
