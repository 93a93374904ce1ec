# SPDX-License-Identifier: MIT
"""Who offers what: each provider's lists, drained once, kept, and fetched anew when they changed.

Legacy lists may depend on the client's capabilities, so an offer is known per *view*: the provider, and as much of
caller and capabilities as its upstream state is kept apart by. A call reads `offers` by instance and touches no other
provider.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import structlog

from mcp_hangar import __version__
from mcp_hangar.application.ids import ids
from mcp_hangar.application.instances import Instance, InstanceKey, Instances
from mcp_hangar.application.ports.connection import Outgoing
from mcp_hangar.domain.errors import CallTimeout, HangarError, ProtocolError, RequestError, TransportError
from mcp_hangar.domain.events import Event, ProviderMessageRefused, ProviderToolsetChanged
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.bridge import error_code
from mcp_hangar.domain.mcp.catalogue import KINDS, TOOLS, Item, Kind, Offer, read_items
from mcp_hangar.domain.mcp.envelope import Json
from mcp_hangar.domain.mcp.eras import CLIENT_CAPABILITIES, CLIENT_INFO, MODERN_VERSION, PROTOCOL_VERSION, Era
from mcp_hangar.domain.provider import Provider

log = structlog.get_logger(__name__)

LIST_TIMEOUT: Final = 30.0
MOST_PAGES: Final = 200
MOST_ITEMS: Final = 20_000
_METHOD_NOT_FOUND: Final = -32601
_MOST_VIEWS: Final = 2_000
_REFRESH_INTERVAL: Final = 1.0
"""Seconds between refreshes for names that are not there: unknown names must not become upstream traffic."""
SETTLE: Final = 0.05
"""Seconds in which several list changes of one provider count as one."""
_CALM: Final = 2.0
_LONGEST_SETTLE: Final = 10.0
"""A provider that tells of changes where there are none, within `_CALM`, is looked at ever more rarely."""


class CatalogueCache(Protocol):
    """Offers that survive a restart."""

    def get(self, declaration: str, capabilities: str) -> bytes | None: ...

    def put(self, declaration: str, capabilities: str, data: bytes) -> None: ...


def declaration_digest(provider: Provider) -> str:
    """What a kept offer belongs to: the same launch, the same offer."""
    return hashlib.sha256(repr((provider.name, provider.mode, provider.launch, provider.protocol)).encode()).hexdigest()


class Catalogue:
    def __init__(
        self,
        *,
        instances: Instances,
        record: Callable[[Event], None],
        on_changed: Callable[[Instance, Kind], None],
        cache: CatalogueCache | None,
    ) -> None:
        self.offers: dict[str, Offer] = {}
        """By instance id; the call path reads it directly."""
        self._instances = instances
        self._record = record
        self._on_changed = on_changed
        self._cache = cache
        self._views: OrderedDict[InstanceKey, Offer] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Offer]] = {}
        self._reloads: dict[str, asyncio.Task[None]] = {}
        self._refreshed: dict[str, float] = {}
        self._vain: dict[str, tuple[float, float]] = {}
        """When a change that was told turned out to be none, and how long was waited before that look."""
        self._expires: dict[str, float] = {}

    def known(self, provider: Provider, caller: str, capabilities: str) -> Offer | None:
        """The newest offer for such a client, from a running or earlier instance, or from disk."""
        view = self._instances.key(provider, caller, capabilities, "")
        offer = self._views.get(view)
        if offer is None and self._cache is not None:
            data = self._cache.get(declaration_digest(provider), f"{view.caller}\n{view.capabilities}")
            if data is not None:
                offer = _unpack(data)
                if offer is not None:
                    self._keep(view, offer)
        return offer

    def newest(self, provider: Provider) -> Offer | None:
        """Any view's offer, for people who look from outside."""
        return next((offer for view, offer in reversed(self._views.items()) if view.provider == provider.name), None)

    def newest_or_kept(self, provider: Provider) -> Offer | None:
        """Any view's offer, for people who look from outside; from disk if none was met in this run."""
        return self.newest(provider) or self.known(provider, "anonymous", "{}")

    def _keep(self, view: InstanceKey, offer: Offer) -> None:
        self._views[view] = offer
        self._views.move_to_end(view)
        while len(self._views) > _MOST_VIEWS:
            self._views.popitem(last=False)

    async def load(self, instance: Instance) -> Offer:
        """The instance's offer; fetched once, however many wait."""
        offer = self.offers.get(instance.id)
        if offer is not None:
            return offer
        task = self._loading.get(instance.id)
        if task is None:
            task = asyncio.create_task(self._load(instance), name=f"catalogue {instance.id}")
            self._loading[instance.id] = task
            task.add_done_callback(lambda done: self._loaded(instance.id, done))
        return await asyncio.shield(task)

    def _loaded(self, instance: str, task: asyncio.Task[Offer]) -> None:
        self._loading.pop(instance, None)
        if not task.cancelled():
            task.exception()  # told to those who waited; a later call asks again

    def begin(self, instance: Instance) -> None:
        """Load in the background, as soon as an instance is ready."""
        if instance.id in self.offers or instance.id in self._loading:
            return
        task = asyncio.create_task(self._load(instance), name=f"catalogue {instance.id}")
        self._loading[instance.id] = task
        task.add_done_callback(lambda done: self._loaded(instance.id, done))

    def forget(self, instance: Instance) -> None:
        """The instance is gone; what it offered stays known for listing."""
        self.offers.pop(instance.id, None)
        self._expires.pop(instance.id, None)
        self._refreshed.pop(instance.id, None)
        self._vain.pop(instance.id, None)
        for tasks in (self._loading, self._reloads):
            task: asyncio.Task[Any] | None = tasks.pop(instance.id, None)
            if task is not None:
                task.cancel()

    def changed(self, instance: Instance, kinds: tuple[Kind, ...]) -> None:
        """The provider says a list changed: fetch it anew, once for a burst."""
        at, waited = self._vain.get(instance.id, (0.0, 0.0))
        restless = waited and time.monotonic() - at < waited + _CALM
        self._look_again(instance, min(2 * waited, _LONGEST_SETTLE) if restless else SETTLE)

    def _look_again(self, instance: Instance, wait: float) -> None:
        if instance.id not in self._reloads:
            self._reloads[instance.id] = asyncio.create_task(self._reload(instance, wait), name=f"reload {instance.id}")

    async def _reload(self, instance: Instance, wait: float) -> None:
        before = self.offers.get(instance.id)
        try:
            await asyncio.sleep(wait)
            self._reloads.pop(instance.id, None)  # what changes from here on needs another look
            # Set before the look: a provider may tell of the next change while it answers.
            self._vain[instance.id] = (time.monotonic(), wait)
            offer = await self._load(instance)
            if before is None or before.digest != offer.digest:
                self._vain.pop(instance.id, None)
        except HangarError as error:
            log.warning("catalogue_reload_failed", provider=instance.provider.name, error=str(error))

    async def refresh(self, instance: Instance) -> Offer:
        """Look again for a name that is not there; at most once a second per instance."""
        now = time.monotonic()
        if now - self._refreshed.get(instance.id, -_REFRESH_INTERVAL) >= _REFRESH_INTERVAL:
            self._refreshed[instance.id] = now
            await self._load(instance)
        return self.offers.get(instance.id) or await self.load(instance)

    def refresh_if_stale(self, instance: Instance) -> None:
        """Fetch anew in the background if the provider's ttl is over."""
        if time.monotonic() > self._expires.get(instance.id, float("inf")):
            self._look_again(instance, SETTLE)

    async def _load(self, instance: Instance) -> Offer:
        items: dict[str, dict[str, Item]] = {}
        refused: list[str] = []
        ttl = float("inf")
        for kind in KINDS.values():
            if kind.capability not in instance.capabilities:
                continue
            raws, kind_ttl = await self._drain(instance, kind)
            ttl = min(ttl, kind_ttl)
            items[kind.method], bad = read_items(kind, raws)
            refused += bad
        offer = Offer(items, tuple(refused))
        before = self.offers.get(instance.id)
        if before is not None:
            offer.links = before.links
        self.offers[instance.id] = offer
        self._expires[instance.id] = time.monotonic() + ttl
        self._settle(instance, offer)
        return offer

    def _settle(self, instance: Instance, offer: Offer) -> None:
        view = instance.key._replace(conversation="")
        known = self._views.get(view)
        self._keep(view, offer)
        if known is not None and known.digest == offer.digest:
            return
        if self._cache is not None:
            self._cache.put(declaration_digest(instance.provider), f"{view.caller}\n{view.capabilities}", _pack(offer))
        now = time.time()
        for reason in offer.refused:
            self._record(ProviderMessageRefused(at=now, provider=instance.provider.name, reason=reason))
        self._record(
            ProviderToolsetChanged(
                at=now, provider=instance.provider.name, digest=offer.digest, tools=len(offer.of(TOOLS))
            )
        )
        if known is None:
            return  # met for the first time: nothing that anyone has seen has changed
        for kind in KINDS.values():
            if list(known.of(kind).values()) != list(offer.of(kind).values()):
                self._on_changed(instance, kind)

    async def _drain(self, instance: Instance, kind: Kind) -> tuple[list[Json], float]:
        """All pages of one list, and for how long they hold (seconds)."""
        raws: list[Json] = []
        cursor: str | None = None
        seen: set[str] = set()
        ttl = float("inf")
        for _ in range(MOST_PAGES):
            result = await ask(instance, kind.method, {} if cursor is None else {"cursor": cursor}, LIST_TIMEOUT)
            if result is None:
                break
            try:
                parts = envelope.members(result, f"the result of {kind.method}")
                raws += msgspec.json.decode(parts.get(kind.member, b"[]"), type=list[msgspec.Raw])
            except (RequestError, *envelope.UNREADABLE) as error:
                raise ProtocolError(
                    "provider_protocol", provider=instance.provider.name, detail=f"{kind.method}: {error}."
                ) from None
            if "ttlMs" in parts and bytes(parts["ttlMs"]).isdigit() and instance.era is Era.modern:
                # 0 means "do not rely on it": looked at again with each list, but not more than once a second
                ttl = min(ttl, max(int(bytes(parts["ttlMs"])[:12]) / 1000, 1.0))
            if "nextCursor" not in parts or bytes(parts["nextCursor"]) == b"null":
                break
            cursor = envelope.text(parts["nextCursor"])
            if cursor in seen or len(raws) > MOST_ITEMS:
                raise ProtocolError(
                    "provider_protocol", provider=instance.provider.name, detail=f"{kind.method} never ends."
                )
            seen.add(cursor)
        else:
            raise ProtocolError(
                "provider_protocol",
                provider=instance.provider.name,
                detail=f"{kind.method} has over {MOST_PAGES} pages.",
            )
        return raws, ttl


