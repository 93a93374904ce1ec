# SPDX-License-Identifier: MIT
"""Catalogue, listing and subscriptions over fake providers whose lists and words the test makes up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp_hangar.application.catalogue import Catalogue
from mcp_hangar.application.fleet import Fleet
from mcp_hangar.application.instances import Instance, Instances
from mcp_hangar.application.listing import Client, Listing
from mcp_hangar.application.subscriptions import Subscriptions, unrelated
from mcp_hangar.domain.call import NO_CAPABILITIES, Caller, CallerType, Capabilities, Session
from mcp_hangar.domain.contracts.policy import Judge
from mcp_hangar.domain.events import Event
from mcp_hangar.domain.mcp.catalogue import Kind
from mcp_hangar.domain.mcp.envelope import Message, read_message
from mcp_hangar.domain.mcp.eras import NEWEST_LEGACY, Era
from mcp_hangar.domain.provider import Mode, Provider
from tests.fakes import INFO, FakeConnection, FakeLauncher, Server

EVERYTHING = {"tools": {"listChanged": True}, "prompts": {}, "resources": {"subscribe": True, "listChanged": True}}


def tools(*names: str, **more: Any) -> dict[str, Any]:
    return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names], **more}


@dataclass
class Offers(Server):
    """A provider with lists: `pages` are the results of a method, one after the other; the last one stays."""

    capabilities: dict[str, Any] = field(default_factory=lambda: dict(EVERYTHING))
    pages: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"tools/list": [tools("now")]})
    silent: set[str] = field(default_factory=lambda: {"subscriptions/listen"})

    def __post_init__(self) -> None:
        legacy = {"protocolVersion": NEWEST_LEGACY, "capabilities": self.capabilities, "serverInfo": INFO}
        modern = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": self.capabilities}
        self.results.setdefault("resources/subscribe", {})
        self.results.setdefault("resources/unsubscribe", {})
        if self.era is Era.legacy:
            self.results["initialize"] = legacy
        else:
            self.results["server/discover"] = modern

    def answer(self, method: str) -> dict[str, Any]:
        waiting = self.pages.get(method)
        if waiting and method not in self.refused:
            return {"result": waiting.pop(0) if len(waiting) > 1 else waiting[0]}
        return super().answer(method)


class Kept:
    """The disk, as a dict."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, str], bytes] = {}

    def get(self, declaration: str, capabilities: str) -> bytes | None:
        return self.data.get((declaration, capabilities))

    def put(self, declaration: str, capabilities: str, data: bytes) -> None:
        self.data[declaration, capabilities] = data


class World:
    def __init__(
        self,
        serve: Callable[[str], Server] = lambda wire: Offers(),
        *providers: Provider,
        cache: Kept | None = None,
        judges: tuple[Judge, ...] = (),
        own_tools: tuple[bytes, ...] = (),
        timeout: float = 5.0,
    ) -> None:
        self.launcher = FakeLauncher(serve)
        self.events: list[Event] = []
        self.changes: list[tuple[str, str]] = []
        """(provider, method of the list) as the catalogue tells it."""
        self.completed = 0
        self.instances = Instances({Mode.subprocess: self.launcher, Mode.remote: self.launcher}, self.events.append)
        self.catalogue = Catalogue(
            instances=self.instances, record=self.events.append, on_changed=self._changed, cache=cache
        )
        self.subscriptions = Subscriptions(self.catalogue)
        self.instances.on_message = self._heard
        self.instances.on_ready = self.subscriptions.attend
        self.instances.on_gone = lambda instance, error: self._gone(instance)
        self.fleet = Fleet(providers={provider.name: provider for provider in providers}, judges=judges)
        self.listing = Listing(
            fleet=lambda: self.fleet,
            catalogue=self.catalogue,
            instances=self.instances,
            timeout=timeout,
            own_tools=list(own_tools),
            on_completed=self._completed,
        )

    def _changed(self, instance: Instance, kind: Kind) -> None:
        self.changes.append((instance.provider.name, kind.method))
        self.subscriptions.list_changed(instance, kind)

    def _heard(self, instance: Instance, message: Message) -> None:
        unrelated(self.subscriptions, self.catalogue, instance, message)

    def _gone(self, instance: Instance) -> None:
        self.catalogue.forget(instance)
        self.subscriptions.forget(instance)

    def _completed(self) -> None:
        self.completed += 1
        self.subscriptions.fleet_changed()

    async def ready(self, provider: Provider, caller: str = "ada", capabilities: str = "{}") -> Instance:
        key = self.instances.key(provider, caller, capabilities, "")
        return await self.instances.ready(provider, key, asyncio.get_running_loop().time() + 5)

    async def close(self) -> None:
        self.listing.close()
        await self.instances.close()


def fake(instance: Instance) -> FakeConnection:
    assert isinstance(instance.connection, FakeConnection)
    return instance.connection


def say(instance: Instance, method: str, params: dict[str, Any] | None = None) -> None:
    """The provider says something that belongs to no request."""
    fake(instance).say(json.dumps({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}))


def tell(instance: Instance, id: int, message: dict[str, Any]) -> None:
    """The provider says something about the request `id`."""
    fake(instance).exchanges[id].put(read_message(json.dumps({"jsonrpc": "2.0", **message}).encode()))


def a_client(
    caller: str = "ada",
    *,
    scope: str = "",
    era: Era = Era.modern,
    prefixed: bool | None = None,
    capabilities: Capabilities = NO_CAPABILITIES,
) -> Client:
    return Client(
        era=era,
        caller=Caller(id=caller, type=CallerType.token),
        session=Session(id="s"),
        capabilities=capabilities,
        conversation="",
        scope=scope,
        prefixed=not scope if prefixed is None else prefixed,
        version="",
    )


async def until(met: Callable[[], bool]) -> None:
    """Let the loop turn until something is so; bounded."""
    async with asyncio.timeout(60):
        while True:
            if met():
                return
            await asyncio.sleep(0.002)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
