# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from mcp_hangar.application import catalogue, subscriptions
from mcp_hangar.application.instances import Instance
from mcp_hangar.application.subscriptions import UPDATED, Ear, subscription_meta
from mcp_hangar.domain.errors import CallCancelled, CallTimeout, Denied, HangarError, ProtocolError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.catalogue import KINDS, PROMPTS, RESOURCES, TEMPLATES, TOOLS
from mcp_hangar.domain.mcp.envelope import Json, Raw
from mcp_hangar.domain.mcp.eras import SUBSCRIPTION_ID, Era
from mcp_hangar.domain.provider import Limits, Sharing
from tests.application.offering import EVERYTHING, Offers, World, fake, say, settle, tell, tools, until
from tests.fakes import a_provider

pytestmark = pytest.mark.anyio

TIME = a_provider("time")
URI = "file:///x"
LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
eras = pytest.mark.parametrize("era", list(Era))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SETTLE", 0.005)
    monkeypatch.setattr(subscriptions, "SETTLE", 0.005)
    monkeypatch.setattr(subscriptions, "_RECONNECT", (0.001, 0.002))


class Hearing:
    """An ear, and what it was told."""

    def __init__(
        self, world: World, *, scope: str = "", prefixed: bool = True, methods: set[str] | None = None
    ) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.world = world
        self.ear = Ear(scope=scope, prefixed=prefixed, methods=methods or set(), deliver=self._deliver)
        world.subscriptions.open(self.ear)

    def _deliver(self, method: str, params: dict[str, Json]) -> None:
        self.told.append((method, json.loads(envelope.join(params.items()))))

    async def leave(self) -> None:
        await self.world.subscriptions.close(self.ear, self.world.instances.warm.get)


def serving(era: Era, **more: Any) -> World:
    capabilities = {"tools": {}, "resources": {"subscribe": True}}
    return World(lambda wire: Offers(era=era, capabilities=capabilities, **more))


def asked(instance: Instance, method: str) -> list[dict[str, Any]]:
    return [each for each in fake(instance).sent if each["method"] == method]


def listens(instance: Instance) -> list[dict[str, Any]]:
    """Listen exchanges for resources that are still open."""
    return [
        each
        for each in asked(instance, LISTEN)
        if "resourceSubscriptions" in each["params"]["notifications"] and not fake(instance).exchanges[each["id"]].over
    ]


async def acknowledge(instance: Instance) -> None:
    await until(lambda: bool(listens(instance)))
    for each in listens(instance):
        tell(instance, each["id"], {"method": ACKNOWLEDGED, "params": {"notifications": {}}})


async def subscribed(world: World, hearing: Hearing, instance: Instance, uri: str = URI) -> None:
    task = asyncio.create_task(world.subscriptions.subscribe(hearing.ear, instance, uri))
    if instance.era is Era.modern:
        await until(lambda: task.done() or bool(listens(instance)))
        if not task.done():
            await acknowledge(instance)
    await task


def updates(instance: Instance, uri: str = URI, **more: Any) -> None:
    params = {"uri": uri, **more}
    if instance.era is Era.legacy:
        say(instance, UPDATED, params)
    else:
        for each in listens(instance):
            meta = {SUBSCRIPTION_ID: each["id"], **params.pop("_meta", {})}
            tell(instance, each["id"], {"method": UPDATED, "params": {**params, "_meta": meta}})


# -- resources


@eras
async def test_a_provider_is_asked_once_however_many_listen_and_told_when_nobody_does(era: Era) -> None:
    world = serving(era)
    instance = await world.ready(TIME)
    first, second, other = Hearing(world), Hearing(world, prefixed=False), Hearing(world)
    for hearing in (first, first, second):
        await subscribed(world, hearing, instance)
    assert instance.pinned == 2
    assert len(asked(instance, LISTEN if era is Era.modern else "resources/subscribe")) == 1
    updates(instance)
    updates(instance, "file:///other")
    await settle()
    assert first.told == [(UPDATED, {"uri": "time+file:///x"})]
    assert second.told == [(UPDATED, {"uri": URI})]
    assert other.told == []
    await first.leave()
    assert asked(instance, "resources/unsubscribe") == []
    updates(instance)
    await settle()
    assert (len(first.told), len(second.told)) == (1, 2)
    await second.leave()
    await settle()
    assert instance.pinned == 0
    if era is Era.legacy:
        assert len(asked(instance, "resources/unsubscribe")) == 1
    else:
        assert listens(instance) == []
    await world.close()


