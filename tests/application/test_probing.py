# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mcp_hangar.application.instances import Instance, Instances
from mcp_hangar.application.probing import Prober
from mcp_hangar.domain.errors import SessionExpired, StartFailed, TransportError
from mcp_hangar.domain.events import Event, ProviderStateChanged
from mcp_hangar.domain.health import Verdict
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import HealthCheck, Mode, Provider
from tests.fakes import FakeConnection, FakeLauncher, Server, a_provider

pytestmark = pytest.mark.anyio

CHECK = HealthCheck(interval=30, timeout=60, unhealthy_after=3, healthy_after=2)
HASTY = replace(CHECK, timeout=0.01)
"""For those who do not answer: one who does must not be given up because this machine is slow."""


class Ward:
    """One instance under observation, on a clock that is moved an interval at a time."""

    def __init__(
        self, server: Server | None = None, check: HealthCheck | None = None, mode: Mode = Mode.subprocess
    ) -> None:
        self.now = 1000.0
        self.server = server or Server()
        check = check or (HASTY if self.server.silent else CHECK)
        self.launcher = FakeLauncher(lambda wire: self.server)
        self.events: list[Event] = []
        self.instances = Instances(
            {mode: self.launcher}, self.events.append, clock=lambda: self.now, random=lambda: 0.5
        )
        self.prober = Prober(self.instances, clock=lambda: self.now)
        self.provider: Provider = a_provider(mode=mode, health=check)

    async def admit(self, caller: str = "ada") -> Instance:
        key = self.instances.key(self.provider, caller, "{}", "")
        return await self.instances.ready(self.provider, key, asyncio.get_running_loop().time() + 5)

    async def intervals(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 30
            await self.prober.probe_once(self.now)

    @property
    def connection(self) -> FakeConnection:
        return self.launcher.connections[0]

    def asked(self, method: str) -> int:
        return self.connection.methods.count(method)

    def states(self) -> list[str]:
        return [event.after for event in self.events if isinstance(event, ProviderStateChanged)][2:]


@pytest.mark.parametrize(("era", "question"), [(Era.legacy, "ping"), (Era.modern, "server/discover")])
async def test_the_cheapest_question_of_the_era_is_asked_and_never_a_second_initialize(era: Era, question: str) -> None:
    ward = Ward(Server(era))
    await ward.admit()
    before = len(ward.connection.sent)
    await ward.intervals(3)
    assert ward.connection.methods[before:] == [question] * 3
    assert ward.asked("initialize") == (era is Era.legacy)


async def test_a_probe_declares_no_capability() -> None:
    ward = Ward(Server(Era.modern))
    await ward.admit()
    await ward.intervals()
    meta = ward.connection.sent[-1]["params"]["_meta"]
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert ward.connection.headers[-1] == b"Mcp-Method: server/discover\r\n"


async def test_nothing_is_asked_before_the_interval_is_over() -> None:
    ward = Ward()
    await ward.admit()
    await ward.prober.probe_once(ward.now + 29)
    assert ward.asked("ping") == 0


async def test_without_an_interval_nothing_is_asked() -> None:
    ward = Ward(check=HealthCheck(interval=0))
    await ward.admit()
    await ward.intervals(5)
    assert ward.asked("ping") == 0


async def test_real_traffic_spares_the_provider_the_question() -> None:
    ward = Ward()
    instance = await ward.admit()
    for _ in range(3):
        instance.last_heard = ward.now + 20
        await ward.intervals()
    assert ward.asked("ping") == 0
    assert instance.health.answers == 3


async def test_the_answer_to_one_probe_does_not_spare_the_next() -> None:
    ward = Ward(Server(silent={"ping"}), check=CHECK)
    await ward.admit()
    for count in range(1, 4):
        ward.now += 30
        probing = asyncio.create_task(ward.prober.probe_once(ward.now))
        await ward.connection.asked["ping"].wait()
        ward.connection.asked["ping"].clear()
        ward.now += 0.5
        ward.connection.answer_last("ping")
        await probing
        ward.now -= 0.5
        assert ward.asked("ping") == count


async def test_an_error_is_an_answer() -> None:
    ward = Ward(Server(refused={"ping": (-32601, None)}))
    instance = await ward.admit()
    await ward.intervals(10)
    assert instance.health.verdict is Verdict.healthy


async def test_an_unhealthy_provider_is_degraded_and_still_serves_until_it_recovers() -> None:
    ward = Ward(Server(silent={"ping"}))
    instance = await ward.admit()
    await ward.intervals(2)
    assert instance.state is State.ready
    await ward.intervals()
    assert instance.state is State.degraded
    assert await ward.admit() is instance
    ward.server.silent.clear()
    instance.provider = replace(ward.provider, health=CHECK)
    await ward.intervals()
    assert instance.state is State.degraded
    await ward.intervals()
    assert instance.state is State.ready
    assert ward.states() == ["degraded", "ready"]


async def test_a_provider_silent_for_twice_as_long_is_given_up_and_the_next_call_starts_another() -> None:
    ward = Ward(Server(silent={"ping"}))
    instance = await ward.admit()
    await ward.intervals(6)
    assert instance.state is State.dead
    assert ward.instances.warm == {}
    assert ward.states() == ["degraded", "dead"]
    await asyncio.sleep(0)
    assert ward.connection.closed.is_set()
    ward.now += 10
    assert (await ward.admit()).id == "time-2"


async def test_a_call_answered_in_between_saves_it_from_being_given_up() -> None:
    ward = Ward(Server(silent={"ping"}))
    instance = await ward.admit()
    await ward.intervals(5)
    instance.last_heard = ward.now + 20
    await ward.intervals(1)
    await ward.intervals(5)
    assert instance.state is State.degraded


async def test_slow_answers_degrade_a_provider_and_never_end_it() -> None:
    ward = Ward(Server(silent={"ping"}))
    instance = await ward.admit()
    for _ in range(20):
        await ward.intervals()
        ward.now += 1
        ward.connection.answer_last("ping")
        await asyncio.sleep(0)
        ward.now -= 1
    assert instance.state is State.degraded
    assert ward.connection.refused == 0, "a late answer finds its question still open"


async def test_a_provider_busy_with_a_long_call_is_not_given_up_while_the_call_may_last() -> None:
    ward = Ward(Server(silent={"ping"}))
    instance = await ward.admit()
    instance.in_flight = 1
    await ward.intervals(2)
    assert instance.health.silence == 0
    await ward.intervals(20)
    assert instance.state is State.dead, "a call lasts 60 s at most, and nothing was heard for longer"


async def test_a_hung_provider_has_one_open_probe_at_a_time() -> None:
    ward = Ward(Server(silent={"ping"}), check=replace(HASTY, unhealthy_after=50))
    await ward.admit()
    await ward.intervals(5)
    probes = [exchange for exchange in ward.connection.exchanges.values() if exchange.request.method == "ping"]
    assert [probe.over for probe in probes] == [True] * 4 + [False]
    await ward.prober.close()
    assert all(probe.over for probe in probes)


async def test_a_provider_that_cannot_be_reached_is_degraded_and_then_dead() -> None:
    refusal = TransportError("provider_unreachable", provider="time", detail="Connection refused.")
    ward = Ward(Server(failing={"ping": refusal}), mode=Mode.remote)
    instance = await ward.admit()
    await ward.intervals(3)
    assert instance.state is State.degraded
    await ward.intervals(3)
    assert instance.state is State.dead


async def test_a_session_that_is_lost_is_opened_anew_and_no_sign_of_illness() -> None:
    lost = SessionExpired("session_expired", provider="time")
    ward = Ward(Server(failing={"ping": lost}), mode=Mode.remote)
    await ward.admit()
    await ward.intervals()
    assert ward.instances.warm == {}
    assert ward.states() == ["cold"]
    assert (await ward.admit()).id == "time-2"


async def test_a_provider_that_dies_of_a_probe_is_dead_once() -> None:
    ward = Ward()
    await ward.admit()
    ward.server.deadly.add("ping")
    await ward.intervals()
    assert ward.states() == ["dead"]
    key = ward.instances.key(ward.provider, "ada", "{}", "")
    with pytest.raises(StartFailed):
        await ward.instances.ready(ward.provider, key, asyncio.get_running_loop().time())


async def test_one_hung_instance_does_not_keep_the_others_from_being_probed() -> None:
    ward = Ward()
    await ward.admit("ada")
    await ward.admit("bob")
    first, second = ward.launcher.connections
    first.server = Server(silent={"ping"})
    hung = next(instance for instance in ward.instances.warm.values() if instance.key.caller == "ada")
    hung.provider = replace(ward.provider, health=HASTY)
    await ward.intervals(6)
    assert second.methods.count("ping") == 6
    assert [instance.key.caller for instance in ward.instances.warm.values()] == ["bob"]


async def test_the_loop_ends_without_a_task_left() -> None:
    ward = Ward(Server(silent={"ping"}))
    await ward.admit()
    ward.now += 30
    loop = asyncio.create_task(ward.prober.run(every=0))
    await ward.connection.asked["ping"].wait()
    loop.cancel()
    await asyncio.wait({loop})
    assert not [task for task in asyncio.all_tasks() if "time-" in task.get_name()]
