# SPDX-License-Identifier: MIT
"""The record: each call admitted once before it ends once; and nothing secret anywhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.house import Record, fixture_command, fixture_server, house, remote_provider, subprocess_provider
from tests.journeys.wire import LegacyWire, ModernWire, client
from tests.processes import command_line, descendants

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ENDS = {"call.completed", "call.failed"}


def settled(records: list[Record]) -> bool:
    admitted = [r["call_id"] for r in records if r["type"] == "call.admitted"]
    ended = {r["call_id"] for r in records if r["type"] in ENDS}
    return bool(admitted) and set(admitted) <= ended


@pytest.mark.parametrize("upstream", ["legacy", "modern"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_each_call_is_admitted_and_then_ends_exactly_once(tmp_path: Path, era: str, upstream: str) -> None:
    with (
        fixture_server(tmp_path, upstream) as fixture,
        house(
            tmp_path,
            {
                "fixture": remote_provider(fixture, tools={"deny": ["test_image*"]}),
                "brief": remote_provider(fixture, limits={"call_timeout": "1s"}),
            },
        ) as hangar,
    ):
        async with client(era, hangar.url, name="auditor") as wire:
            await wire.call("fixture__greet", {"name": "x"})
            await wire.call("fixture__test_error_handling")
            await wire.call("brief__test_sleep", {"seconds": 60})
            await wire.call("fixture__test_image_content")
            await wire.ask("prompts/get", {"name": "fixture__test_simple_prompt"})
            await wire.ask("resources/read", {"uri": "fixture+test://static-text"})
            await wire.ask("resources/read", {"uri": "fixture+test://no-such-thing"})
        records = hangar.audit_until(lambda all: settled(all) and sum(r["type"] == "call.denied" for r in all) >= 2)
    order: dict[str, list[str]] = {}
    for record in records:
        if record["type"].startswith("call."):
            order.setdefault(record["call_id"], []).append(record["type"])
    for kinds in order.values():
        assert kinds == ["call.denied"] or (kinds[0] == "call.admitted" and kinds[1] in ENDS and len(kinds) == 2), kinds
    ends = Counter((r["type"], r.get("outcome", r.get("reason", ""))) for r in records if r["type"] in ENDS)
    assert ends["call.completed", "ok"] >= 3
    assert ends["call.completed", "tool_error"] >= 1
    assert ends["call.failed", "timeout"] == 1
    refused = [(r["name"], r["code"]) for r in records if r["type"] == "call.denied"]
    assert [name for name, _ in refused] == ["test_image_content", "test://no-such-thing"]
    assert refused[1][1] == "unknown_resource"
    for record in records:
        if record["type"] == "call.admitted":
            assert record["provider"] == ("brief" if record["name"] == "test_sleep" else "fixture")
            assert record["caller"]
            assert record["session_id"]
            assert record["era"] == era
            assert "auditor" in record["client"]
    sequence = [record["seq"] for record in records]
    assert sequence == sorted(set(sequence))


async def test_the_trace_of_the_caller_is_in_the_record(tmp_path: Path) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    with fixture_server(tmp_path, "dual") as fixture, house(tmp_path, {"fixture": remote_provider(fixture)}) as hangar:
        async with ModernWire(hangar.url) as wire:
            await wire.call("fixture__greet", {"name": "x"}, _meta={"traceparent": parent})
        async with LegacyWire(hangar.url, headers={"traceparent": parent}) as wire:
            await wire.call("fixture__greet", {"name": "x"})
        records = hangar.audit_until(lambda all: settled(all) and len([r for r in all if r["type"] in ENDS]) == 2)
    assert [r.get("trace_id") for r in records if r["type"] == "call.admitted"] == [trace, trace]


def all_logs(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log*"))


@pytest.mark.parametrize("arguments", ["hash", "preview"])
async def test_secrets_are_in_no_record_no_log_and_no_list_of_processes(tmp_path: Path, arguments: str) -> None:
    secrets = {
        "UPSTREAM_TOKEN": "upstream-aaaaaaaaaaaaaaaaaaaaaaaa",
        "PROVIDER_KEY": "provider-bbbbbbbbbbbbbbbbbbbbbbbb",
        "AGENT_TOKEN": "agent-cccccccccccccccccccccccccccc",
        "ADMIN_TOKEN": "admin-dddddddddddddddddddddddddddd",
    }
    told = "argument-eeeeeeeeeeeeeeeeeeeeeeeeeeee"
    with fixture_server(tmp_path, "dual") as fixture:
        providers = {
            "far": remote_provider(fixture, headers={"Authorization": "Bearer ${UPSTREAM_TOKEN}"}),
            "near": subprocess_provider(fixture_command("--transport", "stdio"), env={"API_KEY": "${PROVIDER_KEY}"}),
            "broken": subprocess_provider(["false"], env={"API_KEY": "${PROVIDER_KEY}"}),
        }
        sections = {
            "server": {"token": "${AGENT_TOKEN}", "admin_token": "${ADMIN_TOKEN}"},
            "audit": {"arguments": arguments},
        }
        with house(tmp_path, providers, env=secrets, **sections) as hangar:
            headers = {"authorization": f"Bearer {secrets['AGENT_TOKEN']}"}
            for era in ("legacy", "modern"):
                async with client(era, hangar.url, headers=headers) as wire:
                    for provider in ("far", "near", "broken"):
                        await wire.call(f"{provider}__greet", {"name": "x", "api_key": told, "password": told})
                        await wire.call(f"{provider}__no_such_tool", {"token": told})
            async with ModernWire(hangar.url, headers={"authorization": "Bearer wrong"}) as wire:
                assert (await wire.ask("tools/list")).status == 401
            hangar.audit_until(settled)
            everyone = [hangar.pid, *descendants(hangar.pid)]
            shown = "\n".join(command_line(pid) for pid in everyone)
            written = all_logs(tmp_path)
            kept = hangar.audit_text
            stopped = hangar.running.end()
    assert stopped == 0
    for place, words in (("ps", shown), ("logs", written), ("audit", kept)):
        assert words.strip() or place == "logs"
        for name, secret in {**secrets, "argument": told}.items():
            assert secret not in words, f"{name} is in {place}"
