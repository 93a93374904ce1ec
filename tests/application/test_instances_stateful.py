# SPDX-License-Identifier: MIT
"""`Instances` under any order of calls, crashes, failures, stops and clock ticks."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcp_hangar.application.instances import Instance, Instances
from mcp_hangar.domain.errors import HangarError
from mcp_hangar.domain.events import Event, ProviderStateChanged
from mcp_hangar.domain.lifecycle import SERVING, TRANSITIONS, State, shown
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.provider import Backoff, Mode, Sharing
from tests.fakes import FakeConnection, FakeLauncher, Server, a_provider, cannot_start

LIMIT = 3
callers = st.sampled_from(["ada", "bob", "eve"])
conversations = st.sampled_from(["1", "2", "3"])
pick = st.integers(0, 10**6)


class StillLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when it is told, so that the same steps always do the same."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Lives(RuleBasedStateMachine):
    @initialize(sharing=st.sampled_from(Sharing), mode=st.sampled_from(Mode))
    def begin(self, sharing: Sharing, mode: Mode) -> None:
        self.loop = StillLoop()
        self.now = 0.0
        self.era = Era.legacy
        self.launcher = FakeLauncher(lambda wire: Server(self.era))
        self.events: list[Event] = []
        self.gone: list[str] = []
        self.instances = Instances(
            {mode: self.launcher},
            self.events.append,
            on_gone=lambda instance, error: self.gone.append(instance.id),
            clock=lambda: self.now,
            random=lambda: 0.5,
        )
        backoff = Backoff(first=1000, longest=8000)
        self.provider = a_provider(sharing=sharing, mode=mode, instances=LIMIT, stop_grace=1000, backoff=backoff)
        self.waiting: list[asyncio.Task[Instance]] = []
        self.calls: list[Instance] = []
        self.errands: list[asyncio.Task[Any]] = []
        self.stale: set[FakeConnection] = set()
        self.held = False

    def run(self, work: Any = None) -> Any:
        """Do `work`, and let everything run that can run by now."""

        async def step() -> Any:
            outcome = work() if work else None
            for _ in range(2):
                for _ in range(30):
                    await asyncio.sleep(0)
                self.loop.now += 0.05
            return outcome

        outcome = self.loop.run_until_complete(step())
        self.collect()
        return outcome

    def collect(self) -> None:
        """A call that got its instance is in flight on it from that moment on."""
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if not task.cancelled() and task.exception() is None:
                task.result().in_flight += 1
                self.calls.append(task.result())
            elif not task.cancelled():
                assert isinstance(task.exception(), HangarError)

    # what happens

    @rule(caller=callers, conversation=conversations)
    def call(self, caller: str, conversation: str) -> None:
        async def ready() -> Instance:
            key = self.instances.key(self.provider, caller, "{}", conversation)
            instance = await self.instances.ready(self.provider, key, self.loop.time() + 100)
            assert instance.state in SERVING
            assert self.instances.warm[instance.key] is instance
            if instance.era is Era.legacy and self.provider.sharing is not Sharing.shared:
                assert instance.key.caller == caller, "nobody gets another caller's session"
            return instance

        self.run(lambda: self.waiting.append(self.loop.create_task(ready())))

    @precondition(lambda self: self.calls)
    @rule(which=pick)
    def answer(self, which: int) -> None:
        instance = self.calls.pop(which % len(self.calls))
        instance.in_flight -= 1
        instance.last_used = self.now
        self.run()

    @precondition(lambda self: self.waiting)
    @rule(which=pick)
    def give_up(self, which: int) -> None:
        self.run(self.waiting[which % len(self.waiting)].cancel)

    @precondition(lambda self: self.launcher.open)
    @rule(which=pick)
    def crash(self, which: int) -> None:
        self.run(self.launcher.open[which % len(self.launcher.open)].die)

    @rule()
    def hold_launches(self) -> None:
        self.launcher.gate = self.launcher.gate or asyncio.Event()

    @precondition(lambda self: self.launcher.gate)
    @rule()
    def let_launches_go(self) -> None:
        gate, self.launcher.gate = self.launcher.gate, None
        assert gate is not None
        self.run(gate.set)

    @rule()
    def hold_ends(self) -> None:
        self.launcher.slow_to_close = self.launcher.slow_to_close or asyncio.Event()

    @precondition(lambda self: self.launcher.slow_to_close)
    @rule()
    def let_ends_go(self) -> None:
        gate, self.launcher.slow_to_close = self.launcher.slow_to_close, None
        assert gate is not None
        self.run(gate.set)

    @rule(failing=st.booleans())
    def fail_launches(self, failing: bool) -> None:
        self.launcher.failing = cannot_start() if failing else None

    @rule(era=st.sampled_from(Era))
    def become(self, era: Era) -> None:
        self.era = era

    @rule(seconds=st.sampled_from([1, 400, 5000]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.loop.run_until_complete(self.instances.sweep_once(self.now))
        self.run()

    @rule(held=st.booleans())
    def stop(self, held: bool) -> None:
        self.held = self.held or held
        self.run(lambda: self.errands.append(self.loop.create_task(self.instances.stop("time", held))))

    @precondition(lambda self: self.held)
    @rule()
    def start(self) -> None:
        self.held = False
        self.loop.run_until_complete(self.instances.start("time"))

    @rule(conversation=conversations)
    def forget(self, conversation: str) -> None:
        self.run(lambda: self.instances.forget(conversation))

    @precondition(lambda self: self.instances.warm)
    @rule(which=pick)
    def lose_a_session(self, which: int) -> None:
        warm = list(self.instances.warm.values())
        instance = warm[which % len(warm)]
        assert isinstance(instance.connection, FakeConnection)
        self.stale.add(instance.connection)
        self.run(instance.connection.lose_session)

    # what holds at all times

    @invariant()
    def never_more_than_the_limit(self) -> None:
        assert len([each for each in self.launcher.open if each not in self.stale]) <= LIMIT

    @invariant()
    def what_is_warm_serves(self) -> None:
        for key, instance in self.instances.warm.items():
            assert instance.key == key
            assert instance.state in SERVING
            assert instance.connection in self.launcher.open
            assert instance.id not in self.gone

    @invariant()
    def a_call_keeps_its_instance_unless_it_dies(self) -> None:
        for instance in self.calls:
            assert isinstance(instance.connection, FakeConnection)
            assert not instance.connection.closes or instance.connection.dead is not None

    @invariant()
    def what_is_held_does_not_serve(self) -> None:
        assert not (self.held and self.instances.warm)

    @invariant()
    def the_record_is_a_walk_through_the_table(self) -> None:
        for event in self.events:
            if isinstance(event, ProviderStateChanged):
                assert State(event.after) in TRANSITIONS[State(event.before)].values()

    @invariant()
    def replay_equals_live(self) -> None:
        """The last word of the record on each live instance is its state."""
        last = {event.instance: event.after for event in self.events if isinstance(event, ProviderStateChanged)}
        for instance in self.instances.warm.values():
            assert last[instance.id] == instance.state
        for row in self.instances.snapshot():
            serving = [side.state for side in row.instances]
            assert (row.state in SERVING) == (shown(serving) in SERVING)

    @invariant()
    def nobody_is_told_twice_that_an_instance_is_gone(self) -> None:
        assert len(self.gone) == len(set(self.gone))

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.end()
        finally:
            self.loop.close()

    def end(self) -> None:
        if self.launcher.gate is not None:
            self.launcher.gate.set()
        if self.launcher.slow_to_close is not None:
            self.launcher.slow_to_close.set()
        closing = self.run(lambda: self.loop.create_task(self.instances.close()))
        assert closing.done()
        assert self.launcher.open == []
        assert self.instances.warm == {}
        for task in (*self.waiting, *self.errands):
            task.cancel()
        self.run()
        assert asyncio.all_tasks(self.loop) == set()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
