# SPDX-License-Identifier: MIT
"""What changes at a provider is told to those who want to know, in the words of their own era."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.house import House, fixture_command, fixture_server, house, remote_provider, subprocess_provider
from tests.journeys.wire import Json, LegacyWire, ModernWire, Wire, messages

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
WATCHED = "fixture+test://watched-resource"
PATIENCE = 60.0


@pytest.fixture(params=["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"])
def hangar(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    transport, era = request.param.split("-")
    if transport == "stdio":
        provider = subprocess_provider(fixture_command("--transport", "stdio", "--era", era), sessions="shared")
        with house(tmp_path, {"fixture": provider}) as opened:
            yield opened
    else:
        with fixture_server(tmp_path, era) as url, house(tmp_path, {"fixture": remote_provider(url)}) as opened:
            yield opened


class Told:
    """A stream of notifications, read one by one with patience."""

    def __init__(self, stream: AsyncIterator[Json]) -> None:
        self.stream = stream

    async def next(self, method: str) -> Json:
        with anyio.fail_after(PATIENCE):
            message = await anext(self.stream)
        assert message.get("method") == method, message
        params: Json = message.get("params", {})
        return params


@asynccontextmanager
async def listening(wire: Wire, wanted: Json) -> AsyncIterator[tuple[int | str, Told]]:
    async with wire.open("subscriptions/listen", {"notifications": wanted}, id="my-own-id") as (number, response):
        told = Told(messages(response))
        acknowledged = await told.next("notifications/subscriptions/acknowledged")
        assert acknowledged["notifications"] == wanted
        assert acknowledged["_meta"][SUBSCRIPTION] == number
        yield number, told


@asynccontextmanager
async def standing(wire: LegacyWire) -> AsyncIterator[Told]:
    head = {**wire._head("", {}), "accept": "text/event-stream"}
    async with wire.http.stream("GET", wire.url, headers=head) as response:
        assert response.status_code == 200
        yield Told(messages(response))


async def change(wire: Wire, what: str, arguments: dict[str, Any] | None = None) -> None:
    assert "changed" in (await wire.call(f"fixture__{what}", arguments)).text.replace("updated", "changed")


async def test_a_modern_listener_is_told_of_new_tools_and_finds_them(hangar: House) -> None:
    async with ModernWire(hangar.url) as wire:
        assert "fixture__test_extra" not in await wire.tools()
        async with listening(wire, {"toolsListChanged": True}) as (number, told):
            await change(wire, "test_trigger_prompt_change")
            await change(wire, "test_trigger_tool_change")
            params = await told.next("notifications/tools/list_changed")
            assert params["_meta"][SUBSCRIPTION] == number
            assert "fixture__test_extra" in await wire.tools()


async def test_a_legacy_session_is_told_of_new_tools_on_its_standing_stream(hangar: House) -> None:
    async with LegacyWire(hangar.url) as wire:
        assert "fixture__test_extra" not in await wire.tools()
        async with standing(wire) as told:
            await change(wire, "test_trigger_tool_change")
            await told.next("notifications/tools/list_changed")
            assert "fixture__test_extra" in await wire.tools()


async def test_a_modern_listener_is_told_of_the_resource_it_named(hangar: House) -> None:
    async with ModernWire(hangar.url) as wire:
        await wire.ask("resources/read", {"uri": WATCHED})
        async with listening(wire, {"resourceSubscriptions": [WATCHED]}) as (number, told):
            await change(wire, "test_update_watched_resource", {"text": "new words"})
            params = await told.next("notifications/resources/updated")
            assert params["uri"] == WATCHED
            assert params["_meta"][SUBSCRIPTION] == number
        read = await wire.ask("resources/read", {"uri": WATCHED})
        assert read.result["contents"][0]["text"] == "new words"


async def test_a_legacy_session_is_told_of_the_resource_it_subscribed_to(hangar: House) -> None:
    async with LegacyWire(hangar.url) as wire, standing(wire) as told:
        assert (await wire.ask("resources/subscribe", {"uri": WATCHED})).result == {}
        await change(wire, "test_update_watched_resource", {"text": "new words"})
        assert (await told.next("notifications/resources/updated"))["uri"] == WATCHED
        assert (await wire.ask("resources/unsubscribe", {"uri": WATCHED})).result == {}
        await change(wire, "test_update_watched_resource", {"text": "newer words"})
        await change(wire, "test_trigger_tool_change")
        await told.next("notifications/tools/list_changed")


async def test_nobody_is_told_of_a_list_that_did_not_change(hangar: House) -> None:
    async with ModernWire(hangar.url) as wire:
        await wire.tools()
        async with listening(wire, {"toolsListChanged": True, "promptsListChanged": True}) as (_, told):
            for _ in range(3):
                await wire.call("fixture__greet", {"name": "x"})
            await change(wire, "test_trigger_prompt_change")
            await told.next("notifications/prompts/list_changed")