@eras
async def test_many_who_subscribe_at_the_same_moment_ask_once(era: Era) -> None:
    world = serving(era)
    instance = await world.ready(TIME)
    hearings = [Hearing(world) for _ in range(10)]
    tasks = [asyncio.create_task(world.subscriptions.subscribe(each.ear, instance, URI)) for each in hearings]
    if era is Era.modern:
        await acknowledge(instance)
    await asyncio.gather(*tasks)
    assert len(asked(instance, LISTEN if era is Era.modern else "resources/subscribe")) == 1
    updates(instance)
    await settle()
    assert [len(each.told) for each in hearings] == [1] * 10
    for each in hearings:
        await each.leave()
    await settle()
    assert instance.pinned == 0
    assert world.subscriptions._wanted == {}
    assert world.subscriptions._asking == {}
    assert world.subscriptions._listening == {}
    await world.close()


@eras
async def test_a_provider_that_refuses_is_told_to_whoever_asked_and_leaves_nothing(era: Era) -> None:
    method = LISTEN if era is Era.modern else "resources/subscribe"
    world = serving(era, refused={method: (-32603, None)}, silent=set())
    instance = await world.ready(TIME)
    hearings = [Hearing(world) for _ in range(3)]
    outcomes = await asyncio.gather(
        *(world.subscriptions.subscribe(each.ear, instance, URI) for each in hearings), return_exceptions=True
    )
    assert all(isinstance(outcome, HangarError) for outcome in outcomes), outcomes
    await settle()
    assert instance.pinned == 0
    assert all(not each.ear.resources for each in hearings)
    assert world.subscriptions._wanted == {}
    assert world.subscriptions._listening == {}
    await world.close()


async def test_a_provider_without_subscriptions_says_so() -> None:
    world = serving(Era.legacy, refused={"resources/subscribe": (-32601, None)})
    instance = await world.ready(TIME)
    with pytest.raises(ProtocolError) as raised:
        await world.subscriptions.subscribe(Hearing(world).ear, instance, URI)
    assert "no subscriptions" in raised.value.why
    await world.close()


@eras
async def test_a_provider_that_never_agrees_is_waited_for_in_bounds(era: Era) -> None:
    world = serving(era, silent={LISTEN, "resources/subscribe"})
    instance = await world.ready(replace(TIME, limits=Limits(call_timeout=0.01)))
    with pytest.raises(CallTimeout):
        await world.subscriptions.subscribe(Hearing(world).ear, instance, URI)
    await settle()
    assert world.subscriptions._listening == {}
    assert all(exchange.over for exchange in fake(instance).exchanges.values())
    await world.close()


@eras
async def test_a_client_that_leaves_while_a_provider_is_asked_leaves_nothing(era: Era) -> None:
    server = Offers(era=era, capabilities={"resources": {}}, silent={LISTEN, "resources/subscribe"})
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    hearing = Hearing(world)
    task = asyncio.create_task(world.subscriptions.subscribe(hearing.ear, instance, URI))
    await fake(instance).asked[LISTEN if era is Era.modern else "resources/subscribe"].wait()
    await hearing.leave()
    if era is Era.modern:
        await acknowledge(instance)
    else:
        fake(instance).answer_last("resources/subscribe")
    with pytest.raises(CallCancelled):
        await task
    await settle()
    assert instance.pinned == 0
    assert world.subscriptions._wanted == {}
    if era is Era.legacy:
        assert len(asked(instance, "resources/unsubscribe")) == 1
    else:
        assert listens(instance) == []
    await world.close()


async def test_one_client_cannot_listen_to_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MOST_RESOURCES", 2)
    world = serving(Era.legacy)
    instance = await world.ready(TIME)
    hearing = Hearing(world)
    for number in range(2):
        await world.subscriptions.subscribe(hearing.ear, instance, f"file:///{number}")
    with pytest.raises(Denied) as refused:
        await world.subscriptions.subscribe(hearing.ear, instance, URI)
    assert refused.value.code == "limit"
    await world.subscriptions.subscribe(hearing.ear, instance, "file:///1")
    await world.close()


@eras
async def test_a_new_instance_is_subscribed_to_what_the_old_one_was(era: Era) -> None:
    world = serving(era)
    shared = a_provider("time", sharing=Sharing.shared)
    instance = await world.ready(shared)
    hearing = Hearing(world)
    await subscribed(world, hearing, instance)
    fake(instance).die()
    await settle()
    again = await world.ready(shared)
    assert again is not instance
    if era is Era.modern:
        await acknowledge(again)
    else:
        await fake(again).asked["resources/subscribe"].wait()
    await settle()
    assert again.pinned == 1
    updates(again)
    await settle()
    assert len(hearing.told) == 1
    await hearing.leave()
    await settle()
    assert again.pinned == 0
    await world.close()


