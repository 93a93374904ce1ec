# SPDX-License-Identifier: MIT
"""The two wires, written out by hand: what the SDK's client hides (ids, tokens, streams, leaving) is visible here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
PATIENCE = httpx.Timeout(90.0)

Json = dict[str, Any]


async def messages(response: httpx.Response) -> AsyncIterator[Json]:
    """The JSON-RPC messages of a response, be it JSON or an event stream. Keep hold of it: dropping it closes both."""
    if "text/event-stream" not in response.headers.get("content-type", ""):
        body = await response.aread()
        if body:
            yield json.loads(body)
        return
    data = ""
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            data += line[5:].lstrip()
        elif not line and data:
            yield json.loads(data)
            data = ""


@dataclass
class Answer:
    status: int
    message: Json
    """The message with our id; empty if there was none."""
    others: list[Json]

    @property
    def result(self) -> Json:
        assert "result" in self.message, self
        result: Json = self.message["result"]
        return result

    @property
    def text(self) -> str:
        return "".join(block.get("text", "") for block in self.result["content"])


class Wire:
    """One client: its own connections, its own ids."""

    def __init__(self, url: str, *, name: str = "wire", headers: dict[str, str] | None = None) -> None:
        self.url = url
        self.name = name
        self.http = httpx.AsyncClient(timeout=PATIENCE, headers=headers, limits=httpx.Limits(max_connections=None))
        self.last = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    def new_id(self) -> int:
        self.last += 1
        return self.last

    def _head(self, method: str, params: Json) -> dict[str, str]:
        raise NotImplementedError

    def _dress(self, params: Json) -> Json:
        return params

    def raw(self, method: str, params: Json, id: int) -> bytes:
        """The request as bytes for a connection of one's own, where a thousand clients would be too many."""
        dressed = self._dress(dict(params))
        body = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": dressed}).encode()
        head = {
            "host": "127.0.0.1",
            "connection": "close",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self._head(method, dressed),
        }
        lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        return "\r\n".join(lines).encode() + body

    @asynccontextmanager
    async def open(
        self, method: str, params: Json | None = None, *, id: int | str | None = None
    ) -> AsyncIterator[tuple[int | str, httpx.Response]]:
        number = self.new_id() if id is None else id
        dressed = self._dress(dict(params or {}))
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": dressed}
        async with self.http.stream("POST", self.url, json=body, headers=self._head(method, dressed)) as response:
            yield number, response

    async def ask(self, method: str, params: Json | None = None, *, id: int | str | None = None) -> Answer:
        others: list[Json] = []
        async with self.open(method, params, id=id) as (number, response):
            async for message in messages(response):
                if "method" in message or message.get("id") not in (number, None):
                    others.append(message)
                else:
                    return Answer(response.status_code, message, others)
            return Answer(response.status_code, {}, others)

    async def call(
        self, tool: str, arguments: Json | None = None, *, id: int | str | None = None, **more: Any
    ) -> Answer:
        return await self.ask("tools/call", {"name": tool, "arguments": arguments or {}, **more}, id=id)

    async def bytes_of(self, tool: str, arguments: bytes) -> bytes:
        """The answer to a call whose arguments are these bytes, as bytes."""
        params = self._dress({"name": tool, "arguments": "HERE"})
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()
        head = {**self._head("tools/call", params), "content-type": "application/json"}
        return (await self.http.post(self.url, content=body.replace(b'"HERE"', arguments), headers=head)).content

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.ask("tools/list")).result["tools"]]


class ModernWire(Wire):
    def __init__(self, url: str, *, capabilities: Json | None = None, **more: Any) -> None:
        super().__init__(url, **more)
        self.capabilities = capabilities or {}

    def _dress(self, params: Json) -> Json:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            "io.modelcontextprotocol/clientInfo": {"name": self.name, "version": "1"},
        }
        return {**params, "_meta": {**meta, **params.get("_meta", {})}}

    def _head(self, method: str, params: Json) -> dict[str, str]:
        named = params.get("name") or params.get("uri") or params.get("taskId")
        return {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": method,
            **({"mcp-name": named} if named else {}),
        }


class LegacyWire(Wire):
    def __init__(self, url: str, *, capabilities: Json | None = None, **more: Any) -> None:
        super().__init__(url, **more)
        self.capabilities = capabilities or {}
        self.session = ""

    async def __aenter__(self) -> Self:
        hello = {
            "protocolVersion": LEGACY,
            "capabilities": self.capabilities,
            "clientInfo": {"name": self.name, "version": "1"},
        }
        async with self.open("initialize", hello) as (_, response):
            assert response.status_code == 200, await response.aread()
            self.session = response.headers.get("mcp-session-id", "")
            async for _message in messages(response):
                break
        await self.tell("notifications/initialized")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.session:
            await self.http.delete(self.url, headers=self._head("", {}))
        await super().__aexit__()

    async def tell(self, method: str, params: Json | None = None) -> int:
        body = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        return (await self.http.post(self.url, json=body, headers=self._head(method, {}))).status_code

    def _head(self, method: str, params: Json) -> dict[str, str]:
        head = {"accept": "application/json, text/event-stream"}
        if self.session:
            head |= {"mcp-session-id": self.session, "mcp-protocol-version": LEGACY}
        return head


def client(era: str, url: str, **more: Any) -> ModernWire | LegacyWire:
    return ModernWire(url, **more) if era == "modern" else LegacyWire(url, **more)
