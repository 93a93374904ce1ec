# SPDX-License-Identifier: MIT
"""Between the eras: what a client said, as its provider must hear it, and what came back, as the client must read it.

Pure, bytes to bytes. Only what Hangar owns is rewritten (names, URIs, tokens, the protocol's own `_meta`); all else is
spliced as it came. Where client and provider share an era and the door does not prefix, a result passes untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from mcp_hangar.domain.call import NO_CAPABILITIES, Call, Capabilities
from mcp_hangar.domain.errors import ProtocolError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Members, Raw
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    HANGAR_PREFIX,
    LOG_LEVELS,
    MODERN_VERSION,
    NAME_PARAM,
    OWNED,
    PROTOCOL_VERSION,
    SERVER_INFO,
    Era,
)
from mcp_hangar.domain.mcp.headers import encode_value
from mcp_hangar.domain.mcp.names import expose_uri
from mcp_hangar.domain.mcp.tasks import EXTENSION as TASKS
from mcp_hangar.domain.mcp.tasks import RELATED

QUESTIONS: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""What a server may ask of a client, and the capability that allows it."""

_MODERN_ONLY: Final = frozenset({"_meta", "requestState", "inputResponses"})
_LEGACY_ONLY: Final = frozenset({"_meta", "task"})
_CARRIED: Final = ("elicitation", "sampling", "roots")
_CARRIED_EXTENSIONS: Final = ("io.modelcontextprotocol/ui", TASKS)
_MODERN_META: Final = f'"{PROTOCOL_VERSION}":"{MODERN_VERSION}","{CLIENT_CAPABILITIES}":%b,"{CLIENT_INFO}":%b'.encode()
_DEFAULT_LEVEL: Final = "info"
"""What a legacy client hears that set no level: in that era the server decides, in the modern one silence would."""
_HANGAR: Final = HANGAR_PREFIX.rstrip("/").encode()
_SPELLED_OUT: Final = re.compile(rb"\\u00[2-7]")
"""ASCII written as an escape: what would be rewritten might hide in it."""
_LONGEST_REMEMBERED: Final = 1_024
"""Characters: what clients and providers repeat is short."""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_./:-]+\Z")
INPUT_METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Modern methods that may answer `input_required`."""


class Peek(msgspec.Struct):
    """The two members of a result that decide what it is."""

    isError: bool = False
    resultType: str = "complete"


_peek = msgspec.json.Decoder(Peek)


def carried(raw: Json, legacy: bool) -> Capabilities:
    """What of a client's declared capabilities Hangar can carry to a provider, in canonical form."""
    try:
        declared = envelope.decode(raw)
    except envelope.UNREADABLE:
        return NO_CAPABILITIES
    if not isinstance(declared, dict):
        return NO_CAPABILITIES
    kept: dict[str, Any] = {name: declared[name] for name in _CARRIED if isinstance(declared.get(name), dict)}
    extensions = declared.get("extensions")
    if isinstance(extensions, dict):
        known = {
            name: extensions[name]
            for name in _CARRIED_EXTENSIONS
            if name in extensions and not (legacy and name == TASKS)
        }
        if known:
            kept["extensions"] = known
    return Capabilities(key=json.dumps(kept, sort_keys=True, separators=(",", ":")))


@lru_cache(maxsize=1024)
def _presented(capabilities: str, info: bytes) -> bytes:
    """The members of `_meta` by which a modern provider is told who asks. The same for all calls of a client."""
    return _MODERN_META % (capabilities.encode(), info)


@lru_cache(maxsize=1024)
def _mirrored(method: str, name: str) -> bytes:
    """The header lines that mirror a modern request's body."""
    lines = b"Mcp-Method: %b\r\n" % method.encode()
    if method in NAME_PARAM:
        lines += b"Mcp-Name: %b\r\n" % (name if _PLAIN_NAME.match(name) else encode_value(name)).encode("ascii")
    return lines


