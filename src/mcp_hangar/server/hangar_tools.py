# SPDX-License-Identifier: MIT
"""Hangar's own tools, for agents: what is there, how it fares, many calls in one. They change nothing about Hangar,
unless `expose.hangar_tools: all` adds start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from mcp_hangar.application.batch import run_batch
from mcp_hangar.application.flight import Answer, Flight, Own
from mcp_hangar.application.instances import Instances
from mcp_hangar.application.listing import Client, Listing
from mcp_hangar.application.proxy import Proxy
from mcp_hangar.application.subscriptions import Ear
from mcp_hangar.domain.call import NO_CAPABILITIES, Call
from mcp_hangar.domain.errors import CallTimeout, HangarError, RequestError
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.catalogue import TOOLS
from mcp_hangar.domain.mcp.envelope import Json, Message, Raw
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.mcp.names import expose_name
from mcp_hangar.domain.mcp.request import Request
from mcp_hangar.server.errors import error_member, tool_refusal

AT_ONCE: Final = 8
_BATCH_SECONDS: Final = 300.0
_GRACE: Final = 5.0
_MOST_FOUND: Final = 200
_READ_ONLY: Final = {"readOnlyHint": True, "openWorldHint": False}


def _tool(
    name: str, title: str, description: str, schema: dict[str, Any], annotations: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": {"type": "object", "additionalProperties": False, **schema},
        "annotations": annotations,
    }


_PROVIDER: Final = {"type": "string", "description": "A provider's name, as hangar_tools shows it."}
DEFINITIONS: Final[dict[str, dict[str, Any]]] = {
    tool["name"]: tool
    for tool in (
        _tool(
            "hangar_tools",
            "Find tools",
            "Search the tools behind this gateway: provider, state, description and input schema.",
            {
                "properties": {
                    "query": {"type": "string", "description": "Words that the name or description must contain."},
                    "provider": _PROVIDER,
                    "schemas": {"type": "boolean", "default": True, "description": "Include input schemas."},
                }
            },
            _READ_ONLY,
        ),
        _tool(
            "hangar_invoke",
            "Call many tools",
            "Call one or many tools; results come in the order of the calls, and one failure fails one.",
            {
                "properties": {
                    "calls": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["tool"],
                            "properties": {
                                "tool": {"type": "string", "description": "The name, as listed here."},
                                "arguments": {"type": "object"},
                            },
                        },
                    },
                    "timeout": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": 300,
                        "description": "Seconds per call.",
                    },
                },
                "required": ["calls"],
            },
            {"readOnlyHint": False, "openWorldHint": True},
        ),
        _tool(
            "hangar_status",
            "Status",
            "The providers behind this gateway and how they fare.",
            {"properties": {}},
            _READ_ONLY,
        ),
        _tool(
            "hangar_health",
            "Health",
            "Whether this gateway and its providers can take calls.",
            {"properties": {}},
            _READ_ONLY,
        ),
        _tool(
            "hangar_start",
            "Start a provider",
            "Let a stopped provider be started again by the next call.",
            {"properties": {"provider": _PROVIDER}, "required": ["provider"]},
            {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True},
        ),
        _tool(
            "hangar_stop",
            "Stop a provider",
            "Finish a provider's calls, end its processes, and keep it stopped until it is started.",
            {"properties": {"provider": _PROVIDER}, "required": ["provider"]},
            {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True},
        ),
    )
}
_READ: Final = ("hangar_tools", "hangar_invoke", "hangar_status", "hangar_health")


def offered(setting: str) -> list[str]:
    """Which of them `expose.hangar_tools` offers."""
    return {"none": [], "read": list(_READ), "all": list(DEFINITIONS)}[setting]


class SilentChannel:
    """For calls inside a call: what is said on the way is not for the outer client."""

    ear: Ear | None = None

    async def notify(self, message: bytes) -> None:
        return None

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        raise RequestError("question_refused", method=method, detail="calls in a batch cannot ask")


class HangarTools:
    """`call_of` is the doors' way from a request to a call, so that names mean the same inside a batch."""

    def __init__(
        self,
        *,
        setting: str,
        batch: int,
        listing: Listing,
        instances: Instances,
        call_of: Callable[[Request, Client, str], Call],
        hold: Callable[[str, bool], Awaitable[None]],
        proxy: Callable[[], Proxy],
    ) -> None:
        self._batch, self._listing, self._instances = batch, listing, instances
        self._call_of, self._hold, self._proxy = call_of, hold, proxy
        handlers: dict[str, Own] = {
            "hangar_tools": self._tools,
            "hangar_invoke": self._invoke,
            "hangar_status": self._status,
            "hangar_health": self._health,
            "hangar_start": self._start,
            "hangar_stop": self._stop,
        }
        self.handlers = {name: handlers[name] for name in offered(setting)}

    async def _tools(self, call: Call, flight: Flight) -> Answer:
        arguments = _arguments(call)
        words = str(arguments.get("query", "")).lower().split()
        client = _client(call)
        providers = self._listing.visible(client)
        if "provider" in arguments:
            providers = [provider for provider in providers if provider.name == arguments["provider"]]
            if not providers:
                raise _unknown_provider(str(arguments["provider"]), self._listing.visible(client))
        offers, missing = await self._listing.offers(client, providers)
        states = self._states()
        found: list[dict[str, Any]] = []
        for provider in providers:
            offer = offers.get(provider.name)
            for name, item in offer.of(TOOLS).items() if offer is not None else ():
                if not self._listing.allowed(client, TOOLS, provider, name):
                    continue
                definition = envelope.decode(item.raw)
                text = f"{name} {definition.get('title', '')} {definition.get('description', '')}".lower()
                if not all(word in text for word in words):
                    continue
                row = {
                    "tool": expose_name(provider.name, name) if call.prefixed else name,
                    "provider": provider.name,
                    "state": states.get(provider.name, State.cold.value),
                    "description": definition.get("description", ""),
                }
                if arguments.get("schemas", True):
                    row["inputSchema"] = definition.get("inputSchema", {})
                found.append(row)
        return _structured(call, {"tools": found[:_MOST_FOUND], "total": len(found), "missing": list(missing)})

    async def _invoke(self, call: Call, flight: Flight) -> Answer:
        arguments = envelope.members(call.params.get("arguments", b"{}"), "arguments")
        raws = _list_of(arguments.get("calls"), call)
        if not raws or len(raws) > self._batch:
            raise RequestError(
                "invalid_params", method="hangar_invoke", detail=f"calls must have 1 to {self._batch} items"
            )
        seconds = envelope.decode(arguments["timeout"]) if "timeout" in arguments else _BATCH_SECONDS
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= _BATCH_SECONDS:
            raise RequestError(
                "invalid_params", method="hangar_invoke", detail="timeout must be over 0 and at most 300 seconds"
            )
        loop = asyncio.get_running_loop()
        client = _client(call)
        client.capabilities = NO_CAPABILITIES  # nobody could answer a question asked inside a batch

        async def one(raw: Raw) -> bytes:
            try:
                parts = envelope.members(raw, "a call")
                if set(parts) - {"tool", "arguments"}:
                    raise RequestError(
                        "invalid_params", method="hangar_invoke", detail="a call has tool and arguments only"
                    )
                params = {"name": parts.get("tool", Raw(b'""'))}
                if "arguments" in parts:
                    params["arguments"] = parts["arguments"]
                if envelope.text(params["name"]).startswith("hangar_"):
                    raise RequestError("unknown_tool", name=envelope.text(params["name"]))
                inner = self._call_of(
                    Request(b"", "tools/call", params, {}, envelope.text(params["name"])), client, call.trace
                )
                flight = Flight(inner, SilentChannel())
                timer = loop.call_later(seconds, flight.fail, CallTimeout("batch_timeout", seconds=seconds))
                try:
                    answer = await self._proxy().call(inner, flight)
                finally:
                    timer.cancel()
                if len(answer.error):
                    return b'{"call":%b,"error":%b}' % (envelope.encode(inner.id), answer.error)
                return b'{"call":%b,"result":%b}' % (envelope.encode(inner.id), answer.result)
            except HangarError as error:
                return _failure(error, call.era)

        def late(raw: Raw, error: CallTimeout) -> bytes:
            return _failure(error, call.era)

        # Each call's own timer ends it first, and its record says so.
        results = await run_batch(raws, one, at_once=AT_ONCE, seconds=seconds + _GRACE, late=late)
        structured = b'{"results":[%b]}' % b",".join(results)
        return Answer(_result(call.era, structured), b"", "ok")

    async def _status(self, call: Call, flight: Flight) -> Answer:
        rows = {row.provider: row for row in self._instances.snapshot()}
        providers = []
        for provider in self._listing.visible(_client(call)):
            row = rows.get(provider.name)
            providers.append(
                {
                    "provider": provider.name,
                    "mode": provider.mode.value,
                    "state": row.state.value if row else State.cold.value,
                    "stopped": row.held if row else self._instances.held(provider.name),
                    "instances": len(row.instances) if row else 0,
                    "calls_in_flight": row.in_flight if row else 0,
                    "last_error": row.last_error if row else "",
                    "unenforced": list(provider.unenforced),
                }
            )
        return _structured(call, {"providers": providers})

    async def _health(self, call: Call, flight: Flight) -> Answer:
        states = self._states()
        sick = sorted(name for name, state in states.items() if state in (State.dead.value, State.degraded.value))
        return _structured(call, {"healthy": not sick, "unhealthy_providers": sick})

    async def _start(self, call: Call, flight: Flight) -> Answer:
        return await self._held(call, False)

    async def _stop(self, call: Call, flight: Flight) -> Answer:
        return await self._held(call, True)

    async def _held(self, call: Call, held: bool) -> Answer:
        name = str(_arguments(call).get("provider", ""))
        visible = self._listing.visible(_client(call))
        if name not in {provider.name for provider in visible}:
            raise _unknown_provider(name, visible)
        await self._hold(name, held)
        return _structured(call, {"provider": name, "stopped": held})

    def _states(self) -> dict[str, str]:
        return {row.provider: row.state.value for row in self._instances.snapshot()}


