# SPDX-License-Identifier: MIT
"""How systems like this one failed: controls that were not there. What is asked for works, or Hangar does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.house import house, subprocess_provider
from tests.journeys.doors import refusal_to_start, rest
from tests.journeys.upstream import read_record, stdio_command
from tests.journeys.wire import ModernWire

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
NEVER_STARTED = subprocess_provider(["false"])


@pytest.mark.parametrize(
    ("provider", "sections", "named"),
    [
        ({"capabilities": {"network": {"egress": []}}}, {}, "capabilities"),
        ({"enforcement": "enforce"}, {}, "enforcement"),
        ({}, {"policies": {"default": "deny"}}, "policies"),
        ({}, {"license": {"key": "x"}}, "license"),
        ({}, {"respond": {"network": "deny"}}, "respond"),
    ],
)
def test_pitfall_01_a_control_that_nothing_enforces_yet_is_refused(
    tmp_path: Path, provider: dict[str, Any], sections: dict[str, Any], named: str
) -> None:
    assert named in refusal_to_start(tmp_path, {"time": {**NEVER_STARTED, **provider}}, **sections)


@pytest.mark.parametrize("asked", ["audit", "durability", "state", "prefix"])
def test_pitfall_02_what_the_configuration_asks_for_is_there_or_hangar_does_not_start(
    tmp_path: Path, asked: str
) -> None:
    (tmp_path / "a-file").write_text("")
    sections: dict[str, dict[str, Any]] = {
        "audit": {"audit": {"sink": str(tmp_path / "a-file/audit.jsonl")}},
        "durability": {"events": {"durability": "strict"}},
        "state": {"state": {"dir": str(tmp_path / "a-file")}},
        "prefix": {"expose": {"prefix": "never"}},
    }
    providers = {"time": NEVER_STARTED, "other": NEVER_STARTED}
    assert refusal_to_start(tmp_path, providers, **sections[asked]).strip()


def test_pitfall_05_a_state_that_was_emptied_is_refused_and_not_replaced_by_memory(tmp_path: Path) -> None:
    with house(tmp_path, {"time": NEVER_STARTED}):
        pass
    database = tmp_path / "state/state.db"
    database.write_bytes(b"")
    assert "state" in refusal_to_start(tmp_path, {"time": NEVER_STARTED})
    assert database.read_bytes() == b""


async def test_pitfall_06_a_provider_that_was_stopped_stays_stopped_after_a_restart(tmp_path: Path) -> None:
    record = tmp_path / "record"
    provider = {"up": subprocess_provider(stdio_command(), env={"RECORD": str(record)})}
    with house(tmp_path, provider) as hangar:
        async with rest(hangar) as admin, ModernWire(hangar.url) as wire:
            assert (await wire.call("up__echo")).text == "{}"
            assert (await admin.post("/providers/up/stop")).status_code == 200
    started = len(read_record(record))
    with house(tmp_path, provider) as hangar:
        async with ModernWire(hangar.url) as wire:
            refused = (await wire.call("up__echo")).message["error"]
    assert refused["data"]["code"] == "provider_stopped"
    assert len(read_record(record)) == started


@pytest.mark.parametrize(
    ("provider", "sections"),
    [
        ({"sessions": "per-session"}, {}),
        ({"sessions": "Shared"}, {}),
        ({"protocol": "modren"}, {}),
        ({"mode": "Subprocess"}, {}),
        ({"tools": {"denny": ["*"]}}, {}),
        ({"tools": {"deny": "delete_*"}}, {}),
        ({"tools": {"deny": [None]}}, {}),
        ({}, {"expose": {"hangar_tools": "readonly"}}),
        ({}, {"events": {"on_overflow": "deny"}}),
        ({}, {"audit": {"arguments": False}}),
    ],
)
def test_pitfall_07_a_misspelt_value_is_refused_and_never_means_the_permissive_one(
    tmp_path: Path, provider: dict[str, Any], sections: dict[str, Any]
) -> None:
    said = refusal_to_start(tmp_path, {"time": {**NEVER_STARTED, **provider}}, **sections)
    assert "hangar.yaml:" in said


@pytest.mark.parametrize(
    "tools",
    [
        {"allow": ["get_a"], "deny": ["get_*"]},
        {"allow": ["get_*"], "idempotent": ["set_*"]},
        {"deny": ["*"], "idempotent": ["get_*"]},
        {"deny": [""]},
    ],
)
def test_pitfall_08_a_rule_that_can_never_match_is_refused(tmp_path: Path, tools: dict[str, list[str]]) -> None:
    assert "hangar.yaml:" in refusal_to_start(tmp_path, {"time": {**NEVER_STARTED, "tools": tools}})


def test_pitfall_09_an_empty_list_of_what_is_allowed_does_not_allow_everything(tmp_path: Path) -> None:
    said = refusal_to_start(tmp_path, {"time": {**NEVER_STARTED, "tools": {"allow": []}}})
    assert "would allow every tool" in said


async def test_pitfall_17_a_new_owner_of_a_name_inherits_neither_rules_nor_catalogue(tmp_path: Path) -> None:
    first = subprocess_provider(stdio_command("legacy", "--tools", "mine,shared"), tools={"deny": ["shared"]})
    second = subprocess_provider(stdio_command("legacy", "--tools", "yours,shared"))
    for provider, names in ((first, ["up__mine"]), (second, ["up__yours", "up__shared"])):
        with house(tmp_path, {"up": provider}) as hangar:
            async with ModernWire(hangar.url) as wire:
                assert await wire.tools() == names
                assert (await wire.call(names[-1])).text == "{}"
                assert "error" in (await wire.call("up__mine" if provider is second else "up__yours")).message