async def ask(instance: Instance, method: str, params: dict[str, Any], seconds: float) -> Json | None:
    """A question of Hangar's own (a list, a log level): the result, or None if the provider knows no such method."""
    number = next(ids)
    modern = instance.era is Era.modern
    if modern:
        params = {
            **params,
            "_meta": {
                PROTOCOL_VERSION: MODERN_VERSION,
                CLIENT_CAPABILITIES: {},
                CLIENT_INFO: {"name": "mcp-hangar", "version": __version__},
            },
        }
    exchange = await instance.connection.send(
        Outgoing(
            id=number,
            method=method,
            payload=envelope.request(number, method, envelope.encode(params)),
            headers=b"Mcp-Method: %b\r\n" % method.encode() if modern else b"",
            modern=modern,
        )
    )
    timeout = CallTimeout("timeout", name=method, provider=instance.provider.name, seconds=seconds)
    timer = asyncio.get_running_loop().call_later(seconds, exchange.fail, timeout)
    try:
        message = await exchange.next()
        while message.method:  # on stdio a provider's own words may have been related to this question
            instance.connection.listener.on_message(message)
            message = await exchange.next()
    finally:
        timer.cancel()
    if len(message.error):
        if error_code(message.error) == _METHOD_NOT_FOUND:
            return None
        raise TransportError(
            "provider_protocol",
            provider=instance.provider.name,
            detail=f"{method} failed: {bytes(message.error).decode(errors='replace')[:300]}",
        )
    return message.result


def _pack(offer: Offer) -> bytes:
    return msgspec.json.encode(
        {method: [item.raw.decode() for item in items.values()] for method, items in offer.items.items()}
    )


def _unpack(data: bytes) -> Offer | None:
    try:
        kept = msgspec.json.decode(data, type=dict[str, list[str]])
    except envelope.UNREADABLE:
        return None
    items = {
        method: read_items(KINDS[method], [raw.encode() for raw in raws])[0]
        for method, raws in kept.items()
        if method in KINDS
    }
    return Offer(items)
