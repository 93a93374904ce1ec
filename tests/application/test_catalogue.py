# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from mcp_hangar.application import catalogue as module
from mcp_hangar.application.catalogue import ask, declaration_digest
from mcp_hangar.domain.errors import CallTimeout, HangarError, ProtocolError, TransportError
from mcp_hangar.domain.events import ProviderMessageRefused, ProviderToolsetChanged
from mcp_hangar.domain.mcp.catalogue import PROMPTS, TOOLS
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import SubprocessLaunch
from tests.application.offering import Kept, Offers, World, fake, say, settle, tools, until
from tests.fakes import a_provider

pytestmark = pytest.mark.anyio

TIME = a_provider("time")
CHANGED = "notifications/tools/list_changed"


def paged(*results: dict[str, Any], **more: Any) -> Offers:
    return Offers(capabilities={"tools": {}}, pages={"tools/list": list(results)}, **more)


async def test_all_pages_are_drained_and_the_empty_cursor_is_one() -> None:
    server = paged(tools("a", nextCursor=""), tools("b", nextCursor="x"), tools("c", nextCursor=None))
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    offer = await world.catalogue.load(instance)
    assert list(offer.of(TOOLS)) == ["a", "b", "c"]
    cursors = [each["params"].get("cursor") for each in fake(instance).sent if each["method"] == "tools/list"]
    assert cursors == [None, "", "x"]
    await world.close()


async def test_lists_that_a_provider_does_not_declare_are_not_asked_for() -> None:
    world = World(lambda wire: paged(tools("a")))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    assert set(fake(instance).methods) & {"prompts/list", "resources/list", "resources/templates/list"} == set()
    await world.close()


@pytest.mark.parametrize(
    "results",
    [
        [tools("a", nextCursor="x")],
        [tools("a", nextCursor="x"), tools("b", nextCursor="y"), tools("c", nextCursor="x")],
        [{"tools": 7}],
        [{"tools": {"a": 1}}],
    ],
)
async def test_a_list_without_end_or_form_is_the_providers_fault(results: list[dict[str, Any]]) -> None:
    world = World(lambda wire: paged(*results))
    instance = await world.ready(TIME)
    with pytest.raises(ProtocolError) as raised:
        await world.catalogue.load(instance)
    assert raised.value.facts["provider"] == "time"
    await world.close()


async def test_too_many_items_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ITEMS", 3)
    world = World(lambda wire: paged(tools("a", "b", nextCursor="1"), tools("c", "d", nextCursor="2")))
    with pytest.raises(ProtocolError, match="cannot accept"):
        await world.catalogue.load(await world.ready(TIME))
    await world.close()


async def test_however_many_wait_the_lists_are_fetched_once() -> None:
    server = paged(tools("a"))
    server.silent.add("tools/list")
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    world.catalogue.begin(instance)
    world.catalogue.begin(instance)
    waiting = [asyncio.create_task(world.catalogue.load(instance)) for _ in range(50)]
    await fake(instance).asked["tools/list"].wait()
    waiting[0].cancel()
    fake(instance).answer_last("tools/list")
    offers = await asyncio.gather(*waiting[1:])
    assert {id(offer) for offer in offers} == {id(world.catalogue.offers[instance.id])}
    assert fake(instance).methods.count("tools/list") == 1
    assert waiting[0].cancelled()
    await world.close()


async def test_a_method_that_a_provider_lacks_is_an_empty_list_and_another_error_is_one() -> None:
    world = World(lambda wire: Offers())  # it declares prompts and knows no prompts/list
    offer = await world.catalogue.load(await world.ready(TIME))
    assert list(offer.of(TOOLS)) == ["now"]
    assert offer.of(PROMPTS) == {}
    await world.close()
    broken = World(lambda wire: Offers(refused={"tools/list": (-32603, "not -32601 at all")}))
    with pytest.raises(TransportError):
        await broken.catalogue.load(await broken.ready(TIME))
    await broken.close()


async def test_a_failed_load_is_tried_again_by_the_next_who_asks() -> None:
    server = paged(tools("a"))
    server.refused["tools/list"] = (-32603, None)
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    with pytest.raises(TransportError):
        await world.catalogue.load(instance)
    server.refused.clear()
    assert list((await world.catalogue.load(instance)).of(TOOLS)) == ["a"]
    await world.close()


async def test_a_burst_of_changes_is_one_fetch_and_tells_which_list_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.01)
    world = World(lambda wire: paged(tools("a"), tools("b")))
    instance = await world.ready(TIME)
    before = await world.catalogue.load(instance)
    before.remember("file:///handed-out")
    for _ in range(20):
        say(instance, CHANGED)
    await until(lambda: world.changes != [])
    await settle()
    assert world.changes == [("time", "tools/list")]
    assert fake(instance).methods.count("tools/list") == 2
    assert list(world.catalogue.offers[instance.id].of(TOOLS)) == ["b"]
    assert world.catalogue.offers[instance.id].knows_resource("file:///handed-out")
    await world.close()


