# SPDX-License-Identifier: MIT
"""A call that waited for a cold start goes by the policies of the moment it is sent, not of the moment it came."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mcp_hangar.application.fleet import Fleet
from mcp_hangar.application.flight import Flight
from mcp_hangar.domain.call import ANONYMOUS, Call, Capabilities, Session
from mcp_hangar.domain.errors import HangarError
from mcp_hangar.domain.mcp.envelope import Raw
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.policy import ToolJudge
from mcp_hangar.domain.provider import ToolRules
from mcp_hangar.server.hangar_tools import SilentChannel
from tests.inside import Inside, inside

pytestmark = pytest.mark.anyio


def a_call() -> Call:
    return Call(
        id=f"call-{time.monotonic_ns()}",
        method="tools/call",
        provider="time",
        name="echo",
        caller=ANONYMOUS,
        session=Session(id="s"),
        era=Era.modern,
        capabilities=Capabilities(key="{}"),
        params={"name": Raw(b'"echo"')},
        meta={},
    )


def replace_fleet(house: Inside, deny: tuple[str, ...] = (), *, providers: bool = True) -> None:
    """What a reload, or a restriction, does: another snapshot."""
    before = house.house.proxy.fleet
    judges = (ToolJudge({"time": ToolRules(deny=deny)}),)
    house.house.proxy.fleet = Fleet(providers=before.providers if providers else {}, judges=judges)


async def waiting_for_its_start(house: Inside) -> asyncio.Task[object]:
    house.launcher.gate = asyncio.Event()
    call = a_call()
    task: asyncio.Task[object] = asyncio.create_task(house.house.proxy.call(call, Flight(call, SilentChannel())))
    await house.launcher.launching.wait()
    return task


@pytest.mark.parametrize("providers", [True, False])
async def test_pitfall_14_what_is_denied_while_a_call_waits_is_not_sent(tmp_path: Path, providers: bool) -> None:
    async with inside(tmp_path) as house:
        task = await waiting_for_its_start(house)
        replace_fleet(house, ("echo",), providers=providers)
        assert house.launcher.gate is not None
        house.launcher.gate.set()
        with pytest.raises(HangarError) as refused:
            await task
        assert refused.value.code in ("denied", "unknown_tool")
        assert house.launcher.only.calls() == []


async def test_a_change_that_does_not_concern_the_call_lets_it_go_on(tmp_path: Path) -> None:
    async with inside(tmp_path) as house:
        task = await waiting_for_its_start(house)
        replace_fleet(house, ("other",))
        assert house.launcher.gate is not None
        house.launcher.gate.set()
        assert await task
        assert len(house.launcher.only.calls()) == 1
