# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json

import pytest

from mcp_hangar.application import listing as module
from mcp_hangar.application.listing import Page, Place, question
from mcp_hangar.domain.call import Call, Capabilities
from mcp_hangar.domain.contracts.policy import Effect, PolicyDecision
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.catalogue import KINDS, PROMPTS, RESOURCES, TOOLS, Offer
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.policy import ToolJudge, decide
from mcp_hangar.domain.provider import Provider, Sharing, ToolRules
from tests.application.offering import Offers, World, a_client, settle, tools, until
from tests.fakes import Server, a_provider, cannot_start

pytestmark = pytest.mark.anyio

TIME, GIT, DEAD = a_provider("time"), a_provider("git"), a_provider("dead", start_timeout=0.2)


def names(page: Page) -> list[str]:
    return [json.loads(raw)["name"] for raw in page.items]


async def test_every_provider_is_listed_in_order_under_its_own_name() -> None:
    own = b'{"name":"hangar_tools"}'
    world = World(lambda wire: Offers(), TIME, GIT, own_tools=(own,))
    assert names(await world.listing.page(a_client(), TOOLS)) == ["hangar_tools", "time__now", "git__now"]
    assert names(await world.listing.page(a_client(scope="git"), TOOLS)) == ["now"]
    assert names(await world.listing.page(a_client(scope="nobody"), TOOLS)) == []
    assert names(await world.listing.page(a_client(), PROMPTS)) == []
    await world.close()


async def test_each_era_sees_definitions_it_knows() -> None:
    offers = Offers(
        pages={"tools/list": [{"tools": [{"name": "a", "execution": {}, "outputSchema": {"type": "array"}}]}]}
    )
    world = World(lambda wire: offers, TIME)
    (modern,) = (await world.listing.page(a_client(), TOOLS)).items
    (legacy,) = (await world.listing.page(a_client(era=Era.legacy), TOOLS)).items
    assert set(json.loads(modern)) == {"name", "outputSchema"}
    assert set(json.loads(legacy)) == {"name", "execution"}
    await world.close()


class Sees:
    """Denies a tool to a caller; and what it was asked."""

    name = "sees"

    def __init__(self) -> None:
        self.asked: list[Call] = []

    def judge(self, call: Call, target: Provider) -> PolicyDecision | None:
        self.asked.append(call)
        if (call.caller.id, call.name) == ("bob", "drop"):
            return PolicyDecision(effect=Effect.deny, policy="sees", reason="because")
        return None


async def test_what_is_listed_is_what_may_be_called() -> None:
    judge = Sees()
    globs = ToolJudge({"git": ToolRules(deny=("dr*",))})
    world = World(lambda wire: Offers(pages={"tools/list": [tools("now", "drop")]}), TIME, GIT, judges=(judge, globs))
    for caller, expected in (("bob", ["time__now", "git__now"]), ("ada", ["time__now", "time__drop", "git__now"])):
        client = a_client(caller)
        assert names(await world.listing.page(client, TOOLS)) == expected
        for provider in (TIME, GIT):
            for tool in ("now", "drop"):
                allowed = decide(question(client, provider.name, tool), provider, world.fleet.judges) is None
                assert (f"{provider.name}__{tool}" in expected) is allowed
    assert {call.method for call in judge.asked} == {"tools/call"}
    assert {call.provider for call in judge.asked} == {"time", "git"}
    await world.close()


async def test_a_policy_that_fails_hides_its_tools_and_not_the_list() -> None:
    class Fails:
        name = "fails"

        def judge(self, call: Call, target: Provider) -> PolicyDecision | None:
            raise ValueError if target.name == "time" else KeyError("never") if target.name == "x" else StopIteration

    world = World(lambda wire: Offers(), TIME, judges=(Fails(),), own_tools=(b'{"name":"hangar_tools"}',))
    assert names(await world.listing.page(a_client(), TOOLS)) == ["hangar_tools"]
    await world.close()


