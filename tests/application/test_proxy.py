# SPDX-License-Identifier: MIT
"""Whatever becomes of a call: one end event, nothing held, and the provider knows when nobody waits any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.application.flight import Flight
from mcp_hangar.application.subscriptions import Ear
from mcp_hangar.domain.call import ANONYMOUS, Call, Capabilities, Session
from mcp_hangar.domain.errors import HangarError, SessionExpired
from mcp_hangar.domain.mcp.envelope import Json, Message, Raw, encode
from mcp_hangar.domain.mcp.eras import Era
from tests.inside import Connection, Inside, a_server, inside

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("era", [Era.legacy, Era.modern])


class Quiet:
    """The way back to a client that only listens."""

    ear: Ear | None = None

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def notify(self, message: bytes) -> None:
        self.heard.append(message)

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        raise AssertionError("nobody is asked here")


class Caller:
    """Makes calls, each with its flight at hand."""

    def __init__(self, house: Inside) -> None:
        self.house = house
        self.made = 0
        self.channel = Quiet()

    def begin(self, tool: str, **params: Any) -> tuple[asyncio.Task[Any], Flight]:
        self.made += 1
        call = Call(
            id=f"call-{self.made}",
            method="tools/call",
            provider="time",
            name=tool,
            caller=ANONYMOUS,
            session=Session(id="s"),
            era=Era.modern,
            capabilities=Capabilities(key='{"elicitation":{}}'),
            params={"name": Raw(encode(tool)), **{name: Raw(encode(value)) for name, value in params.items()}},
            meta={},
        )
        flight = Flight(call, self.channel)
        return asyncio.create_task(self.house.house.proxy.call(call, flight)), flight

    async def call(self, tool: str, **params: Any) -> Any:
        task, _ = self.begin(tool, **params)
        return await task

    async def refused(self, tool: str, **params: Any) -> HangarError:
        with pytest.raises(HangarError) as caught:
            await self.call(tool, **params)
        return caught.value


def reasons(ends: list[dict[str, Any]]) -> list[str]:
    return [event.get("outcome") or event["reason"] for event in ends]


@ERAS
async def test_results_and_tool_errors_end_a_call_once_with_their_outcome(tmp_path: Path, era: Era) -> None:
    async with inside(tmp_path, a_server(era)) as house:
        caller = Caller(house)
        await caller.call("echo")
        await caller.call("fails")
        assert reasons(await house.all_over()) == ["ok", "tool_error"]


async def test_a_providers_own_error_is_passed_on_and_ends_the_call_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        answer = await Caller(house).call("wrong")
        assert b"-32050" in bytes(answer.error)
        assert len(await house.all_over()) == 1


async def test_an_unknown_tool_is_refused_without_being_forwarded(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        caller = Caller(house)
        await caller.call("echo")
        assert (await caller.refused("nothing")).code == "unknown_tool"
        assert [message["params"]["name"] for message in house.connection.calls()] == ["echo"]
        assert len(await house.record("call.denied")) == 1
        assert reasons(await house.all_over()) == ["ok"]


@ERAS
async def test_a_call_over_its_deadline_ends_as_timeout_and_the_provider_is_told(tmp_path: Path, era: Era) -> None:
    async with inside(tmp_path, a_server(era), provider={"limits": {"call_timeout": "300ms"}}) as house:
        assert (await Caller(house).refused("silent")).code == "timeout"
        assert house.connection.exchanges[house.connection.last].failed is not None
        assert reasons(await house.all_over()) == ["timeout"]


@ERAS
async def test_cancelling_a_warm_call_tells_the_provider(tmp_path: Path, era: Era) -> None:
    async with inside(tmp_path, a_server(era)) as house:
        caller = Caller(house)
        await caller.call("echo")
        task, flight = caller.begin("silent")
        await house.asked("silent")
        flight.cancel("The client has gone.")
        with pytest.raises(HangarError, match="cancelled"):
            await task
        assert house.connection.exchanges[house.connection.last].failed is not None
        assert reasons(await house.all_over()) == ["ok", "cancelled"]


async def test_cancelling_a_cold_call_ends_it_at_once_and_nothing_is_sent(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        house.launcher.gate = asyncio.Event()
        task, flight = Caller(house).begin("echo")
        await house.launcher.launching.wait()
        flight.cancel("The client has gone.")
        with pytest.raises(HangarError, match="cancelled"):
            await task
        house.launcher.gate.set()
        assert reasons(await house.all_over()) == ["cancelled"]
        assert not any(
            connection.calls() for connection in house.launcher.connections if isinstance(connection, Connection)
        )


async def test_a_cancel_while_the_request_is_being_written_is_not_lost(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        caller = Caller(house)
        await caller.call("echo")
        gate, writing = asyncio.Event(), asyncio.Event()
        send = house.connection.send

        async def slow(request: Any) -> Any:
            writing.set()
            await gate.wait()
            return await send(request)

        house.connection.send = slow  # type: ignore[method-assign]
        task, flight = caller.begin("silent")
        await writing.wait()
        flight.cancel("The client has gone.")
        gate.set()
        with pytest.raises(HangarError, match="cancelled"):
            await task
        assert reasons(await house.all_over()) == ["ok", "cancelled"]


async def test_a_task_that_is_cancelled_records_the_end_of_its_call(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        task, _ = Caller(house).begin("silent")
        await house.asked("silent")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert house.connection.exchanges[house.connection.last].failed is not None
        assert reasons(await house.all_over()) == ["cancelled"]


async def test_a_provider_that_dies_ends_its_calls_and_the_next_one_starts_it_again(tmp_path: Path) -> None:
    async with inside(tmp_path, provider={"lifecycle": {"restart": {"backoff": "1ms..2ms"}}}) as house:
        caller = Caller(house)
        assert (await caller.refused("dies")).code == "provider_died"
        await house.until(lambda: not house.house.instances.warm)
        await caller.call("echo")
        assert reasons(await house.all_over()) == ["provider_died", "ok"]
        assert len(house.launcher.launched) == 2


async def test_a_call_to_a_tool_marked_idempotent_is_made_once_more_and_each_attempt_ends(tmp_path: Path) -> None:
    provider = {"tools": {"idempotent": ["dies"]}, "lifecycle": {"restart": {"backoff": "1ms..2ms"}}}
    async with inside(tmp_path, provider=provider) as house:
        assert (await Caller(house).refused("dies")).code in ("provider_died", "start_failed")
        ends = await house.all_over()
        assert len(ends) == 2
        assert len({end["call_id"] for end in ends}) == 2


async def test_an_expired_session_is_renewed_and_the_call_made_again_within_a_concurrency_of_one(
    tmp_path: Path,
) -> None:
    async with inside(tmp_path, provider={"limits": {"concurrency": 1}}) as house:
        caller = Caller(house)
        await caller.call("echo")
        first = house.connection
        task, _ = caller.begin("silent")
        first.exchanges[await house.asked("silent")].put(SessionExpired("session_expired", provider="time"))
        await house.until(lambda: len(house.launcher.launched) == 2 and house.launcher.open[-1] is not first)
        second = house.launcher.connections[-1]
        assert isinstance(second, Connection)
        id = await house.until(lambda: second.last)
        second.answer(id, {"result": {"content": []}})
        await task
        assert reasons(await house.all_over()) == ["ok", "transport", "ok"]


async def test_over_the_concurrency_a_call_is_denied_and_takes_no_place(tmp_path: Path) -> None:
    async with inside(tmp_path, provider={"limits": {"concurrency": 1}}) as house:
        caller = Caller(house)
        task, _ = caller.begin("silent")
        id = await house.asked("silent")
        assert (await caller.refused("echo")).code == "limit"
        house.connection.answer(id, {"result": {"content": []}})
        await task
        await caller.call("echo")
        assert reasons(await house.all_over()) == ["ok", "ok"]


async def test_a_defect_inside_is_an_internal_error_with_a_reference_and_ends_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as house:
        caller = Caller(house)
        await caller.call("echo")
        task, flight = caller.begin("silent")
        id = await house.asked("silent")

        def broken(*_: object) -> None:
            raise KeyError("secret thing")

        monkeypatch.setattr("mcp_hangar.domain.mcp.bridge.result_back", broken)
        house.connection.answer(id, {"result": {"content": []}})
        with pytest.raises(HangarError) as caught:
            await task
        assert caught.value.code == "internal"
        assert flight.call.id in caught.value.why
        assert "secret thing" not in str(caught.value.data)
        assert reasons(await house.all_over()) == ["ok", "protocol"]


async def test_progress_that_is_no_object_is_dropped_and_the_call_goes_on(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        task, flight = Caller(house).begin("silent")
        id = await house.asked("silent")
        flight.call.meta["progressToken"] = Raw(b'"p"')
        house.connection.relate(id, {"method": "notifications/progress", "params": [1]})
        house.connection.relate(
            id, {"method": "notifications/progress", "params": {"progressToken": id, "progress": 1}}
        )
        house.connection.answer(id, {"result": {"content": []}})
        await task
        assert reasons(await house.all_over()) == ["ok"]


async def test_a_stopping_house_ends_what_does_not_finish_in_time(tmp_path: Path) -> None:
    async with inside(tmp_path, provider={"lifecycle": {"stop_grace": "100ms"}}) as house:
        task, _ = Caller(house).begin("silent")
        await house.asked("silent")
        await house.house.stop(0.05)
        with pytest.raises(HangarError):
            await task
        assert not house.house.proxy.in_flight
        assert len(await house.ends()) == 1


async def test_what_was_met_before_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_hangar.application.proxy._MOST_MET", 4)
    async with inside(tmp_path, provider={"sessions": "per_caller"}) as house:
        caller = Caller(house)
        for number in range(12):
            task, flight = caller.begin("echo")
            flight.call.conversation = f"127.0.0.1:{number}"
            await task
        assert len(house.house.proxy._met) <= 4