async def test_a_change_that_changed_nothing_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.01)
    world = World(lambda wire: paged(tools("a")))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    say(instance, CHANGED)
    await until(lambda: fake(instance).methods.count("tools/list") == 2)
    await settle()
    assert world.changes == []
    assert len([event for event in world.events if isinstance(event, ProviderToolsetChanged)]) == 1
    await world.close()


async def test_a_reload_that_fails_leaves_the_offer_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.01)
    server = paged(tools("a"))
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    offer = await world.catalogue.load(instance)
    server.refused["tools/list"] = (-32603, None)
    say(instance, CHANGED)
    await until(lambda: fake(instance).methods.count("tools/list") == 2)
    await settle()
    assert world.catalogue.offers[instance.id] is offer
    await world.close()


async def test_unknown_names_do_not_become_upstream_traffic() -> None:
    world = World(lambda wire: paged(tools("a")))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    for _ in range(20):
        await world.catalogue.refresh(instance)
    assert fake(instance).methods.count("tools/list") == 2
    await world.close()


async def test_a_list_that_is_no_longer_good_is_fetched_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.0)
    world = World(lambda wire: paged(tools("a", ttlMs=600_000), era=Era.modern))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    world.catalogue.refresh_if_stale(instance)
    await settle()
    assert fake(instance).methods.count("tools/list") == 1
    world.catalogue._expires[instance.id] = 0.0
    for _ in range(5):
        world.catalogue.refresh_if_stale(instance)
    await until(lambda: fake(instance).methods.count("tools/list") == 2)
    await settle()
    assert fake(instance).methods.count("tools/list") == 2
    await world.close()


async def test_an_offer_stays_known_when_its_instance_is_gone() -> None:
    world = World(lambda wire: paged(tools("a")))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    fake(instance).die()
    await until(lambda: instance.id not in world.catalogue.offers)
    known = world.catalogue.known(TIME, "ada", "{}")
    assert known is not None
    assert list(known.of(TOOLS)) == ["a"]
    assert world.catalogue.known(TIME, "bob", "{}") is None, "another caller's view may be another"
    assert world.catalogue.newest(TIME) is known
    await world.close()


async def test_a_second_start_lists_at_once_from_disk() -> None:
    kept = Kept()
    world = World(lambda wire: paged(tools("a", "ü")), cache=kept)
    await world.catalogue.load(await world.ready(TIME))
    await world.close()
    again = World(cache=kept)
    known = again.catalogue.known(TIME, "ada", "{}")
    assert known is not None
    assert list(known.of(TOOLS)) == ["a", "ü"]
    assert again.catalogue.known(TIME, "ada", '{"roots":{}}') is None
    changed = replace(TIME, launch=SubprocessLaunch(command=("server", "--other")))
    assert World(cache=kept).catalogue.known(changed, "ada", "{}") is None
    assert again.catalogue.newest_or_kept(TIME) is known
    assert declaration_digest(changed) != declaration_digest(TIME)
    await again.close()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"tools/list":[1]}', b"\xff", b"[" * 100_000])
async def test_what_the_disk_cannot_tell_is_not_known(data: bytes) -> None:
    class Broken(Kept):
        def get(self, declaration: str, capabilities: str) -> bytes | None:
            return data

    world = World(cache=Broken())
    assert world.catalogue.known(TIME, "ada", "{}") is None
    await world.close()


async def test_definitions_left_out_are_recorded_once() -> None:
    bad = {"tools": [{"name": "a"}, {"name": "a"}, {"title": "nameless"}]}
    world = World(lambda wire: paged(bad))
    instance = await world.ready(TIME)
    offer = await world.catalogue.load(instance)
    assert list(offer.of(TOOLS)) == ["a"]
    refused = [event for event in world.events if isinstance(event, ProviderMessageRefused)]
    assert len(refused) == len(offer.refused) == 2
    await world.close()


async def test_a_question_that_is_never_answered_ends_in_time() -> None:
    server = paged(tools("a"), silent={"logging/setLevel"})
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    with pytest.raises(CallTimeout):
        await ask(instance, "logging/setLevel", {"level": "info"}, 0.01)
    await world.close()


async def test_a_modern_provider_is_asked_with_an_envelope_that_declares_nothing() -> None:
    world = World(lambda wire: paged(tools("a"), era=Era.modern))
    instance = await world.ready(TIME)
    await world.catalogue.load(instance)
    sent = next(each for each in fake(instance).sent if each["method"] == "tools/list")
    assert sent["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
    assert b"Mcp-Method: tools/list\r\n" in fake(instance).headers
    await world.close()


async def test_loading_from_what_died_raises_and_leaves_nothing() -> None:
    server = paged(tools("a"), deadly={"tools/list"})
    world = World(lambda wire: server)
    instance = await world.ready(TIME)
    with pytest.raises(HangarError):
        await world.catalogue.load(instance)
    await settle()
    assert instance.id not in world.catalogue.offers
    assert world.catalogue._loading == {}
    await world.close()