async def test_one_dead_provider_hides_only_itself_and_is_named() -> None:
    world = World(lambda wire: Offers(), TIME, DEAD, GIT)
    launch = world.launcher.launch

    async def launch_or_fail(provider: Provider, instance: str, wire: str) -> object:
        if provider.name == "dead":
            raise cannot_start()
        return await launch(provider, instance, wire)

    world.launcher.launch = launch_or_fail  # type: ignore[method-assign, assignment]
    page = await world.listing.page(a_client(), TOOLS)
    assert names(page) == ["time__now", "git__now"]
    assert page.missing == ("dead",)
    await world.close()


async def test_an_unexpected_failure_of_one_provider_hides_only_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(lambda wire: Offers(), TIME, GIT)
    load = world.catalogue.load

    async def broken(instance: object) -> object:
        if instance.provider.name == "time":  # type: ignore[attr-defined]
            raise RecursionError
        return await load(instance)  # type: ignore[arg-type]

    monkeypatch.setattr(world.catalogue, "load", broken)
    page = await world.listing.page(a_client(), TOOLS)
    assert names(page) == ["git__now"]
    assert page.missing == ("time",)
    await world.close()


async def test_a_list_answers_in_time_and_a_change_follows_when_the_gap_closes() -> None:
    world = World(lambda wire: Offers(), TIME, timeout=0.01)
    world.launcher.gate = asyncio.Event()
    page = await world.listing.page(a_client(), TOOLS)
    assert (names(page), page.missing) == ([], ("time",))
    assert world.completed == 0
    world.launcher.gate.set()
    await until(lambda: world.completed == 1)
    page = await world.listing.page(a_client(), TOOLS)
    assert (names(page), page.missing) == (["time__now"], ())
    await settle()
    assert world.completed == 1
    assert len(world.launcher.launched) == 1
    await world.close()


async def test_many_who_list_at_once_start_a_provider_once_and_few_providers_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STARTS_AT_ONCE", 2)
    providers = [a_provider(f"p{number}") for number in range(6)]
    world = World(lambda wire: Offers(), *providers)
    starting = most = 0
    launch = world.launcher.launch

    async def slow(provider: Provider, instance: str, wire: str) -> object:
        nonlocal starting, most
        starting += 1
        most = max(most, starting)
        await settle()
        starting -= 1
        return await launch(provider, instance, wire)

    world.launcher.launch = slow  # type: ignore[method-assign, assignment]
    pages = await asyncio.gather(*(world.listing.page(a_client(), TOOLS) for _ in range(10)))
    assert {tuple(names(page)) for page in pages} == {tuple(f"p{number}__now" for number in range(6))}
    assert len(world.launcher.launched) == 6
    assert most <= 2
    await world.close()


async def test_pages_follow_each_other_without_gap_or_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    world = World(lambda wire: Offers(pages={"tools/list": [tools(*"abcd")]}), TIME, GIT)
    found: list[str] = []
    start: Place | None = None
    pages = 0
    for _ in range(10):
        page = await world.listing.page(a_client(), TOOLS, start)
        found += names(page)
        pages += 1
        start = page.next
        if start is None:
            break
    assert found == [f"{provider}__{name}" for provider in ("time", "git") for name in "abcd"]
    assert pages == 3
    await world.close()


async def test_each_caller_and_capability_set_has_its_own_view() -> None:
    made: list[str] = []

    def serve(wire: str) -> Server:
        made.append(wire)
        return Offers(pages={"tools/list": [tools(f"t{len(made)}")]})

    world = World(serve, TIME)
    roots = Capabilities(key='{"roots":{}}')
    seen = [
        names(await world.listing.page(client, TOOLS))
        for client in (a_client("ada"), a_client("bob"), a_client("ada", capabilities=roots), a_client("ada"))
    ]
    assert seen == [["time__t1"], ["time__t2"], ["time__t3"], ["time__t1"]]
    await world.close()
    shared = World(serve, a_provider("time", sharing=Sharing.shared))
    ada = names(await shared.listing.page(a_client("ada"), TOOLS))
    assert names(await shared.listing.page(a_client("bob"), TOOLS)) == ada
    await shared.close()


