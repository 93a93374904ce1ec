# SPDX-License-Identifier: MIT
"""Servers that none of us wrote, all behind one door."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcp import Client

from tests.conftest import Node, RealServers
from tests.house import house, remote_provider, subprocess_provider
from tests.journeys.conftest import Full
from tests.journeys.wire import LegacyWire, ModernWire
from tests.processes import closed_port, marked

pytestmark = [pytest.mark.anyio, pytest.mark.node, pytest.mark.slow]

TOOLS_OF = {
    "time": {"get_current_time", "convert_time"},
    "git": {"git_status", "git_log", "git_diff"},
    "fetch": {"fetch"},
    "everything": {"echo", "get-sum", "get-env"},
    "everything-http": {"echo", "get-sum"},
    "everything-sse": {"echo", "get-sum"},
    "files-a": {"read_text_file", "list_directory"},
    "files-b": {"read_text_file", "list_directory"},
}


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_the_tools_of_all_providers_are_listed_and_each_can_be_called(full: Full, page: str, mode: str) -> None:
    calls = {
        "time__get_current_time": ({"timezone": "UTC"}, "UTC"),
        "git__git_log": ({"repo_path": str(full.repository)}, "The first commit"),
        "fetch__fetch": ({"url": page}, "The hangar is open."),
        "everything__echo": ({"message": "by stdio"}, "by stdio"),
        "everything-http__echo": ({"message": "by http"}, "by http"),
        "everything-sse__echo": ({"message": "by sse"}, "by sse"),
        "files-a__read_text_file": ({"path": str(full.folder_a / "only.txt")}, "I am in files-a"),
        "files-b__read_text_file": ({"path": str(full.folder_b / "only.txt")}, "I am in files-b"),
    }
    async with Client(full.house.url, mode=mode) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        wanted = {f"{provider}__{tool}" for provider, tools in TOOLS_OF.items() for tool in tools}
        assert wanted <= listed
        for tool, (arguments, expected) in calls.items():
            result = await client.call_tool(tool, arguments)
            told = "".join(getattr(block, "text", "") for block in result.content)
            assert not result.is_error, (tool, told)
            assert expected in told, (tool, told)


@pytest.mark.parametrize("provider", sorted(TOOLS_OF))
async def test_behind_its_own_path_a_provider_has_its_plain_names_and_nobody_elses(full: Full, provider: str) -> None:
    async with ModernWire(full.house.door(provider)) as client:
        listed = await client.tools()
    assert TOOLS_OF[provider] <= set(listed)
    assert not [name for name in listed if "__" in name]


async def test_two_providers_with_the_same_tools_keep_to_their_own_files(full: Full) -> None:
    async with ModernWire(full.house.url) as client:
        own = await client.call("files-a__read_text_file", {"path": str(full.folder_a / "only.txt")})
        others = await client.call("files-b__read_text_file", {"path": str(full.folder_a / "only.txt")})
    assert "I am in files-a" in own.text
    assert others.result["isError"] is True
    assert "I am in files-a" not in others.text


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_resources_and_prompts_of_a_stranger_are_read_under_the_names_they_are_listed_with(
    full: Full, mode: str
) -> None:
    async with Client(full.house.url, mode=mode) as client:
        resources = [r for r in (await client.list_resources()).resources if str(r.uri).startswith("everything+")]
        assert resources
        read = await client.read_resource(str(resources[0].uri))
        assert [str(content.uri) for content in read.contents] == [str(resources[0].uri)]
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert "everything__simple-prompt" in prompts
        assert (await client.get_prompt("everything__simple-prompt")).messages


async def test_links_to_resources_inside_an_answer_can_be_followed(full: Full) -> None:
    async with ModernWire(full.house.url) as client:
        answer = await client.call("everything__get-resource-links", {"count": 2})
        links = [block["uri"] for block in answer.result["content"] if block["type"] == "resource_link"]
        assert links
        for link in links:
            assert (await client.ask("resources/read", {"uri": link})).result["contents"]


async def test_structured_content_arrives_as_it_left(full: Full) -> None:
    async with ModernWire(full.house.url) as client:
        answer = await client.call("everything__get-structured-content", {"location": "New York"})
    assert isinstance(answer.result["structuredContent"], dict)


async def test_a_denied_tool_is_neither_listed_nor_callable(real_servers: RealServers, tmp_path: Path) -> None:
    providers = {"time": subprocess_provider([real_servers.time], tools={"deny": ["convert_*"]})}
    with house(tmp_path, providers) as hangar:
        for door, prefix in ((hangar.url, "time__"), (hangar.door("time"), "")):
            async with ModernWire(door) as modern, LegacyWire(door) as legacy:
                for client in (modern, legacy):
                    assert await client.tools() == [f"{prefix}get_current_time"]
                    denied = await client.call(f"{prefix}convert_time", {"source_timezone": "UTC"})
                    unknown = await client.call(f"{prefix}no_such_tool", {"source_timezone": "UTC"})
                    assert "result" not in denied.message
                    assert denied.status == unknown.status
                    assert denied.message["error"]["code"] == unknown.message["error"]["code"]
        records = hangar.audit_until(lambda all: sum(r["type"] == "call.denied" for r in all) >= 4)
        assert not [r for r in records if r["type"] == "call.admitted"]


async def test_a_call_that_is_denied_by_name_starts_no_process(node: Node, tmp_path: Path) -> None:
    started = tmp_path / "started"
    watched = ["sh", "-c", 'echo $$ >> "$0"; exec "$@"', str(started), *node.package("mcp-server-everything"), "stdio"]
    with house(tmp_path, {"shut": subprocess_provider(watched, tools={"deny": ["*"]})}) as hangar:
        async with ModernWire(hangar.url) as client:
            await client.call("shut__echo", {"message": "hello"})
            await client.call("shut__get-env")
        hangar.audit_until(lambda all: sum(r["type"] == "call.denied" for r in all) == 2)
        assert not started.exists()
        assert not marked(hangar.mark)


async def test_a_dead_provider_hides_only_itself(real_servers: RealServers, tmp_path: Path) -> None:
    providers = {
        "time": subprocess_provider([real_servers.time]),
        "ends": subprocess_provider(["false"]),
        "silent": subprocess_provider(["sleep", "1000"], lifecycle={"start_timeout": "2s", "stop_grace": "500ms"}),
    }
    with (
        closed_port() as closed,
        house(tmp_path, {**providers, "nowhere": remote_provider(f"http://127.0.0.1:{closed}/mcp")}) as hangar,
    ):
        async with ModernWire(hangar.url) as client:
            listed = await client.tools()
            answer = await client.call("time__get_current_time", {"timezone": "UTC"})
            missing = await client.call("ends__anything")
        assert {name.partition("__")[0] for name in listed} == {"time"}
        assert "UTC" in answer.text
        assert "result" not in missing.message or missing.result.get("isError")


async def test_a_secret_in_hangars_environment_does_not_reach_a_provider(node: Node, tmp_path: Path) -> None:
    providers = {
        "everything": subprocess_provider([*node.package("mcp-server-everything"), "stdio"], env={"OWN": "${GIVEN}"})
    }
    with house(tmp_path, providers, env={"HANGAR_SECRET": "never-to-be-seen", "GIVEN": "meant-for-it"}) as hangar:
        async with ModernWire(hangar.url) as client:
            told = (await client.call("everything__get-env")).text
    assert "meant-for-it" in told
    assert "never-to-be-seen" not in told
    assert "HANGAR_SECRET" not in told
