# SPDX-License-Identifier: MIT
"""What a server asks of its client finds the right client, whatever era the two are of."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError

from tests.conftest import Node
from tests.house import House, fixture_command, fixture_server, house, remote_provider, subprocess_provider
from tests.processes import free_port, plain_environment, running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
MODES = ["legacy", "2026-07-28"]


async def elicited(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    answers: dict[str, Any] = {"name": "Ada", "username": "ada", "email": "ada@example.org", "color": "green"}
    if isinstance(params, types.ElicitRequestFormParams):
        wanted = params.requested_schema.get("properties", {})
        answers = {key: value for key, value in answers.items() if key in wanted}
        if "check" in wanted:
            answers["check"] = True
    return types.ElicitResult(action="accept", content=answers)


async def sampled(context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="a model's words")
    return types.CreateMessageResult(role="assistant", content=content, model="made-up", stop_reason="endTurn")


async def rooted(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult.model_validate({"roots": [{"uri": "file:///somewhere", "name": "somewhere"}]})


def able(url: str, mode: str) -> Client:
    return Client(url, mode=mode, elicitation_callback=elicited, sampling_callback=sampled, list_roots_callback=rooted)


def words(result: types.CallToolResult) -> str:
    return "".join(getattr(block, "text", "") for block in result.content)


@pytest.mark.node
@pytest.mark.parametrize("transport", ["stdio", "streamableHttp", "sse"])
@pytest.mark.parametrize("mode", MODES)
async def test_elicitation_and_sampling_travel_from_a_strangers_server(
    node: Node, tmp_path: Path, transport: str, mode: str
) -> None:
    everything = node.package("mcp-server-everything")
    with ExitStack() as stack:
        if transport == "stdio":
            provider = subprocess_provider([*everything, "stdio"])
        else:
            port = free_port()
            env = plain_environment(PORT=str(port))
            started = stack.enter_context(running([*everything, transport], tmp_path / "everything.log", env=env))
            started.wait_for_port(port)
            path = "sse" if transport == "sse" else "mcp"
            provider = remote_provider(f"http://127.0.0.1:{port}/{path}")
        hangar = stack.enter_context(house(tmp_path, {"everything": provider}))
        async with able(hangar.url, mode) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            assert {"everything__trigger-elicitation-request", "everything__trigger-sampling-request"} <= listed
            asked = await client.call_tool("everything__trigger-elicitation-request", {})
            assert "Ada" in words(asked)
            thought = await client.call_tool("everything__trigger-sampling-request", {"prompt": "hello"})
            assert "a model's words" in words(thought)
            if mode == "legacy":
                # This server asks for roots once, outside any call, when a session opens. A modern client cannot be
                # asked then; roots asked for inside a call cross eras below.
                roots = await client.call_tool("everything__get-roots-list", {})
                assert "file:///somewhere" in words(roots)
        async with Client(hangar.url, mode=mode) as client:
            listed = {tool.name for tool in (await client.list_tools()).tools}
            assert "everything__echo" in listed
            assert "everything__trigger-sampling-request" not in listed


def crossing(folder: Path, upstream: str, stack: ExitStack) -> AbstractContextManager[House]:
    """A Hangar in front of the conformance fixture: `http` or `stdio`, one era."""
    transport, era = upstream.split("-")
    if transport == "http":
        provider = remote_provider(stack.enter_context(fixture_server(folder, era)))
    else:
        provider = subprocess_provider(fixture_command("--transport", "stdio", "--era", era))
    return house(folder, {"fixture": provider}, expose={"prefix": "never"})


@pytest.mark.parametrize("upstream", ["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"])
@pytest.mark.parametrize("mode", MODES)
async def test_all_questions_cross_all_eras(tmp_path: Path, upstream: str, mode: str) -> None:
    with ExitStack() as stack:
        hangar = stack.enter_context(crossing(tmp_path, upstream, stack))
        async with able(hangar.url, mode) as client:
            told = words(await client.call_tool("test_elicitation", {"message": "Who are you?"}))
            assert "ada@example.org" in told
            assert words(await client.call_tool("test_sampling", {"prompt": "x"})) == "LLM response: a model's words"
            told = words(await client.call_tool("test_input_required_result_list_roots", {}))
            assert told == "Roots: file:///somewhere"
            told = words(await client.call_tool("test_input_required_result_multiple_inputs", {}))
            assert told == "All 3 answers received"
            told = words(await client.call_tool("test_input_required_result_multi_round", {}))
            assert told == "Ada likes green"
        async with Client(hangar.url, mode=mode) as unable:
            assert "sampling" in await refusal(unable, "test_sampling", {"prompt": "x"})


async def refusal(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """How a call was refused: by a protocol error, or by a result that says so."""
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as error:
        return f"{error} {error.error.data}"
    assert result.is_error, words(result)
    return words(result)


@pytest.mark.parametrize("upstream", ["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"])
@pytest.mark.parametrize("mode", MODES)
async def test_each_question_is_recorded_with_the_call_it_belongs_to(tmp_path: Path, upstream: str, mode: str) -> None:
    with ExitStack() as stack:
        hangar = stack.enter_context(crossing(tmp_path, upstream, stack))
        async with able(hangar.url, mode) as client:
            await client.call_tool("test_input_required_result_elicitation", {})
        records = hangar.audit_until(
            lambda all: (
                any(r["type"] == "call.admitted" and r["method"] == "elicitation/create" for r in all)
                and any(r["type"] == "call.completed" and r["method"] == "tools/call" for r in all)
            )
        )
    calls = {r["call_id"] for r in records if r["type"] == "call.admitted" and r["method"] == "tools/call"}
    questions = [r for r in records if r["type"] == "call.admitted" and r["method"] == "elicitation/create"]
    assert questions
    assert all(question["parent"] in calls for question in questions)