async def test_a_rendered_list_is_kept_and_given_up_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_RENDERED", 4)
    world = World(lambda wire: Offers(pages={"tools/list": [tools("a"), tools("b")]}), TIME)
    first = (await world.listing.page(a_client(), TOOLS)).items
    again = (await world.listing.page(a_client(), TOOLS)).items
    assert all(one is other for one, other in zip(first, again, strict=True))
    instance = await world.ready(TIME)
    await world.catalogue.refresh(instance)
    assert names(await world.listing.page(a_client(), TOOLS)) == ["time__b"]
    for kind in KINDS.values():
        for era in Era:
            await world.listing.page(a_client(era=era), kind)
    assert len(world.listing._rendered) <= 4
    await world.close()


async def test_resources_are_not_judged_by_tool_policies() -> None:
    resources = {"resources": [{"uri": "file:///x", "name": "x"}]}
    globs = ToolJudge({"time": ToolRules(deny=("*",))})
    world = World(
        lambda wire: Offers(pages={"tools/list": [tools("now")], "resources/list": [resources]}), TIME, judges=(globs,)
    )
    assert (await world.listing.page(a_client(), TOOLS)).items == []
    (raw,) = (await world.listing.page(a_client(), RESOURCES)).items
    assert json.loads(raw)["uri"] == "time+file:///x"
    await world.close()


async def test_pages_hold_each_allowed_tool_once_and_judge_each_tool_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that judged all before them would make a long list cost its square."""
    monkeypatch.setattr(module, "PAGE", 10)
    offered = [f"{'secret' if number % 3 else 'open'}-{number:03}" for number in range(100)]
    sees = Sees()
    rules = ToolJudge({name: ToolRules(deny=("secret-*",)) for name in ("time", "git")})
    world = World(lambda wire: Offers(pages={"tools/list": [tools(*offered)]}), TIME, GIT, judges=(sees, rules))
    found: list[str] = []
    start: Place | None = None
    pages = 0
    while not pages or start is not None:
        page = await world.listing.page(a_client(), TOOLS, start)
        assert len(page.items) == 10 or page.next is None
        found += names(page)
        start, pages = page.next, pages + 1
    allowed = [name for name in offered if name.startswith("open")]
    assert found == [f"{provider}__{name}" for provider in ("time", "git") for name in allowed]
    assert pages == 7
    assert len(sees.asked) == 2 * len(offered) + pages - 1  # where a page ends is where the next one begins
    await world.close()


async def test_no_page_follows_of_which_nothing_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    judge = ToolJudge({"time": ToolRules(deny=("secret-*",))})
    offers = Offers(pages={"tools/list": [tools("a", "b", "secret-1", "secret-2", "secret-3")]})
    world = World(lambda wire: offers, TIME, judges=(judge,))
    page = await world.listing.page(a_client(), TOOLS)
    assert (names(page), page.next) == (["time__a", "time__b"], None)
    await world.close()


async def test_a_page_after_the_first_asks_for_nothing_that_stands_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    many = [a_provider(f"p{number}") for number in range(10)]
    world = World(lambda wire: Offers(pages={"tools/list": [tools("a", "b")]}), *many)
    await world.listing.page(a_client(), TOOLS)
    asked: list[str] = []
    known = world.catalogue.known

    def counted(provider: Provider, caller: str, capabilities: str) -> Offer | None:
        asked.append(provider.name)
        return known(provider, caller, capabilities)

    monkeypatch.setattr(world.catalogue, "known", counted)
    page = await world.listing.page(a_client(), TOOLS, Place("p4", 1))
    assert names(page) == ["p4__b", "p5__a", "p5__b"]
    assert page.next == Place("p6", 0)
    assert asked == ["p4", "p5", "p6"]
    await world.close()


async def test_a_place_in_the_list_of_a_provider_that_is_gone_is_no_place() -> None:
    world = World(lambda wire: Offers(), TIME)
    with pytest.raises(RequestError) as refused:
        await world.listing.page(a_client(), TOOLS, Place("git", 0))
    assert refused.value.code == "invalid_cursor"
    await world.close()
