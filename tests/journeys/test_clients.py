# SPDX-License-Identifier: MIT
"""Clients that none of us wrote: the Python SDK over stdio, and Inspector's command line (the TypeScript SDK)."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.conftest import Node, RealServers
from tests.house import hangar_command, hangar_environment, house, subprocess_provider, write_config
from tests.journeys.conftest import shell
from tests.processes import wait_until_gone

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_the_sdk_speaks_through_hangars_stdio(real_servers: RealServers, tmp_path: Path, mode: str) -> None:
    mark = f"house-{secrets.token_hex(8)}"
    providers = {"time": subprocess_provider([real_servers.time])}
    config = write_config(tmp_path, providers, mark)
    program, *arguments = hangar_command(config, "--stdio")
    server = StdioServerParameters(command=program, args=arguments, env=hangar_environment())
    async with Client(server, mode=mode) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("time__get_current_time", {"timezone": "UTC"})
    assert "time__convert_time" in listed
    assert not result.is_error
    assert wait_until_gone(mark) == []


@pytest.mark.node
@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
async def test_inspectors_command_line_lists_and_calls(
    node: Node, real_servers: RealServers, tmp_path: Path, era: str
) -> None:
    with house(tmp_path, {"time": subprocess_provider([real_servers.time])}) as hangar:
        inspector = [*node.package("mcp-inspector"), "--cli", hangar.url, "--transport", "http", "--format", "json"]
        env = hangar_environment(HOME=str(tmp_path))
        listed = shell([*inspector, "--protocol-era", era, "--method", "tools/list"], env=env, cwd=tmp_path)
        assert listed.returncode == 0, listed.stdout + listed.stderr
        assert {"time__get_current_time", "time__convert_time"} <= {
            tool["name"] for tool in found(listed.stdout, "tools")
        }
        asked = ["--method", "tools/call", "--tool-name", "time__get_current_time", "--tool-arg", "timezone=UTC"]
        called = shell([*inspector, "--protocol-era", era, *asked], env=env, cwd=tmp_path)
        assert called.returncode == 0, called.stdout + called.stderr
        assert "UTC" in found(called.stdout, "content")[0]["text"]


def found(output: str, key: str) -> list[dict[str, str]]:
    """The list under `key` in Inspector's JSON, with or without an envelope around the result."""
    told = json.loads(output)
    inner = told if key in told else told.get("result", {})
    listed: list[dict[str, str]] = inner[key]
    return listed