async def test_a_listen_stream_that_ends_is_opened_again() -> None:
    world = serving(Era.modern)
    instance = await world.ready(TIME)
    hearing = Hearing(world)
    await subscribed(world, hearing, instance)
    for number in range(3):
        (stream,) = listens(instance)
        end = {"result": {"resultType": "complete"}} if number else {"error": {"code": -32603, "message": "no"}}
        tell(instance, stream["id"], {"id": stream["id"], **end})
        await until(lambda: bool(listens(instance)))
    updates(instance)
    await settle()
    assert len(hearing.told) == 1
    await world.close()


@eras
async def test_a_client_is_not_told_the_number_of_our_subscription(era: Era) -> None:
    world = serving(era)
    instance = await world.ready(TIME)
    hearing = Hearing(world)
    await subscribed(world, hearing, instance)
    updates(instance, title="x", _meta={"vendor/key": 1, "io.mcp-hangar/caller": "root"})
    await settle()
    assert hearing.told == [(UPDATED, {"uri": "time+file:///x", "title": "x", "_meta": {"vendor/key": 1}})]
    await world.close()


@pytest.mark.parametrize("params", ["", ',"params":{}', ',"params":{"uri":7}', ',"params":{"uri":"a","_meta":7}'])
async def test_an_update_that_names_nothing_does_no_harm(params: str) -> None:
    world = serving(Era.legacy)
    instance = await world.ready(TIME)
    hearing = Hearing(world)
    await subscribed(world, hearing, instance)
    fake(instance).say(f'{{"jsonrpc":"2.0","method":"{UPDATED}"{params}}}')
    updates(instance)
    assert len(hearing.told) == 1
    await world.close()


# -- list changes


async def test_a_change_is_one_notification_to_those_who_want_it_and_see_the_provider() -> None:
    world = World(lambda wire: Offers(pages={"tools/list": [tools("a"), tools("b")]}))
    instance = await world.ready(TIME)
    everyone, scoped = Hearing(world, methods={TOOLS.changed}), Hearing(world, scope="time", methods={TOOLS.changed})
    elsewhere, deaf = Hearing(world, scope="git", methods={TOOLS.changed}), Hearing(world, methods={PROMPTS.changed})
    await world.catalogue.load(instance)
    for _ in range(5):
        say(instance, TOOLS.changed)
    await until(lambda: bool(everyone.told and scoped.told))
    await settle()
    assert everyone.told == scoped.told == [(TOOLS.changed, {})]
    assert elsewhere.told == deaf.told == []
    await world.close()


async def test_several_lists_within_a_moment_are_one_notification_each() -> None:
    world = World()
    instance = await world.ready(TIME)
    hearing = Hearing(world, methods={kind.changed for kind in KINDS.values()})
    for _ in range(3):
        for kind in (RESOURCES, TEMPLATES, TOOLS):
            world.subscriptions.list_changed(instance, kind)
    world.subscriptions.fleet_changed()
    await until(lambda: bool(hearing.told))
    assert sorted(method for method, _ in hearing.told) == sorted({kind.changed for kind in KINDS.values()})
    await world.close()


async def test_who_has_gone_is_told_nothing_more() -> None:
    world = World()
    instance = await world.ready(TIME)
    hearing = Hearing(world, methods={TOOLS.changed})
    world.subscriptions.list_changed(instance, TOOLS)
    await hearing.leave()
    await asyncio.sleep(0.02)
    assert hearing.told == []
    await world.close()


async def test_a_modern_provider_is_listened_to_for_what_it_declares() -> None:
    world = World(lambda wire: Offers(era=Era.modern, capabilities=EVERYTHING))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    hearing = Hearing(world, methods={TOOLS.changed})
    await fake(instance).asked[LISTEN].wait()
    (stream,) = asked(instance, LISTEN)
    assert stream["params"]["notifications"] == {"toolsListChanged": True, "resourcesListChanged": True}
    assert stream["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
    fake(instance).server.pages = {"tools/list": [tools("b")]}  # type: ignore[attr-defined]
    tell(instance, stream["id"], {"method": TOOLS.changed})
    await until(lambda: bool(hearing.told))
    assert hearing.told == [(TOOLS.changed, {})]
    await world.close()
    await settle()
    assert world.subscriptions._listening == {}


# -- messages


@pytest.mark.parametrize("id", [b"1", b'"1"', b'"x\\u0031"'])
def test_each_message_names_the_listen_request_with_its_ids_own_type(id: bytes) -> None:
    params: dict[str, Json] = {"uri": b'"a"', "_meta": Raw(b'{"vendor/key":1.50}')}
    said = subscription_meta(id, params)
    meta = envelope.members(envelope.members(said)["_meta"])
    assert bytes(meta[SUBSCRIPTION_ID]) == id
    assert bytes(meta["vendor/key"]) == b"1.50"
    assert json.loads(subscription_meta(id, {})) == {"_meta": {SUBSCRIPTION_ID: json.loads(id)}}