def request_out(call: Call, era: Era, number: int) -> tuple[bytes, bytes]:
    """The request for the provider, and the header lines that mirror it (modern only).

    `number` is the message's id, and our progress token where the client sent one of its own.
    """
    meta: list[bytes] = []
    lines = b""
    if era is Era.modern:
        key, info, name = call.capabilities.key, bytes(call.client_info), call.name
        if len(key) + len(info) + len(name) <= _LONGEST_REMEMBERED:
            meta.append(_presented(key, info))
            lines = _mirrored(call.method, name)
        else:
            meta.append(_presented.__wrapped__(key, info))
            lines = _mirrored.__wrapped__(call.method, name)
        level = call.log_level or (_DEFAULT_LEVEL if call.era is Era.legacy else "")
        if level:
            meta.append(b'"io.modelcontextprotocol/logLevel":%b' % envelope.encode(level))
    for key, value in call.meta.items():
        if key == "progressToken":
            meta.append(b'"progressToken":%d' % number)
        elif key != "traceparent" and (not key.startswith(OWNED) or (key == RELATED and era is call.era)):
            meta.append(b"%b:%b" % (envelope.encode(key), value))
    if call.trace:
        trace = call.trace.encode()
        meta.append(b'"traceparent":"%b"' % trace)
        lines += b"traceparent: %b\r\n" % trace
    skipped = _LEGACY_ONLY if era is Era.modern else _MODERN_ONLY
    # One join of all pieces: arguments may be long, and each step by itself would copy them.
    pieces: list[Json] = [b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":{' % (number, call.method.encode())]
    for key, value in call.params.items():
        if key not in skipped:
            pieces += (envelope.encode(key), b":", value, b",")
    if meta:
        pieces.append(b'"_meta":{%b}}}' % b",".join(meta))
    elif len(pieces) > 1:
        pieces[-1] = b"}}"
    else:
        pieces.append(b"}}")
    return b"".join(pieces), lines


def result_back(call: Call, upstream: Era, result: Json, info: dict[str, Any]) -> tuple[Json, str, bool]:
    """The result for the client, how the call ended (`ok`, `tool_error`, `input_required`, `task`), and whether it
    needs a closer look (it hands out resources, or asks for input).

    It passes untouched where client and provider share an era and nothing in it is exposed under another name.
    """
    try:
        seen = _peek.decode(result)
    except envelope.UNREADABLE as error:
        raise ProtocolError(
            "provider_protocol", provider=call.provider, detail=f"The result is not valid: {error}."
        ) from None
    outcome = "tool_error" if seen.isError else "ok"
    text = bytes(result)
    if seen.resultType != "complete":
        outcome = seen.resultType
        known = outcome == "input_required" and call.method in INPUT_METHODS
        if not known and not (outcome == "task" and call.capabilities.extends(TASKS)):
            raise ProtocolError(
                "provider_protocol",
                provider=call.provider,
                detail=f"It answered with resultType {outcome!r}, which this client did not ask for.",
            )
    # Each look at a long text costs, so what needs no look goes first. The blocks of a tool's result that have a URI
    # are of a type whose name begins with `resource`.
    linked = b'"resource' in text
    of_task = "task" in call.params or call.method.startswith("tasks/")
    special = linked or (outcome != "ok" and outcome != "tool_error") or (of_task and b'"taskId"' in text)
    named = call.prefixed and (linked or call.method != "tools/call") and b'"uri"' in text
    if (
        upstream is call.era
        and not named
        and _HANGAR not in text
        and not (b"\\u00" in text and _SPELLED_OUT.search(text))
    ):
        return result, outcome, special
    return _reshaped(call, upstream, result, info), outcome, special


def _reshaped(call: Call, upstream: Era, result: Json, info: dict[str, Any]) -> bytes:
    try:
        parts: dict[str, Json] = dict(envelope.members(result, "the result"))
        if call.prefixed:
            _expose_uris(call.provider, parts)
            if call.method == "tasks/get" and "result" in parts:
                inner: dict[str, Json] = dict(envelope.members(parts["result"], "the task's result"))
                _expose_uris(call.provider, inner)
                parts["result"] = envelope.join(inner.items())
        meta: dict[str, Json] = dict(_object(parts.get("_meta", b"")) or {})
    except RequestError as error:
        raise ProtocolError("provider_protocol", provider=call.provider, detail=error.what) from None
    ours = [key for key in meta if key.startswith(HANGAR_PREFIX)]
    for key in ours:
        del meta[key]
    if upstream is call.era:
        if ours:
            parts["_meta"] = envelope.join(meta.items())
        return envelope.join(parts.items())
    if call.era is Era.modern:
        parts = {"resultType": b'"complete"', **parts}
        if call.method == "resources/read":
            parts.setdefault("ttlMs", b"0")
            parts.setdefault("cacheScope", b'"private"')
        meta.setdefault(SERVER_INFO, envelope.encode(info))
    else:
        for key in ("resultType", "ttlMs", "cacheScope"):
            parts.pop(key, None)
        meta = {key: value for key, value in meta.items() if not key.startswith(OWNED)}
        structured = bytes(parts.get("structuredContent", b"{"))
        if call.method == "tools/call" and not structured.startswith(b"{"):
            del parts["structuredContent"]  # 2025-11-25 knows objects only; the text content carries the value
    parts.pop("_meta", None)
    if meta:
        parts["_meta"] = envelope.join(meta.items())
    return envelope.join(parts.items())


def _expose_uris(provider: str, parts: dict[str, Json]) -> None:
    if "content" in parts:
        parts["content"] = _each(parts["content"], lambda block: _expose_block(provider, block))
    if "contents" in parts:
        parts["contents"] = _each(parts["contents"], lambda item: _expose_member(provider, item))
    if "messages" in parts:
        parts["messages"] = _each(parts["messages"], lambda message: _expose_message(provider, message))


def _each(raw: Json, change: Callable[[Raw], Json]) -> bytes:
    try:
        items = msgspec.json.decode(raw, type=list[Raw])
    except envelope.UNREADABLE:
        return bytes(raw)
    return b"[" + b",".join([change(item) for item in items]) + b"]"


def _object(raw: Json) -> Members | None:
    """The members of what may be no object at all. A repeated key is refused: it might name two resources."""
    return envelope.members(raw, "the result") if bytes(raw).startswith(b"{") else None


def _expose_member(provider: str, raw: Json) -> Json:
    parts = _object(raw)
    if parts is None or not bytes(parts.get("uri", b"")).startswith(b'"'):
        return raw
    uri = envelope.encode(expose_uri(provider, envelope.text(parts["uri"])))
    return envelope.join([(key, uri if key == "uri" else value) for key, value in parts.items()])


def _expose_block(provider: str, raw: Json) -> Json:
    parts = _object(raw)
    if parts is None:
        return raw
    kind = envelope.text(parts.get("type"))
    if kind == "resource_link":
        return _expose_member(provider, raw)
    if kind == "resource" and "resource" in parts:
        inner = _expose_member(provider, parts["resource"])
        return envelope.join([(key, inner if key == "resource" else value) for key, value in parts.items()])
    return raw


def _expose_message(provider: str, raw: Json) -> Json:
    parts = _object(raw)
    if parts is None or "content" not in parts:
        return raw
    content: Json = parts["content"]
    if bytes(content)[:1] == b"[":
        content = _each(content, lambda block: _expose_block(provider, block))
    else:
        content = _expose_block(provider, content)
    return envelope.join([(key, content if key == "content" else value) for key, value in parts.items()])


def linked_uris(result: Json) -> list[str]:
    """URIs of resource links and embedded resources in a result: the provider has handed them out."""
    found: list[str] = []
    if b'"resource' not in bytes(result):
        return found
    try:
        value = envelope.decode(result)
    except envelope.UNREADABLE:
        return found
    stack: list[Any] = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("type") == "resource_link" and isinstance(node.get("uri"), str):
                found.append(node["uri"])
            elif node.get("type") == "resource" and isinstance(node.get("resource"), dict):
                uri = node["resource"].get("uri")
                if isinstance(uri, str):
                    found.append(uri)
            else:
                stack.extend((node.get("content"), node.get("messages"), node.get("result")))
        elif isinstance(node, list):
            stack.extend(node)
    return found


def error_back(call: Call, error: Json) -> bytes:
    """An upstream JSON-RPC error for the client: resource-not-found has another code in each era."""
    try:
        parts: dict[str, Json] = dict(envelope.members(error, "the error"))
    except RequestError as unreadable:
        raise ProtocolError("provider_protocol", provider=call.provider, detail=unreadable.what) from None
    code = bytes(parts.get("code", b""))
    if call.method == "resources/read" and call.era is Era.modern and code == b"-32002":
        parts["code"] = b"-32602"
    return envelope.join(parts.items())


def error_code(error: Json) -> int:
    try:
        value = msgspec.json.decode(error, type=dict[str, Any]).get("code")
    except envelope.UNREADABLE:
        return 0
    return value if isinstance(value, int) else 0


def progress_back(call: Call, params: Json) -> bytes | None:
    """A progress notification with the client's own token; None if it sent none."""
    token = call.meta.get("progressToken")
    if token is None:
        return None
    parts = envelope.members(params)
    return envelope.notification(
        "notifications/progress",
        envelope.join([(key, token if key == "progressToken" else value) for key, value in parts.items()]),
    )


def log_passes(params: Json, wanted: str) -> bool:
    """Whether a log message is at or above the wanted level; an unknown level passes."""
    level = envelope.text(envelope.members(params).get("level"))
    if level not in LOG_LEVELS or wanted not in LOG_LEVELS:
        return True
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted)
