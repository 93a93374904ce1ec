# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from mcp_hangar.application.instances import Instance, InstanceKey, Instances
from mcp_hangar.application.pool import Place
from mcp_hangar.domain.errors import (
    CallCancelled,
    Denied,
    HangarError,
    ProviderDied,
    SessionExpired,
    StartFailed,
    TransportError,
    Unavailable,
)
from mcp_hangar.domain.events import Event, ProviderMessageRefused, ProviderStartFailed, ProviderStateChanged
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Backoff, Mode, Protocol, Provider, Sharing
from tests.fakes import FakeConnection, FakeLauncher, Server, a_provider, cannot_start

pytestmark = pytest.mark.anyio

LEGACY = Era.legacy
MODERN = Era.modern


class World:
    """`Instances` over a fake launcher, with a clock that stands still until it is moved."""

    def __init__(self, serve: Callable[[str], Server] = lambda wire: Server(), wires: tuple[str, ...] = ("stdio",)):
        self.now = 1000.0
        self.launcher = FakeLauncher(serve, wires)
        self.events: list[Event] = []
        self.heard: list[tuple[str, Message]] = []
        self.came: list[str] = []
        self.gone: list[tuple[str, HangarError | None]] = []
        self.instances = Instances(
            {Mode.subprocess: self.launcher, Mode.remote: self.launcher},
            self.events.append,
            on_message=lambda instance, message: self.heard.append((instance.id, message)),
            on_ready=lambda instance: self.came.append(instance.id),
            on_gone=lambda instance, error: self.gone.append((instance.id, error)),
            clock=lambda: self.now,
            wall=lambda: 0.0,
            random=lambda: 0.5,
        )

    def key(
        self, provider: Provider, caller: str = "ada", capabilities: str = "{}", conversation: str = ""
    ) -> InstanceKey:
        return self.instances.key(provider, caller, capabilities, conversation)

    async def ready(self, provider: Provider, caller: str = "ada", *, within: float = 5.0, **rest: str) -> Instance:
        deadline = asyncio.get_running_loop().time() + within
        return await self.instances.ready(provider, self.key(provider, caller, **rest), deadline)

    def state(self, name: str = "time") -> State:
        return next(row.state for row in self.instances.snapshot() if row.provider == name)

    def moves(self) -> list[tuple[str, str, str]]:
        return [
            (event.instance, event.before, event.after)
            for event in self.events
            if isinstance(event, ProviderStateChanged)
        ]

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def fake(instance: Instance) -> FakeConnection:
    assert isinstance(instance.connection, FakeConnection)
    return instance.connection


async def settle() -> None:
    """Let everything run that can run by now."""
    for _ in range(20):
        await asyncio.sleep(0)


# -- starting


async def test_a_thousand_first_calls_start_one_instance() -> None:
    world, provider = World(), a_provider()
    found = await asyncio.gather(*(world.ready(provider) for _ in range(1000)))
    assert len({id(instance) for instance in found}) == 1
    assert len(world.launcher.launched) == 1
    assert world.came == ["time-1"]
    assert world.moves() == [("time-1", "cold", "starting"), ("time-1", "starting", "ready")]


async def test_a_warm_instance_is_under_the_key_of_the_next_call() -> None:
    world, provider = World(), a_provider()
    instance = await world.ready(provider)
    assert world.instances.warm[world.key(provider)] is instance
    assert (instance.era, instance.version, instance.info["name"]) == (LEGACY, "2025-11-25", "fake")
    assert await world.ready(provider) is instance
    assert len(world.launcher.launched) == 1


async def test_a_waiter_that_is_cancelled_does_not_stop_the_start_for_the_others() -> None:
    world, provider = World(), a_provider()
    world.launcher.gate = asyncio.Event()
    first, second = (asyncio.create_task(world.ready(provider)) for _ in range(2))
    await world.launcher.launching.wait()
    first.cancel()
    await asyncio.wait({first})
    world.launcher.gate.set()
    assert (await second).id == "time-1"


