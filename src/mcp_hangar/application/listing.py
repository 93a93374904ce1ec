# SPDX-License-Identifier: MIT
"""What a client sees when it lists: the same `decide()` as for a call, so what is listed is what may be called.

Lists come from the catalogue. Providers never met before are started in the background, a few at a time; a list
answers within `expose.list_timeout` with what is known, names the gap, and a list change follows when it closes. One
dead provider hides only itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import structlog

from mcp_hangar.application.catalogue import Catalogue
from mcp_hangar.application.fleet import Fleet
from mcp_hangar.application.instances import Instances
from mcp_hangar.domain.call import Call, Caller, Capabilities, Session
from mcp_hangar.domain.errors import HangarError, RequestError
from mcp_hangar.domain.mcp.catalogue import TOOLS, Kind, Offer, expose_item
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.policy import decide
from mcp_hangar.domain.provider import Provider

log = structlog.get_logger(__name__)

PAGE: Final = 1_000
STARTS_AT_ONCE: Final = 4
_MOST_RENDERED: Final = 4_000


class Client(msgspec.Struct):
    """Who asks, as the door sees it. Made per request (modern) or per session (legacy)."""

    era: Era
    caller: Caller
    session: Session
    capabilities: Capabilities
    conversation: str
    scope: str
    """The only provider it sees; empty for all."""
    prefixed: bool
    version: str
    client: str = ""
    client_info: msgspec.Raw | bytes = b"{}"
    log_level: str = ""
    seen: list[float] = msgspec.field(default_factory=lambda: [0.0])
    """When it was last heard of (monotonic); shared by all that stand for the same inferred session."""


class Place(NamedTuple):
    """Where in a list something stands, among all that is offered, allowed or not."""

    provider: str
    at: int


@dataclass(frozen=True, slots=True)
class Page:
    items: list[bytes]
    next: Place | None
    """Where the next page begins; None if this is the last."""
    missing: tuple[str, ...]
    """Providers whose part is not known (yet)."""


class Listing:
    def __init__(
        self,
        *,
        fleet: Callable[[], Fleet],
        catalogue: Catalogue,
        instances: Instances,
        timeout: float,
        own_tools: list[bytes],
        on_completed: Callable[[], None],
    ) -> None:
        self._fleet, self._catalogue, self._instances, self._timeout = fleet, catalogue, instances, timeout
        self._own_tools = own_tools
        self._on_completed = on_completed
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)
        self._late: set[tuple[str, str, str]] = set()
        """Those whom a list had to leave out: when they are known, a list change is told."""
        self._starting: dict[tuple[str, str, str], asyncio.Task[Offer | None]] = {}
        self._rendered: dict[tuple[int, str, str, bool, bool], tuple[Offer, list[tuple[str, bytes]]]] = {}

    def visible(self, client: Client) -> list[Provider]:
        providers = self._fleet().providers
        if client.scope:
            return [providers[client.scope]] if client.scope in providers else []
        return [provider for name, provider in providers.items() if name != "hangar"]

    def known(self, client: Client, provider: str) -> Offer | None:
        """What such a client was offered by a provider, if that is known."""
        return self._catalogue.known(self._fleet().providers[provider], client.caller.id, client.capabilities.key)

    async def page(self, client: Client, kind: Kind, start: Place | None = None) -> Page:
        """A page looks at its own part and at nothing before it: else a long list would cost its square."""
        providers, first, items = self.visible(client), 0, list[bytes]()
        offers: dict[str, Offer] | None = None
        missing: tuple[str, ...] = ()
        if start is None:
            offers, missing = await self.offers(client, providers)
            if kind is TOOLS and not client.scope:
                items += self._own_tools
        else:
            providers, first = self._after(providers, start), start.at
        for provider in providers:
            offer = self._offer(client, provider) if offers is None else offers.get(provider.name)
            rendered = [] if offer is None else self._render(offer, kind, provider, client)
            for index in range(first, len(rendered)):
                name, raw = rendered[index]
                if self.allowed(client, kind, provider, name):
                    if len(items) >= PAGE:
                        return Page(items, Place(provider.name, index), missing)
                    items.append(raw)
            first = 0
        return Page(items, None, missing)

    def _after(self, providers: list[Provider], start: Place) -> list[Provider]:
        for number, provider in enumerate(providers):
            if provider.name == start.provider:
                return providers[number:]
        raise RequestError("invalid_cursor")  # it is gone

    def allowed(self, client: Client, kind: Kind, provider: Provider, name: str) -> bool:
        if kind is not TOOLS:
            return True
        return decide(question(client, provider.name, name), provider, self._fleet().judges) is None

    def _render(self, offer: Offer, kind: Kind, provider: Provider, client: Client) -> list[tuple[str, bytes]]:
        modern = client.era is Era.modern
        key = (id(offer), kind.method, provider.name, client.prefixed, modern)
        known = self._rendered.get(key)
        if known is not None and known[0] is offer:
            return known[1]
        if len(self._rendered) >= _MOST_RENDERED:
            self._rendered.clear()
        rendered = [
            (name, expose_item(kind, item, provider.name, client.prefixed, modern))
            for name, item in offer.of(kind).items()
        ]
        self._rendered[key] = (offer, rendered)
        return rendered

    async def offers(self, client: Client, providers: list[Provider]) -> tuple[dict[str, Offer], tuple[str, ...]]:
        """What is known of each, after waiting for those never met before, within the timeout."""
        known: dict[str, Offer] = {}
        waiting: dict[str, asyncio.Task[Offer | None]] = {}
        for provider in providers:
            offer = self._offer(client, provider)
            if offer is not None:
                known[provider.name] = offer
            else:
                waiting[provider.name] = self._begin(client, provider)
        if waiting:
            await asyncio.wait(waiting.values(), timeout=self._timeout)
            for name, task in waiting.items():
                offer = task.result() if task.done() and not task.cancelled() and task.exception() is None else None
                if offer is not None:
                    known[name] = offer
                elif len(self._late) < _MOST_RENDERED:
                    self._late.add((name, client.caller.id, client.capabilities.key))
        return known, tuple(sorted(set(waiting) - set(known)))

    def _offer(self, client: Client, provider: Provider) -> Offer | None:
        """What is known of it now; fetched anew in the background if its time is over."""
        offer = self._catalogue.known(provider, client.caller.id, client.capabilities.key)
        if offer is not None:
            instance = self._instances.warm.get(
                self._instances.key(provider, client.caller.id, client.capabilities.key, client.conversation)
            )
            if instance is not None:
                self._catalogue.refresh_if_stale(instance)
        return offer

    def _begin(self, client: Client, provider: Provider) -> asyncio.Task[Offer | None]:
        key = (provider.name, client.caller.id, client.capabilities.key)
        task = self._starting.get(key)
        if task is None:
            task = self._starting[key] = asyncio.create_task(self._meet(client, provider), name=f"meet {provider.name}")
            task.add_done_callback(lambda done: self._met(key, done))
        return task

    def _met(self, key: tuple[str, str, str], task: asyncio.Task[Offer | None]) -> None:
        self._starting.pop(key, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("meeting_failed", provider=key[0], error=repr(task.exception()))

    async def _meet(self, client: Client, provider: Provider) -> Offer | None:
        key = (provider.name, client.caller.id, client.capabilities.key)
        async with self._slots:
            deadline = asyncio.get_running_loop().time() + provider.lifecycle.start_timeout
            place = self._instances.key(provider, client.caller.id, client.capabilities.key, client.conversation)
            try:
                instance = await self._instances.ready(provider, place, deadline)
                offer = await self._catalogue.load(instance)
            except HangarError as error:
                log.info("provider_not_listed", provider=provider.name, error=error.what, why=error.why)
                return None
            if key in self._late:
                self._late.discard(key)
                self._on_completed()
            return offer

    def close(self) -> None:
        for task in list(self._starting.values()):
            task.cancel()


def question(client: Client, provider: str, tool: str) -> Call:
    """The call a listing asks about: who, of whom, what; nothing that a policy for names could miss."""
    return Call(
        id="",
        method="tools/call",
        provider=provider,
        name=tool,
        caller=client.caller,
        session=client.session,
        era=client.era,
        capabilities=client.capabilities,
        params={},
        meta={},
    )
