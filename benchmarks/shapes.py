# SPDX-License-Identifier: MIT
"""What is measured: the shapes of a call, and the bytes of each as they go to a target's door. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final, Literal

MODERN_VERSION: Final = "2026-07-28"
LEGACY_VERSION: Final = "2025-11-25"
FIRST_ID: Final = 1_000_000
"""Ids keep seven digits, so that requests keep their length."""
SMALL: Final = 227
LARGE: Final = 76 * 1024
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENTENCE: Final = "It is what it was. "
"""What the upstream's answers consist of."""
PROOF: Final = SENTENCE.strip().encode()
"""An answer that carries this came from the upstream, and not from whom it passed."""

Era = Literal["modern", "legacy"]
Answer = Literal["json", "sse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of call. `request_bytes` is the length of its JSON, whatever the tool is called at the door."""

    era: Era = "modern"
    answer: Answer = "json"
    request_bytes: int = SMALL
    answer_bytes: int = 226
    in_flight: int = 1
    blanks: bool = True
    """Whether the argument has a blank now and then, as prose has."""
    stdio: bool = False
    """Whether the provider speaks over stdio."""
    traced: bool = False
    """Whether the client sends a `traceparent` header."""

    @property
    def name(self) -> str:
        wire = "stdio" if self.stdio else self.answer
        size = f"{self.request_bytes} B" if self.request_bytes < 1024 else f"{self.request_bytes // 1024} KiB"
        how = f"{size}{'' if self.blanks else ' no blanks'}, {wire}{', traced' if self.traced else ''}"
        return f"{self.era}, {how}, {self.in_flight} in flight"

    def at(self, in_flight: int) -> Shape:
        return replace(self, in_flight=in_flight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where and how a target is called."""

    port: int
    path: str = "/mcp"
    tool: str = "echo"
    token: str = ""
    arguments: str = '{"text":"%s"}'
    """JSON, with the text to be filled in."""


def arguments_text(length: int, blanks: bool) -> str:
    word = "provider " if blanks else "provider-"
    return (word * (length // len(word) + 1))[:length]


def call_body(shape: Shape, door: Door) -> tuple[bytes, bytes]:
    """What stands before the id, and what after it."""
    meta = ""
    if shape.era == "modern":
        meta = (
            f',"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN_VERSION}",'
            '"io.modelcontextprotocol/clientCapabilities":{}}'
        )
    before = '{"jsonrpc":"2.0","id":'
    after = f',"method":"tools/call","params":{{"name":"{door.tool}","arguments":{door.arguments}{meta}}}}}'
    spare = max(shape.request_bytes - len(before) - len(str(FIRST_ID)) - len(after % ""), 0)
    return before.encode(), (after % arguments_text(spare, shape.blanks)).encode()


def head(door: Door, lines: dict[str, str], length: int) -> bytes:
    """The head of a request to this door, as an ordinary client writes it."""
    sent = {
        "Host": f"127.0.0.1:{door.port}",
        "User-Agent": "benchmark",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {door.token}"} if door.token else {}),
        **lines,
        "Content-Length": str(length),
    }
    written = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {door.path} HTTP/1.1\r\n{written}\r\n".encode()


def era_lines(era: Era, method: str, name: str = "", session: str = "") -> dict[str, str]:
    """The header lines that the era asks for."""
    if era == "legacy":
        lines = {"MCP-Protocol-Version": LEGACY_VERSION} if session or method != "initialize" else {}
        return {**lines, **({"Mcp-Session-Id": session} if session else {})}
    named = {"Mcp-Name": name} if name else {}
    return {"MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": method, **named}


def call_bytes(shape: Shape, door: Door, session: str) -> tuple[bytes, bytes]:
    """A whole request: what stands before the id, and what after it."""
    before, after = call_body(shape, door)
    length = len(before) + len(str(FIRST_ID)) + len(after)
    lines = era_lines(shape.era, "tools/call", door.tool, session)
    if shape.traced:
        lines["traceparent"] = TRACE
    return head(door, lines, length) + before, after


def initialize_body() -> bytes:
    return json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": LEGACY_VERSION,
                "capabilities": {},
                "clientInfo": {"name": "benchmark", "version": "1"},
            },
        }
    ).encode()


INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