async def test_a_start_that_succeeds_after_everybody_gave_up_is_kept() -> None:
    world, provider = World(), a_provider()
    world.launcher.gate = asyncio.Event()
    with pytest.raises(StartFailed) as raised:
        await world.ready(provider, within=0.01)
    assert "goes on" in raised.value.why
    world.launcher.gate.set()
    assert (await world.ready(provider)).id == "time-1"
    assert len(world.launcher.launched) == 1


async def test_a_failed_start_fails_every_waiter_with_an_error_of_its_own() -> None:
    world, provider = World(), a_provider()
    world.launcher.failing = cannot_start()
    outcomes = await asyncio.gather(*(world.ready(provider) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(outcome, StartFailed) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 10
    assert len(world.launcher.launched) == 1
    (failed,) = world.told(ProviderStartFailed)
    assert (failed.code, failed.retry_after) == ("start_failed", 0.5)
    assert "No such file" in failed.detail
    assert world.state() is State.dead


async def test_a_start_that_takes_too_long_is_ended() -> None:
    world, provider = (
        World(lambda wire: Server(silent={"server/discover", "initialize"})),
        a_provider(start_timeout=0.05),
    )
    with pytest.raises(StartFailed):
        await world.ready(provider)
    await settle()
    assert world.launcher.open == []


async def test_a_launch_that_never_returns_is_given_up() -> None:
    world, provider = World(), a_provider(start_timeout=0.05)
    world.launcher.gate = asyncio.Event()
    with pytest.raises(StartFailed) as raised:
        await world.ready(provider)
    assert "0.05 s" in raised.value.why


async def test_a_defect_of_an_adapter_is_a_failed_start_and_is_waited_out_like_one() -> None:
    world, provider = World(), a_provider()
    world.launcher.broken = KeyError("surprise")
    with pytest.raises(StartFailed):
        await world.ready(provider)
    with pytest.raises(StartFailed) as raised:
        await world.ready(provider, within=0.1)
    assert raised.value.facts["retry_after"] == 0.5
    assert len(world.launcher.launched) == 1


async def test_a_provider_that_dies_as_the_handshake_ends_never_becomes_ready() -> None:
    world, provider = World(lambda wire: Server(LEGACY, deadly={"listen"})), a_provider()
    with pytest.raises(StartFailed) as raised:
        await world.ready(provider)
    assert "status 1" in raised.value.why
    assert world.instances.warm == {}
    assert world.came == []


# -- wires and eras


async def test_wires_are_tried_in_order_and_the_one_that_worked_is_remembered() -> None:
    refusal = TransportError("upstream_status", provider="time", status=405, detail="No.")

    def serve(wire: str) -> Server:
        if wire == "legacy_sse":
            return Server(LEGACY)
        return Server(failing={"server/discover": refusal, "initialize": refusal})

    world = World(serve, ("streamable_http", "legacy_sse"))
    provider = a_provider(mode=Mode.remote, sharing=Sharing.per_session)
    instance = await world.ready(provider, conversation="a")
    assert instance.wire == "legacy_sse"
    assert world.launcher.only.methods == ["initialize"]
    await world.ready(provider, conversation="b")
    assert [wire for _, wire in world.launcher.launched] == ["streamable_http", "legacy_sse", "legacy_sse"]


async def test_an_error_that_does_not_mean_another_wire_ends_the_start() -> None:
    refusal = TransportError("upstream_auth", provider="time", status=401, detail="No.")
    world = World(lambda wire: Server(failing={"server/discover": refusal}), ("streamable_http", "legacy_sse"))
    with pytest.raises(StartFailed) as raised:
        await world.ready(a_provider(mode=Mode.remote))
    assert raised.value.code == "upstream_auth"
    assert [wire for _, wire in world.launcher.launched] == ["streamable_http"]
    assert world.launcher.open == []


async def test_a_legacy_server_that_dies_of_the_probe_is_launched_once_more_without_it() -> None:
    world, provider = World(lambda wire: Server(LEGACY, deadly={"server/discover"})), a_provider()
    instance = await world.ready(provider)
    assert instance.era is LEGACY
    assert [connection.methods for connection in world.launcher.connections] == [["server/discover"], ["initialize"]]
    assert world.launcher.most == 1


async def test_the_era_is_asked_once_and_again_after_a_failure() -> None:
    world, provider = World(), a_provider(sharing=Sharing.per_caller)
    await world.ready(provider, "ada")
    bob = await world.ready(provider, "bob")
    assert [connection.methods for connection in world.launcher.connections][1] == ["initialize"]
    fake(bob).die()
    world.now += 100
    await world.ready(provider, "bob")
    assert world.launcher.connections[2].methods == ["server/discover", "initialize"]
    assert world.instances.era("time") is LEGACY


@pytest.mark.parametrize(
    ("sharing", "mode", "era", "expected"),
    [
        (Sharing.shared, Mode.subprocess, LEGACY, ("", "{}", "")),
        (Sharing.per_caller, Mode.subprocess, LEGACY, ("ada", "{}", "")),
        (Sharing.per_session, Mode.subprocess, LEGACY, ("ada", "{}", "s1")),
        (Sharing.per_session, Mode.remote, LEGACY, ("ada", "{}", "s1")),
        (Sharing.shared, Mode.subprocess, MODERN, ("", "", "")),
        (Sharing.per_caller, Mode.subprocess, MODERN, ("ada", "", "")),
        (Sharing.per_session, Mode.subprocess, MODERN, ("ada", "", "s1")),
        (Sharing.per_session, Mode.remote, MODERN, ("", "", "")),
    ],
)
async def test_state_is_kept_apart_as_far_as_the_provider_keeps_any(
    sharing: Sharing, mode: Mode, era: Era, expected: tuple[str, str, str]
) -> None:
    world, provider = World(lambda wire: Server(era)), a_provider(sharing=sharing, mode=mode)
    instance = await world.ready(provider, "ada", conversation="s1")
    key = world.key(provider, "ada", "{}", "s1")
    assert (key.caller, key.capabilities, key.conversation) == expected
    assert world.instances.warm == {key: instance}
    assert instance.key == key


async def test_a_provider_forced_to_be_modern_needs_no_start_to_be_known_as_such() -> None:
    world = World(lambda wire: Server(MODERN))
    assert world.key(a_provider(mode=Mode.remote, protocol=Protocol.modern), "ada", "{}", "s1") == ("time", "", "", "")


async def test_callers_who_meet_a_new_modern_provider_together_share_what_is_found() -> None:
    world, provider = World(lambda wire: Server(MODERN)), a_provider(mode=Mode.remote, sharing=Sharing.per_session)
    found = await asyncio.gather(
        *(world.ready(provider, f"caller {n}", capabilities=f'{{"roots":{n}}}', conversation=str(n)) for n in range(30))
    )
    assert len({instance.id for instance in found}) == 1
    assert len(world.launcher.launched) == 1


async def test_callers_who_meet_a_new_legacy_provider_together_get_one_session_each() -> None:
    world, provider = World(), a_provider(mode=Mode.remote, sharing=Sharing.per_session)
    found = await asyncio.gather(*(world.ready(provider, f"caller {n}", conversation=str(n)) for n in range(5)))
    assert len({instance.id for instance in found}) == 5
    assert sorted(instance.key.caller for instance in found) == sorted(f"caller {n}" for n in range(5))


async def test_what_a_client_declared_is_declared_on_and_nothing_else() -> None:
    world, provider = World(), a_provider()
    await world.ready(provider, capabilities='{"sampling":{}}')
    await world.ready(provider, capabilities="{}")
    declared = [connection.sent[-1]["params"]["capabilities"] for connection in world.launcher.connections]
    assert declared == [{"sampling": {}}, {}]


async def test_a_provider_that_turned_legacy_never_serves_two_callers_from_one_session() -> None:
    eras = [MODERN]
    world = World(lambda wire: Server(eras[-1]))
    provider = a_provider(mode=Mode.remote, sharing=Sharing.per_session)
    modern = await world.ready(provider, "ada", conversation="1")
    eras.append(LEGACY)
    fake(modern).die()
    world.now += 100
    both = await asyncio.gather(
        world.ready(provider, "ada", conversation="1"),
        world.ready(provider, "bob", conversation="2"),
        return_exceptions=True,
    )
    assert all(isinstance(outcome, StartFailed) for outcome in both)
    assert world.instances.warm == {}
    world.now += 100
    ada = await world.ready(provider, "ada", conversation="1")
    bob = await world.ready(provider, "bob", conversation="2")
    assert ada is not bob
    assert len(world.launcher.open) == 2


async def test_callers_who_find_at_once_that_a_provider_turned_modern_share_one_instance() -> None:
    eras = [LEGACY]
    world = World(lambda wire: Server(eras[-1]))
    provider = a_provider(mode=Mode.remote, sharing=Sharing.per_session)
    both = [await world.ready(provider, conversation=name) for name in ("1", "2")]
    for instance in both:
        fake(instance).die()
    eras.append(MODERN)
    world.now += 100
    ada, bob = await asyncio.gather(*(world.ready(provider, conversation=name) for name in ("1", "2")))
    assert ada is bob
    await settle()
    assert world.launcher.open == [ada.connection]
    assert list(world.instances.warm.values()) == [ada]


# -- limits


async def test_at_the_limit_the_longest_idle_instance_ends_before_the_new_one_starts() -> None:
    world, provider = World(), a_provider(instances=2)
    ada = await world.ready(provider, "ada")
    bob = await world.ready(provider, "bob")
    ada.last_used, bob.last_used = 2.0, 1.0
    slow = fake(bob).closing_gate = asyncio.Event()
    eve = asyncio.create_task(world.ready(provider, "eve"))
    await settle()
    assert len(world.launcher.launched) == 2, "the place is not free yet"
    slow.set()
    await eve
    assert world.gone == [(bob.id, None)]
    assert world.launcher.most == 2
    assert set(world.instances.warm.values()) == {ada, await eve}


async def test_what_is_still_ending_takes_its_place_until_it_has_ended() -> None:
    world, provider = World(), a_provider(instances=1, idle_ttl=60)
    gate = fake(await world.ready(provider, "ada")).closing_gate = asyncio.Event()
    await world.instances.sweep_once(world.now + 60)
    bob = asyncio.create_task(world.ready(provider, "bob"))
    await settle()
    assert len(world.launcher.launched) == 1
    with pytest.raises(Denied):
        await world.ready(provider, "eve")
    gate.set()
    await bob


async def test_a_place_that_was_promised_to_a_start_that_ended_is_not_given_away_twice() -> None:
    world, provider = World(), a_provider(instances=1, sharing=Sharing.per_session)
    gate = fake(await world.ready(provider, conversation="1")).closing_gate = asyncio.Event()
    second = asyncio.create_task(world.ready(provider, conversation="2"))
    await settle()
    world.instances.forget("2")
    third = asyncio.create_task(world.ready(provider, conversation="3"))
    await settle()
    assert len(world.launcher.launched) == 1
    gate.set()
    assert (await third).id == "time-3"
    assert isinstance((await asyncio.gather(second, return_exceptions=True))[0], CallCancelled)


@pytest.mark.parametrize("busy", ["in_flight", "pinned"])
async def test_at_the_limit_a_call_is_refused_if_nothing_is_idle(busy: str) -> None:
    world, provider = World(), a_provider(instances=1)
    setattr(await world.ready(provider, "ada"), busy, 1)
    with pytest.raises(Denied) as raised:
        await world.ready(provider, "bob")
    assert raised.value.what == "limits.instances is reached (1)."
    assert len(world.launcher.launched) == 1


async def test_many_callers_at_once_never_start_more_than_the_limit() -> None:
    world, provider = World(), a_provider(instances=3)
    outcomes = await asyncio.gather(*(world.ready(provider, str(n)) for n in range(50)), return_exceptions=True)
    assert world.launcher.most <= 3
    assert all(isinstance(outcome, (Instance, Denied)) for outcome in outcomes)
    assert sum(isinstance(outcome, Instance) for outcome in outcomes) >= 3


async def test_an_instance_is_not_taken_from_those_who_still_wait_for_it() -> None:
    world, provider = World(), a_provider(instances=1, protocol=Protocol.legacy)
    rivals: list[asyncio.Task[Instance]] = []
    # The rival runs between the end of the start and the moment the waiter learns of it.
    world.instances.on_ready = lambda instance: rivals.append(asyncio.create_task(world.ready(provider, "bob")))
    ada = await world.ready(provider, "ada")
    assert ada.state is State.ready
    with pytest.raises(Denied):
        await rivals[0]


# -- failing and coming back


async def test_a_crash_is_known_at_once() -> None:
    world, provider = World(), a_provider()
    instance = await world.ready(provider)
    world.launcher.only.die("It exited with status 3.")
    assert world.instances.warm == {}
    assert instance.state is State.dead
    assert world.state() is State.dead
    ((gone, error),) = world.gone
    assert gone == instance.id
    assert isinstance(error, ProviderDied)
    assert world.moves()[-1] == (instance.id, "ready", "dead")
    await settle()
    assert fake(instance).closes == 1, "what is left of it is cleaned up"


async def test_after_a_crash_the_next_call_is_refused_until_the_backoff_is_over() -> None:
    world, provider = World(), a_provider(backoff=Backoff(first=8, longest=60))
    fake(await world.ready(provider)).die("It exited with status 3.")
    with pytest.raises(StartFailed) as raised:
        await world.ready(provider, within=3.9)
    assert raised.value.data["retryAfter"] == 4.0
    assert "status 3" in raised.value.why
    world.now += 4
    assert (await world.ready(provider)).id == "time-2"
    assert world.instances.snapshot()[0].restarts == 1


async def test_a_call_with_time_enough_waits_the_backoff_out() -> None:
    world, provider = World(), a_provider(backoff=Backoff(first=0.02, longest=0.02))
    fake(await world.ready(provider)).die()
    waiting = [asyncio.create_task(world.ready(provider)) for _ in range(10)]
    await settle()
    assert len(world.launcher.launched) == 1
    world.now += 1
    assert {instance.id for instance in await asyncio.gather(*waiting)} == {"time-2"}


async def test_failures_in_a_row_are_waited_for_longer_and_longer() -> None:
    world, provider = World(), a_provider(backoff=Backoff(first=2, longest=10))
    world.launcher.failing = cannot_start()
    waits = []
    for _ in range(5):
        with pytest.raises(StartFailed):
            await world.ready(provider)
        waits.append(world.told(ProviderStartFailed)[-1].retry_after)
        world.now += waits[-1]
    assert waits == [1, 2, 4, 5, 5]


async def test_a_crash_soon_after_the_start_counts_on_and_one_much_later_begins_anew() -> None:
    world, provider = World(), a_provider(backoff=Backoff(first=4, longest=60))

    async def crash_after(seconds: float) -> float:
        instance = await world.ready(provider)
        world.now += seconds
        fake(instance).die()
        wait = world.instances.snapshot()[0].retry_after
        world.now += wait
        return wait

    assert [await crash_after(1) for _ in range(3)] == [2, 4, 8]
    assert await crash_after(10) == 2


async def test_an_instance_that_stays_up_does_not_forgive_what_fails_after_it_came() -> None:
    world, provider = World(), a_provider(backoff=Backoff(first=4, longest=60))
    await world.ready(provider, "ada")
    world.now += 100
    world.launcher.failing = cannot_start()
    waits = []
    for _ in range(3):
        with pytest.raises(StartFailed):
            await world.ready(provider, "bob")
        waits.append(world.told(ProviderStartFailed)[-1].retry_after)
        world.now += waits[-1]
    assert waits == [2, 4, 8]


async def test_the_crash_of_one_callers_instance_does_not_hold_another_caller_back() -> None:
    world, provider = World(), a_provider()
    fake(await world.ready(provider, "eve")).die()
    assert (await world.ready(provider, "ada", within=0.4)).state is State.ready
    assert world.state() is State.degraded


async def test_a_failed_start_holds_every_callers_start_back() -> None:
    world, provider = World(), a_provider()
    world.launcher.failing = cannot_start()
    with pytest.raises(StartFailed):
        await world.ready(provider, "eve")
    with pytest.raises(StartFailed) as raised:
        await world.ready(provider, "ada", within=0.4)
    assert raised.value.facts["retry_after"] == 0.5
    assert len(world.launcher.launched) == 1


async def test_a_failure_nobody_comes_back_to_is_forgotten() -> None:
    world, provider = World(), a_provider(backoff=Backoff(first=1, longest=60))
    fake(await world.ready(provider)).die()
    await world.instances.sweep_once(world.now + 1)
    assert world.state() is State.dead
    await world.instances.sweep_once(world.now + 61)
    assert world.state() is State.cold
    assert world.instances.snapshot()[0].failures == 0


# -- ending


async def test_an_instance_is_ended_once_it_was_idle_for_its_time() -> None:
    world, provider = World(), a_provider(idle_ttl=60)
    instance = await world.ready(provider)
    await world.instances.sweep_once(world.now + 59)
    assert world.launcher.open
    await world.instances.sweep_once(world.now + 60)
    await settle()
    assert not world.launcher.open
    assert world.gone == [(instance.id, None)]
    assert world.state() is State.cold
    assert (await world.ready(provider)).id == "time-2", "and comes back with the next call, without a wait"


@pytest.mark.parametrize("busy", ["in_flight", "pinned"])
async def test_an_instance_in_use_is_not_idle(busy: str) -> None:
    world, provider = World(), a_provider(idle_ttl=60)
    setattr(await world.ready(provider), busy, 1)
    await world.instances.sweep_once(world.now + 1000)
    assert world.launcher.open


async def test_without_an_idle_time_nothing_is_idle() -> None:
    world, provider = World(), a_provider(idle_ttl=0)
    await world.ready(provider)
    await world.instances.sweep_once(world.now + 1e9)
    assert world.launcher.open


async def test_a_stopped_provider_refuses_calls_until_it_is_started() -> None:
    world, provider = World(), a_provider()
    await world.ready(provider)
    await world.instances.stop("time")
    assert world.launcher.open == []
    assert world.instances.snapshot()[0].held
    with pytest.raises(Unavailable) as raised:
        await world.ready(provider)
    assert raised.value.code == "provider_stopped"
    await world.instances.start("time")
    assert (await world.ready(provider)).id == "time-2"


async def test_a_provider_can_be_stopped_before_it_was_ever_started() -> None:
    world = World()
    await world.instances.stop("time")
    with pytest.raises(Unavailable):
        await world.ready(a_provider())
    assert world.launcher.launched == []


async def test_a_provider_stopped_without_a_hold_starts_with_the_next_call() -> None:
    world, provider = World(), a_provider()
    await world.ready(provider)
    await world.instances.stop("time", held=False)
    assert (await world.ready(provider)).id == "time-2"


async def test_calls_in_flight_finish_before_a_stopped_instance_is_closed() -> None:
    world, provider = World(), a_provider()
    instance = await world.ready(provider)
    instance.in_flight = 1
    stopping = asyncio.create_task(world.instances.stop("time"))
    await settle()
    assert world.launcher.open
    assert world.gone == []
    assert world.instances.warm == {}
    assert world.instances.snapshot()[0].in_flight == 1
    with pytest.raises(Unavailable):
        await world.ready(provider)
    instance.in_flight = 0
    await stopping
    assert not world.launcher.open
    assert world.gone == [(instance.id, None)]


async def test_a_call_that_does_not_finish_is_left_behind_after_the_grace() -> None:
    world, provider = World(), a_provider(stop_grace=0.05)
    (await world.ready(provider)).in_flight = 1
    await world.instances.stop("time")
    assert not world.launcher.open


async def test_a_stop_ends_a_start_under_way_and_tells_its_waiters() -> None:
    world, provider = World(lambda wire: Server(silent={"server/discover"})), a_provider()
    waiting = asyncio.create_task(world.ready(provider))
    await world.launcher.launching.wait()
    await settle()
    await world.instances.stop("time")
    with pytest.raises(Unavailable):
        await waiting
    assert world.launcher.open == []
    assert world.state() is State.cold


async def test_a_start_that_waits_for_a_place_can_be_stopped_too() -> None:
    world, provider = World(), a_provider(instances=1)
    ada = await world.ready(provider, "ada")
    gate = fake(ada).closing_gate = asyncio.Event()
    bob = asyncio.create_task(world.ready(provider, "bob"))
    await settle()
    stopping = asyncio.create_task(world.instances.stop("time"))
    await settle()
    assert not stopping.done(), "the instance that made room is still ending"
    gate.set()
    await stopping
    with pytest.raises(Unavailable):
        await bob
    assert len(world.launcher.launched) == 1


async def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    world, provider = World(), a_provider()
    instance = await world.ready(provider)
    instance.in_flight = 1
    draining = asyncio.create_task(world.instances.drain())
    await settle()
    with pytest.raises(Unavailable) as raised:
        await world.ready(provider)
    assert raised.value.code == "stopping"
    instance.in_flight = 0
    await draining
    assert not world.launcher.open


async def test_closing_ends_everything_at_once_and_leaves_no_task() -> None:
    world, provider = World(), a_provider(stop_grace=1000)
    (await world.ready(provider, "ada")).in_flight = 1
    (await world.ready(provider, "bob")).pinned = 1
    world.launcher.gate = asyncio.Event()
    eve = asyncio.create_task(world.ready(provider, "eve"))
    await settle()
    draining = asyncio.create_task(world.instances.drain())
    await settle()
    await world.instances.close()
    await draining
    assert not world.launcher.open
    assert world.instances.warm == {}
    with pytest.raises(Unavailable):
        await eve
    assert not [task for task in asyncio.all_tasks() if "time-" in task.get_name()]


# -- sessions


async def test_an_expired_session_is_renewed_once_for_all_who_ask() -> None:
    world, provider = World(), a_provider(mode=Mode.remote, sharing=Sharing.per_session)
    stale = await world.ready(provider, conversation="s")
    stale.in_flight = 10
    fresh = await asyncio.gather(*(world.instances.renew(stale) for _ in range(10)))
    assert {instance.id for instance in fresh} == {"time-2"}
    assert fresh[0].key == stale.key
    assert len(world.launcher.launched) == 2
    assert await world.instances.renew(stale) is fresh[0], "who comes late gets the new one too"
    ((gone, error),) = world.gone
    assert gone == stale.id
    assert isinstance(error, SessionExpired)


async def test_a_session_is_renewed_at_the_limit_though_its_call_is_still_in_flight() -> None:
    world, provider = World(), a_provider(mode=Mode.remote, instances=1)
    stale = await world.ready(provider)
    stale.in_flight = 1
    assert (await world.instances.renew(stale)).id == "time-2"
    stale.in_flight = 0


async def test_a_session_lost_outside_of_a_call_is_opened_anew_by_the_next_one() -> None:
    world, provider = World(), a_provider(mode=Mode.remote)
    stale = await world.ready(provider)
    world.launcher.only.lose_session()
    assert world.instances.warm == {}
    assert (await world.ready(provider, within=0.4)) is not stale, "without a backoff"


async def test_what_belongs_to_a_conversation_ends_with_it() -> None:
    world, provider = World(), a_provider(sharing=Sharing.per_session)
    first = await world.ready(provider, conversation="1")
    second = await world.ready(provider, conversation="2")
    world.instances.forget("1")
    world.instances.forget("")
    await settle()
    assert world.gone == [(first.id, None)]
    assert list(world.instances.warm.values()) == [second]
    assert len(world.launcher.open) == 1


async def test_a_start_for_a_conversation_that_is_over_is_given_up() -> None:
    world, provider = World(), a_provider(sharing=Sharing.per_session)
    world.launcher.gate = asyncio.Event()
    waiting = asyncio.create_task(world.ready(provider, conversation="1"))
    await world.launcher.launching.wait()
    world.instances.forget("1")
    with pytest.raises(CallCancelled):
        await waiting
    await settle()
    assert world.launcher.open == []
    assert world.instances.snapshot()[0].state is State.cold


async def test_conversations_that_came_and_went_leave_nothing_behind() -> None:
    world, provider = World(), a_provider(sharing=Sharing.per_session, instances=2)
    for n in range(50):
        await world.ready(provider, conversation=str(n))
        world.instances.forget(str(n))
        await settle()
    (pool,) = world.instances._pools.values()
    assert (pool.places, pool.closing, pool.leaving, world.instances._tasks) == ({}, {}, set(), set())
    assert world.instances._conversations == {}


class Unwalked(dict[InstanceKey, Place]):
    """Places that may be looked up, and not gone through one by one."""

    def items(self) -> NoReturn:
        raise AssertionError("all places were looked at")

    values = __iter__ = items  # type: ignore[assignment]


async def test_the_end_of_a_conversation_looks_at_its_own_places_only() -> None:
    """Sessions expire by the thousand, and there may be a thousand providers."""
    world = World()
    one, two = (a_provider(name, sharing=Sharing.per_session) for name in ("one", "two"))
    for conversation in ("a", "b"):
        await world.ready(one, conversation=conversation)
    await world.ready(two, conversation="b")
    for pool in world.instances._pools.values():
        pool.places = Unwalked(pool.places)
    world.instances.forget("b")
    assert [key.conversation for key in world.instances.warm] == ["a"]
    for pool in world.instances._pools.values():
        pool.places = dict(dict.items(pool.places))
    await settle()
    world.instances.forget("unheard-of")
    assert [key.conversation for key in world.instances.warm] == ["a"]


# -- what providers say


async def test_a_ping_of_the_provider_is_answered_and_not_passed_on() -> None:
    world, provider = World(), a_provider()
    await world.ready(provider)
    world.launcher.only.say('{"jsonrpc":"2.0","id":"p-1","method":"ping"}')
    await settle()
    assert world.launcher.only.posted[-1] == {"jsonrpc": "2.0", "id": "p-1", "result": {}}
    assert world.heard == []


async def test_a_flood_of_pings_is_bounded() -> None:
    world, provider = World(), a_provider()
    await world.ready(provider)
    for n in range(1000):
        world.launcher.only.say(json.dumps({"jsonrpc": "2.0", "id": n, "method": "ping"}))
    assert len(world.instances._tasks) < 50
    await settle()
    assert world.instances.snapshot()[0].refused > 900


async def test_other_messages_are_passed_on_in_order() -> None:
    world, provider = World(), a_provider()
    instance = await world.ready(provider)
    world.launcher.only.say('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
    world.launcher.only.say('{"jsonrpc":"2.0","id":1,"method":"roots/list"}')
    assert [(id, message.method) for id, message in world.heard] == [
        (instance.id, "notifications/tools/list_changed"),
        (instance.id, "roots/list"),
    ]


async def test_what_is_asked_during_the_handshake_is_heard_once_the_instance_is_ready() -> None:
    question = '{"jsonrpc":"2.0","id":1,"method":"roots/list"}'
    world, provider = World(lambda wire: Server(on_initialized=[question])), a_provider()
    instance = await world.ready(provider)
    assert [(id, message.method) for id, message in world.heard] == [(instance.id, "roots/list")]
    assert world.came == [instance.id]


async def test_a_flood_of_junk_becomes_a_few_events_that_count_it() -> None:
    world, provider = World(), a_provider()
    await world.ready(provider)
    for _ in range(500):
        world.launcher.only.junk("a line that is not JSON")
    await world.instances.sweep_once(world.now + 5)
    assert [event.count for event in world.told(ProviderMessageRefused)] == [1]
    await world.instances.sweep_once(world.now + 10)
    assert [event.count for event in world.told(ProviderMessageRefused)] == [1, 499]
    assert world.told(ProviderMessageRefused)[0].reason == "a line that is not JSON"
    assert world.instances.snapshot()[0].refused == 500


async def test_the_snapshot_tells_what_is_going_on() -> None:
    world, provider = World(), a_provider()
    instance = await world.ready(provider)
    instance.in_flight, instance.pinned = 2, 1
    world.now += 7
    (row,) = world.instances.snapshot()
    assert (row.provider, row.state, row.era, row.in_flight, row.starts) == ("time", State.ready, LEGACY, 2, 1)
    (side,) = row.instances
    assert (side.id, side.caller, side.up_seconds, side.pinned) == ("time-1", "ada", 7, 1)
