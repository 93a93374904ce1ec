# SPDX-License-Identifier: MIT
"""The doors beside HTTP's `/mcp`: Hangar behind stdin and stdout, REST with the admin token, and refusals to start."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import anyio
import httpx

from tests.house import House, hangar_command, hangar_environment, write_config
from tests.journeys.wire import MODERN, Answer, Json

LINE = 256 * 1024 * 1024


class StdioWire:
    """`hangar serve --stdio` as an MCP client starts it. `said` is every line of its stdout, as it came."""

    def __init__(self, folder: Path, providers: dict[str, Any], **sections: Any) -> None:
        self.folder = folder
        self.config = write_config(folder, providers, f"house-{secrets.token_hex(8)}", **sections)
        self.said: list[bytes] = []
        self.last = 0

    async def __aenter__(self) -> Self:
        with (self.folder / "stdio.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *hangar_command(self.config, "--stdio"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=hangar_environment(),
                limit=LINE,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        with anyio.fail_after(90):
            self.said += [line async for line in self.process.stdout]
            assert await self.process.wait() == 0, (self.folder / "stdio.log").read_text()

    async def ask(self, method: str, params: Json | None = None) -> Answer:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.last += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "stdio", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": self.last, "method": method, "params": {**(params or {}), "_meta": meta}}
        self.process.stdin.write(json.dumps(body).encode() + b"\n")
        others: list[Json] = []
        with anyio.fail_after(90):
            while True:
                line = await self.process.stdout.readline()
                assert line, (self.folder / "stdio.log").read_text()
                self.said.append(line)
                message = json.loads(line)
                if message.get("id") == self.last and "method" not in message:
                    return Answer(200, message, others)
                others.append(message)

    async def call(self, tool: str, arguments: Json | None = None) -> Answer:
        return await self.ask("tools/call", {"name": tool, "arguments": arguments or {}})

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.ask("tools/list")).result["tools"]]


def rest(hangar: House) -> httpx.AsyncClient:
    token = (hangar.folder / "state/admin.token").read_text().strip()
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{hangar.port}/api/v1", headers={"authorization": f"Bearer {token}"}, timeout=60
    )


def refusal_to_start(folder: Path, providers: dict[str, Any], *arguments: str, **sections: Any) -> str:
    """What `hangar serve` says when it will not run with this; an assertion fails if it does run."""
    config = write_config(folder, providers, "refused", **sections)
    command = hangar_command(config, *arguments)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=hangar_environment(), cwd=folder
    )
    assert done.returncode not in (0, -9), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def until(true: Callable[[], bool], limit: float = 60.0) -> None:
    """Until something outside of the test has come true; bounded."""
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, "it never came true"
        await anyio.sleep(0.02)
