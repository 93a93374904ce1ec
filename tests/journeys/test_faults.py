# SPDX-License-Identifier: MIT
"""Providers that misbehave: each fault costs its own call a typed error, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.house import House, house, remote_provider, subprocess_provider
from tests.journeys.upstream import read_record, recording, stdio_command
from tests.journeys.wire import LegacyWire, ModernWire, Wire, client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ERAS = ["legacy", "modern"]


@dataclass(frozen=True)
class Faulty:
    house: House
    wire: str
    record: Path

    def starts(self) -> int:
        return sum("started" in line for line in read_record(self.record))


STDIO = ["stdio-legacy", "stdio-modern"]
HTTP = ["http-legacy", "http-modern"]


@pytest.fixture(scope="module", params=[*STDIO, *HTTP])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """The same provider twice: `brief` has little patience, for faults that nothing but time can tell."""
    wire, era = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    record = folder / "record"
    more: dict[str, Any] = {
        "limits": {"message_bytes": "1MiB"},
        "lifecycle": {"restart": {"backoff": "50ms..200ms"}},
    }
    if wire == "stdio":
        provider = subprocess_provider(stdio_command(era), env={"RECORD": str(record)}, **more)
        with house(folder, {"up": provider, "brief": brief(provider)}) as opened:
            yield Faulty(opened, wire, record)
    else:
        with recording(era) as upstream:
            provider = remote_provider(upstream.url, **more)
            with house(folder, {"up": provider, "brief": brief(provider)}) as opened:
                yield Faulty(opened, wire, record)


def brief(provider: dict[str, Any]) -> dict[str, Any]:
    return {**provider, "limits": {**provider["limits"], "call_timeout": "3s"}}


async def fault(wire: Wire, tool: str, at: str = "up") -> str:
    """The code of what went wrong. The other call in flight, and the next one, are none the worse."""
    others: list[str] = []

    async def other() -> None:
        others.append((await wire.call(f"{at}__sleep", {"seconds": 0.2})).text)

    async with anyio.create_task_group() as group:
        if tool != "vanish":
            group.start_soon(other)
        message = (await wire.call(f"{at}__{tool}")).message
    assert others == ([] if tool == "vanish" else ["slept"])
    assert (await wire.call(f"{at}__echo", {"after": tool})).text == json.dumps({"after": tool})
    return str(message["error"]["data"]["code"])


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("tool", "over_stdio", "over_http"),
    [
        ("hang", "timeout", "timeout"),
        ("wrong_id", "timeout", "provider_protocol"),
        ("not_json", "provider_protocol", "provider_protocol"),
        ("invalid_utf8", "provider_protocol", "provider_protocol"),
        ("deep", "provider_protocol", "provider_protocol"),
        ("huge", "message_too_large", "message_too_large"),
        ("vanish", "provider_died", "connection_lost"),
    ],
)
async def test_a_fault_costs_its_own_call_a_typed_error_and_nothing_else(
    faulty: Faulty, era: str, tool: str, over_stdio: str, over_http: str
) -> None:
    expected = over_stdio if faulty.wire == "stdio" else over_http
    at = "brief" if expected == "timeout" else "up"
    async with client(era, faulty.house.url) as wire:
        await wire.call(f"{at}__echo")
        before = faulty.starts()
        assert await fault(wire, tool, at) == expected
        assert faulty.starts() - before == (faulty.wire == "stdio" and tool == "vanish")


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_with_a_key_said_twice_has_one_meaning_for_all(faulty: Faulty, era: str) -> None:
    async with client(era, faulty.house.url) as wire:
        message = (await wire.call("up__twice")).message
        assert (await wire.call("up__echo")).text == "{}"
    if "error" in message:
        assert message["error"]["data"]["code"] in ("provider_protocol", "timeout")
    else:
        assert message["result"]["content"] == [{"type": "text", "text": "second"}]


@pytest.mark.parametrize("era", ERAS)
async def test_half_an_emoji_costs_one_character_in_either_direction(faulty: Faulty, era: str) -> None:
    async with client(era, faulty.house.url) as wire:
        answer = await wire.call("up__cut")
        assert answer.text == "fine: \N{GRINNING FACE}, cut: \N{REPLACEMENT CHARACTER}"
        assert answer.result["structuredContent"] == {"\N{REPLACEMENT CHARACTER}": 1.0}
        echoed = json.loads(await wire.bytes_of("up__echo", rb'{"text":"cut: \ud83d","n":1}'))
        assert json.loads(echoed["result"]["content"][0]["text"]) == {"text": "cut: \N{REPLACEMENT CHARACTER}", "n": 1}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("faulty", HTTP, indirect=True)
async def test_a_compressed_answer_is_bounded_as_it_unfolds(faulty: Faulty, era: str) -> None:
    async with client(era, faulty.house.url) as wire:
        await wire.call("up__echo")
        assert await fault(wire, "bomb") == "message_too_large"


@pytest.mark.parametrize(("tool", "said"), [("junk", "after the junk"), ("stderr", "after the flood")])
@pytest.mark.parametrize("faulty", STDIO, indirect=True)
async def test_noise_on_stdout_and_stderr_is_no_fault(faulty: Faulty, tool: str, said: str) -> None:
    async with ModernWire(faulty.house.url) as wire:
        assert (await wire.call(f"up__{tool}")).text == said
        assert (await wire.call("up__echo")).text == "{}"


async def test_a_fault_is_recorded_with_its_kind(tmp_path: Path) -> None:
    with recording("legacy") as upstream:
        provider = remote_provider(upstream.url, limits={"message_bytes": "1MiB"})
        with house(tmp_path, {"up": provider, "brief": brief(provider)}) as hangar:
            async with LegacyWire(hangar.url) as wire:
                for tool in ("brief__hang", "up__not_json", "up__huge", "up__vanish"):
                    assert "error" in (await wire.call(tool)).message
            records = hangar.audit_until(lambda told: sum(r["type"] == "call.failed" for r in told) == 4)
    failed = {r["name"]: r["reason"] for r in records if r["type"] == "call.failed"}
    assert failed == {"hang": "timeout", "not_json": "protocol", "huge": "protocol", "vanish": "transport"}
    admitted = [r["name"] for r in records if r["type"] == "call.admitted"]
    assert admitted == ["hang", "not_json", "huge", "vanish"]