def _client(call: Call) -> Client:
    return Client(
        era=call.era,
        caller=call.caller,
        session=call.session,
        capabilities=call.capabilities,
        conversation=call.conversation,
        scope="",
        prefixed=call.prefixed,
        version="",
        client=call.client,
        client_info=call.client_info,
    )


def _arguments(call: Call) -> dict[str, Any]:
    value = envelope.read_strictly(call.params.get("arguments", b"{}"), "arguments")
    allowed = DEFINITIONS[call.name]["inputSchema"]["properties"]
    if not isinstance(value, dict) or set(value) - set(allowed):
        names = ", ".join(allowed) or "none"
        raise RequestError("invalid_params", method=call.name, detail=f"its arguments are: {names}")
    return value


def _list_of(raw: Json | None, call: Call) -> list[Raw]:
    try:
        return msgspec.json.decode(raw or b"null", type=list[Raw])
    except msgspec.DecodeError:
        raise RequestError("invalid_params", method=call.name, detail="calls must be an array") from None


def _unknown_provider(name: str, visible: list[Any]) -> RequestError:
    return RequestError("unknown_provider", name=name, known=", ".join(provider.name for provider in visible))


def _failure(error: HangarError, era: Era) -> bytes:
    refusal = tool_refusal(error, era)
    if refusal is not None:
        return b'{"result":%b}' % refusal
    return b'{"error":%b}' % error_member(error, era)


def _structured(call: Call, value: dict[str, Any]) -> Answer:
    return Answer(_result(call.era, envelope.encode(value)), b"", "ok")


def _result(era: Era, structured: bytes) -> bytes:
    head = b'"resultType":"complete",' if era is Era.modern else b""
    text = envelope.encode([{"type": "text", "text": structured.decode()}])
    return b'{%b"content":%b,"structuredContent":%b}' % (head, text, structured)
