# SPDX-License-Identifier: MIT
"""What each MCP method means here: which become a `Call`, and what Hangar answers itself. The same for every wire."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import structlog

from mcp_hangar import __version__
from mcp_hangar.application.flight import Answer, Channel, Flight
from mcp_hangar.application.ids import RUN, calls
from mcp_hangar.application.instances import Instance, InstanceKey, Instances
from mcp_hangar.application.listing import Client, Listing, Page, Place
from mcp_hangar.application.proxy import Proxy
from mcp_hangar.application.seal import Seal
from mcp_hangar.application.sessions import ClientSession, EventStream, Sessions
from mcp_hangar.application.subscriptions import MOST_RESOURCES, Ear, Subscriptions
from mcp_hangar.domain.call import NO_CAPABILITIES, Call, Caller, Capabilities, Session
from mcp_hangar.domain.errors import HangarError, RequestError
from mcp_hangar.domain.mcp import bridge, envelope
from mcp_hangar.domain.mcp.catalogue import KINDS, TOOLS, Kind
from mcp_hangar.domain.mcp.envelope import Json, Message, Raw
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    HANGAR_SESSION,
    LEGACY_VERSIONS,
    LOG_LEVEL,
    LOG_LEVELS,
    MODERN_VERSION,
    MODERN_VERSIONS,
    NEWEST_LEGACY,
    SERVER_INFO,
    Era,
)
from mcp_hangar.domain.mcp.names import LONGEST, split_name, split_uri
from mcp_hangar.domain.mcp.request import Request
from mcp_hangar.domain.mcp.tasks import ALL_METHODS, METHODS
from mcp_hangar.domain.mcp.tasks import EXTENSION as TASKS
from mcp_hangar.server.asking import StandaloneChannel

_CALLS: Final = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
MODERN_CALLS: Final = _CALLS | METHODS[Era.modern]
LEGACY_CALLS: Final = _CALLS | METHODS[Era.legacy] | {"resources/subscribe", "resources/unsubscribe"}
_LEGACY_ONLY: Final = frozenset(
    {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
)
_MODERN_ONLY: Final = frozenset({"server/discover", "subscriptions/listen"})
_ALL_CAPABILITIES: Final[dict[str, Any]] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}
_TASKS: Final[dict[Era, dict[str, Any]]] = {
    Era.legacy: {"tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}},
    Era.modern: {"extensions": {TASKS: {}}},
}
_LIST_TTL_MS: Final = 5_000
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
HANGAR: Final = "hangar"
_NO_INFO: Final = Raw(b"{}")
_MOST_REMEMBERED: Final = 1_000
_LONGEST_REMEMBERED: Final = 2_048
"""Bytes."""


log = structlog.get_logger(__name__)

T = TypeVar("T")


class Methods:
    def __init__(
        self,
        *,
        proxy: Proxy,
        listing: Listing,
        sessions: Sessions,
        subscriptions: Subscriptions,
        instances: Instances,
        seal: Seal,
        prefixed: bool,
        start_timeout: float,
    ) -> None:
        self.proxy, self.listing, self.sessions, self.subscriptions = proxy, listing, sessions, subscriptions
        self._instances, self._seal, self._prefixed, self._timeout = instances, seal, prefixed, start_timeout
        self._ears: dict[str, Ear] = {}
        self.streams: set[EventStream] = set()
        """Open streams of modern subscriptions, to be ended gracefully."""
        self._places: dict[tuple[str, str, str], tuple[str, str, Raw]] = {}
        self._names: dict[bytes, str] = {}
        self._carried: dict[bytes, Capabilities] = {}

    # -- calls

    def call_of(self, request: Request, client: Client, traceparent: str) -> Call:
        """The call that a request is. Names come in as the door shows them and go on as the provider knows them."""
        method, params, task = request.method, request.params, ""
        if method == "tools/call" or method == "prompts/get":
            shown = request.name
            known = self._places.get((client.scope, method, shown))
            provider, name, spelled = known or self._named(client, shown, method)
            params["name"] = spelled
        elif method in ALL_METHODS:
            provider, name, shown, task = self._followed(request, client)
        elif method == "completion/complete":
            provider, name, shown = self._completed(client, params)
        else:
            shown = envelope.text(params.get("uri"))
            provider, name = (client.scope, shown) if client.scope or not client.prefixed else split_uri(shown)
            if name != shown:
                params["uri"] = Raw(envelope.encode(name))
        if not shown:
            raise RequestError("invalid_params", method=method, detail="it does not name what it is about")
        if not provider:
            provider = self._only() if not client.prefixed else ""
        meta = {} if request.usual else request.meta  # the usual ones are Hangar's to say anew
        trace = envelope.text(meta["traceparent"]) if "traceparent" in meta else traceparent
        if trace and _TRACEPARENT.match(trace):
            trace = f"{trace[:36]}{random.getrandbits(64):016x}{trace[52:]}"
        else:
            drawn = f"{random.getrandbits(192):048x}"
            trace = f"00-{drawn[:32]}-{drawn[32:]}-00"
        return Call(
            id=f"{RUN}-{next(calls):x}",
            method=method,
            provider=provider,
            name=name,
            shown=shown,
            caller=client.caller,
            session=client.session,
            era=client.era,
            capabilities=client.capabilities,
            params=params,
            meta=meta,
            task=task,
            conversation=client.conversation,
            trace=trace,
            client=client.client,
            client_info=client.client_info,
            log_level=client.log_level,
            prefixed=client.prefixed,
        )

    def _only(self) -> str:
        return next((name for name in self.proxy.fleet.providers if name != HANGAR), "")

    def _named(self, client: Client, shown: str, method: str) -> tuple[str, str, Raw]:
        """(provider, plain name, its JSON); remembered where it follows from the name alone."""
        provider, name = self._find(client, shown, method)
        found = provider, name, Raw(envelope.encode(name))
        if len(shown) < LONGEST:
            if len(self._places) >= _MOST_REMEMBERED:
                self._places.clear()
            self._places[client.scope, method, shown] = found
        return found

    def _find(self, client: Client, shown: str, method: str) -> tuple[str, str]:
        if client.scope:
            return client.scope, shown
        if shown.startswith("hangar_") and method == "tools/call":
            return HANGAR, shown
        if not client.prefixed:
            return self._only(), shown
        provider, name = split_name(shown)
        if len(shown) == LONGEST and provider in self.proxy.fleet.providers:
            offer = self.listing.known(client, provider)
            if offer is not None:
                name = offer.plain(provider, TOOLS if method == "tools/call" else KINDS["prompts/list"], name)
        return provider, name

    def _followed(self, request: Request, client: Client) -> tuple[str, str, str, str]:
        """What follows up on a task: provider, task, the client's name for it, and the tool that began it. It goes to
        the provider that has the task, and only for the caller that began it."""
        if client.era is Era.modern and not client.capabilities.extends(TASKS):
            raise RequestError(
                "capability_required",
                detail=f"the extension {TASKS}",
                requiredCapabilities={"extensions": {TASKS: {}}},
            )
        shown = envelope.text(request.params.get("taskId"))
        opened = self._seal.open("task", client.caller.id, shown)
        if opened is None or (client.scope and client.scope != opened[0]):
            raise RequestError("unknown_task")
        provider, id, tool = opened
        request.params["taskId"] = Raw(envelope.encode(id))
        return provider, id, shown, tool

    def _completed(self, client: Client, params: dict[str, Raw]) -> tuple[str, str, str]:
        ref: dict[str, Json] = dict(envelope.members(params.get("ref", b"{}"), "ref"))
        key = "uri" if envelope.text(ref.get("type")) == "ref/resource" else "name"
        shown = envelope.text(ref.get(key))
        if client.scope or not client.prefixed:
            return client.scope, shown, shown
        provider, name = split_uri(shown) if key == "uri" else self._find(client, shown, "prompts/get")
        ref[key] = envelope.encode(name)
        params["ref"] = Raw(envelope.join(ref.items()))
        return provider, name, shown

    # -- what Hangar answers

    async def answer(self, request: Request, client: Client, session: ClientSession | None) -> bytes:
        """The result of a method that is no call. Raises `RequestError("method_not_found")` for the unknown."""
        method = request.method
        modern = client.era is Era.modern
        if method in KINDS:
            return await self._list(request, client, KINDS[method])
        if modern and method == "server/discover":
            return await self._discover(client)
        if not modern and method == "ping":
            return b"{}"
        if session is not None and method == "logging/setLevel":
            level = envelope.text(request.params.get("level"))
            if level not in LOG_LEVELS:
                raise RequestError(
                    "invalid_params", method=method, detail=f"level must be one of {', '.join(LOG_LEVELS)}"
                )
            session.log_level = level
            return b"{}"
        raise RequestError("method_not_found", method=method)

    async def _list(self, request: Request, client: Client, kind: Kind) -> bytes:
        start: Place | None = None
        if "cursor" in request.params:
            opened = self._seal.open("cursor", client.caller.id, envelope.text(request.params["cursor"]))
            if opened is None or opened[0] != kind.method:
                raise RequestError("invalid_cursor")
            start = Place(opened[1], int(opened[2]))
        page = await self.listing.page(client, kind, start)
        return self._page(client, kind, page)

    def _page(self, client: Client, kind: Kind, page: Page) -> bytes:
        parts: list[tuple[str, Json]] = []
        if client.era is Era.modern:
            parts.append(("resultType", b'"complete"'))
        parts.append((kind.member, b"[%b]" % b",".join(page.items)))
        if page.next is not None:
            place = [page.next.provider, str(page.next.at)]
            cursor = self._seal.close("cursor", client.caller.id, [kind.method, *place], 3600)
            parts.append(("nextCursor", envelope.encode(cursor)))
        if client.era is Era.modern:
            parts.append(("ttlMs", b"%d" % (0 if page.missing else _LIST_TTL_MS)))
            parts.append(("cacheScope", b'"private"'))
        meta: dict[str, Any] = {SERVER_INFO: _server_info()} if client.era is Era.modern else {}
        if page.missing:
            meta["io.mcp-hangar/missing"] = page.missing
        if meta:
            parts.append(("_meta", envelope.encode(meta)))
        return envelope.join(parts)

    async def _discover(self, client: Client) -> bytes:
        capabilities, instructions = await self._offered(client)
        value: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": list(MODERN_VERSIONS),
            "capabilities": capabilities,
            "ttlMs": _LIST_TTL_MS,
            "cacheScope": "private",
            "_meta": {SERVER_INFO: _server_info()},
        }
        if instructions:
            value["instructions"] = instructions
        return envelope.encode(value)

    async def initialize(
        self, request: Request, caller: Caller, scope: str, deliver: Callable[[ClientSession, bytes], None]
    ) -> tuple[ClientSession, bytes]:
        """Open a legacy session. The revision asked for, if we know it; else the newest legacy one."""
        params = request.params
        asked = envelope.text(params.get("protocolVersion"))
        if not asked:
            raise RequestError("invalid_params", method="initialize", detail="protocolVersion must be a string")
        version = asked if asked in LEGACY_VERSIONS else NEWEST_LEGACY
        info = params.get("clientInfo", Raw(b"{}"))
        session = self.sessions.open(
            caller=caller,
            version=version,
            capabilities=bridge.carried(params["capabilities"], legacy=True)
            if "capabilities" in params
            else NO_CAPABILITIES,
            client=client_name(info),
            info=info,
            scope=scope,
        )
        client = self.client_of(session)
        ear = Ear(
            scope=scope,
            prefixed=client.prefixed,
            methods={kind.changed for kind in KINDS.values()},
            deliver=lambda method, params: deliver(
                session, envelope.notification(method, envelope.join(params.items()))
            ),
        )
        self._ears[session.id] = ear
        self.subscriptions.open(ear)
        capabilities, instructions = await self._offered(client)
        value: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": capabilities,
            "serverInfo": _server_info(),
        }
        if instructions:
            value["instructions"] = instructions
        return session, envelope.encode(value)

    async def _offered(self, client: Client) -> tuple[dict[str, Any], str]:
        """Capabilities and instructions: the provider's own where the door shows just one, else what Hangar serves."""
        providers = self.listing.visible(client)
        everything = {**_ALL_CAPABILITIES, **_TASKS[client.era]}
        if len(providers) != 1:
            return everything, ""
        provider = providers[0]
        key = self._instances.key(provider, client.caller.id, client.capabilities.key, client.conversation)
        instance = self._instances.warm.get(key)
        if instance is None:
            start = asyncio.ensure_future(
                self._instances.ready(provider, key, asyncio.get_running_loop().time() + self._timeout)
            )
            try:
                instance = await start
            except HangarError:
                return everything, ""
        kept = {name: value for name, value in _ALL_CAPABILITIES.items() if name in instance.capabilities}
        if "resources" in kept and not self._subscribable(instance):
            kept["resources"] = {"listChanged": True}
        if instance.era is client.era and _offers_tasks(instance):
            kept.update(_TASKS[client.era])
        return kept, instance.instructions

    def _subscribable(self, instance: Instance) -> bool:
        resources = instance.capabilities.get("resources")
        return isinstance(resources, dict) and bool(resources.get("subscribe"))

    def client_of(self, session: ClientSession) -> Client:
        """Who a legacy session's requests come from."""
        return Client(
            era=Era.legacy,
            caller=session.caller,
            session=session.governance,
            capabilities=session.capabilities,
            conversation=session.id,
            scope=session.scope,
            prefixed=self._prefixed and not session.scope,
            version=session.version,
            client=session.client,
            client_info=session.info,
            log_level=session.log_level,
        )

    def modern_client(self, request: Request, caller: Caller, scope: str, conversation: str) -> Client:
        """Who a modern request comes from; its envelope has been checked."""
        meta = request.meta
        info = meta.get(CLIENT_INFO, _NO_INFO)
        name = self._names.get(info_bytes := bytes(info))
        if name is None:
            name = client_name(info)
            _remember(self._names, info_bytes, name)
        declared = bytes(meta[CLIENT_CAPABILITIES])
        capabilities = self._carried.get(declared)
        if capabilities is None:
            capabilities = bridge.carried(declared, legacy=False)
            _remember(self._carried, declared, capabilities)
        level = envelope.text(meta[LOG_LEVEL], "?") if LOG_LEVEL in meta else ""
        if level and level not in LOG_LEVELS:
            raise RequestError(
                "invalid_params", method=request.method, detail=f"{LOG_LEVEL} must be one of {', '.join(LOG_LEVELS)}"
            )
        named = envelope.text(meta[HANGAR_SESSION])[:128] if HANGAR_SESSION in meta else ""
        session, seen = (Session(id=named), [0.0]) if named else self.sessions.inferred(caller, name)
        return Client(
            era=Era.modern,
            caller=caller,
            session=session,
            capabilities=capabilities,
            conversation=conversation,
            scope=scope,
            prefixed=self._prefixed and not scope,
            version=MODERN_VERSION,
            client=name,
            client_info=info,
            log_level=level,
            seen=seen,
        )

    async def stray(self, instance: Instance, message: Message) -> None:
        """What a provider said outside of any call: a question goes to the only session that can be meant, a log
        message to the session that the instance belongs to; everything else is dropped."""
        flights = [flight for flight in self.proxy.in_flight.values() if flight.instance is instance]
        sessions = {flight.call.conversation for flight in flights}
        if message.is_request:
            if len(sessions) == 1 and flights[-1].call.era is Era.legacy:
                await self.proxy.questions.stray(flights[-1].call, flights[-1], instance, message)
            elif len(sessions) == 1 and flights[-1].exchange is not None:
                flights[-1].exchange.give(message, len(message.params))
            else:
                await self._ask_idle(instance, message)
        elif message.method == "notifications/message" and instance.key.conversation:
            session = self.sessions.by_id(instance.key.conversation)
            if session is not None and (not session.log_level or bridge.log_passes(message.params, session.log_level)):
                session.standalone.append(envelope.notification(message.method, message.params))

    async def _ask_idle(self, instance: Instance, message: Message) -> None:
        """No call is open: only a session whose own instance this is, and that listens, can be meant."""
        session = self.sessions.by_id(instance.key.conversation) if instance.key.conversation else None
        if session is None or session.listening is None:
            await self.proxy.questions.refuse(instance, message, "no client has a call open that it could belong to")
            return
        channel = StandaloneChannel(session)
        call = self.call_of(Request(b"", message.method, {"uri": Raw(b'"x"')}, {}), self.client_of(session), "")
        call.provider = call.name = instance.provider.name
        flight = Flight(call, channel)
        await self.proxy.questions.stray(call, flight, instance, message)
        if flight.tasks:
            await asyncio.wait(flight.tasks)

    def forget(self, conversation: str) -> None:
        """A modern client's connection is gone, and with it what a legacy provider kept for it."""
        self._instances.forget(conversation)

    # -- subscriptions

    def ear(self, session: ClientSession) -> Ear | None:
        return self._ears.get(session.id)

    async def closed(self, session: ClientSession) -> None:
        """A legacy session is over: nothing upstream is kept for it."""
        ear = self._ears.pop(session.id, None)
        if ear is not None:
            await self.deafen(ear)
        self._instances.forget(session.id)

    async def deafen(self, ear: Ear) -> None:
        await self.subscriptions.close(ear, self._instances.warm.get)

    async def roots_changed(self, session: ClientSession) -> None:
        """A legacy client's roots changed: told to the legacy providers that hold state for this session."""
        for key, instance in list(self._instances.warm.items()):
            if instance.era is not Era.legacy or not Capabilities(key=key.capabilities).has("roots"):
                continue
            if self._belongs(key, session):
                try:
                    await instance.connection.post(envelope.notification("notifications/roots/list_changed"))
                except HangarError as error:
                    log.info("roots_change_not_told", provider=key.provider, error=error.what)

    def _belongs(self, key: InstanceKey, session: ClientSession) -> bool:
        return key.conversation == session.id or (not key.conversation and key.caller == session.caller.id)

    async def listen(self, request: Request, client: Client, ear: Ear, channel: Channel) -> dict[str, Any]:
        """Open a modern client's ear; what of its wishes is honoured. Each resource is a call of its own."""
        wanted = request.params.get("notifications")
        if wanted is None:
            raise RequestError("invalid_params", method=request.method, detail="notifications must be an object")
        wishes = envelope.read_strictly(wanted, "notifications")
        if not isinstance(wishes, dict):
            raise RequestError("invalid_params", method=request.method, detail="notifications must be an object")
        honoured: dict[str, Any] = {}
        for kind in KINDS.values():
            if wishes.get(kind.wanted) is True:
                ear.methods.add(kind.changed)
                honoured[kind.wanted] = True
        uris = wishes.get("resourceSubscriptions")
        if isinstance(uris, list):
            heard = []
            for uri in uris[:MOST_RESOURCES]:
                if isinstance(uri, str) and await self._hear(uri, request, client, channel):
                    heard.append(uri)
            honoured["resourceSubscriptions"] = heard
        self.subscriptions.open(ear)
        return honoured

    async def _hear(self, uri: str, request: Request, client: Client, channel: Channel) -> bool:
        each = Request(request.id, "resources/subscribe", {"uri": Raw(envelope.encode(uri))}, {})
        call = self.call_of(each, client, "")
        try:
            await self.proxy.call(call, Flight(call, channel))
        except HangarError:
            return False
        return True

    async def subscribe(self, call: Call, flight: Flight, instance: Instance) -> Answer:
        """`resources/subscribe` and its opposite, carried out for the ear of the call's channel."""
        ear = flight.channel.ear
        if ear is None:
            raise RequestError("invalid_params", method=call.method, detail="there is no stream to tell of updates")
        if call.method == "resources/subscribe":
            await self.subscriptions.subscribe(ear, instance, call.name)
        else:
            await self.subscriptions.unsubscribe(ear, instance.key, call.name, instance)
        return Answer(b"{}")


def known_in(method: str, era: Era) -> bool:
    """Whether the era has such a method at all."""
    if method in ALL_METHODS:
        return method in METHODS[era]
    return method not in (_MODERN_ONLY if era is Era.legacy else _LEGACY_ONLY)


def _offers_tasks(instance: Instance) -> bool:
    extensions = instance.capabilities.get("extensions")
    return "tasks" in instance.capabilities or (isinstance(extensions, dict) and TASKS in extensions)


def client_name(info: Json) -> str:
    """`name/version` out of an `Implementation`, bounded; unverified."""
    try:
        parts = envelope.members(info, "clientInfo")
    except RequestError:
        return ""
    name, version = envelope.text(parts.get("name"))[:64], envelope.text(parts.get("version"))[:32]
    return f"{name}/{version}" if version else name


def _remember(memory: dict[bytes, T], said: bytes, meaning: T) -> None:
    """Clients repeat themselves; both how many and how long texts are kept is bounded."""
    if len(said) > _LONGEST_REMEMBERED:
        return
    if len(memory) >= _MOST_REMEMBERED:
        memory.clear()
    memory[said] = meaning


def _server_info() -> dict[str, str]:
    return {"name": "mcp-hangar", "title": "MCP Hangar", "version": __version__}
