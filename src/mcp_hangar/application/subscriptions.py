# SPDX-License-Identifier: MIT
"""Who wants to hear of changes, and what of it to ask providers for.

A client listens to list changes and to single resources: legacy by `resources/subscribe` and its event stream, modern
by one `subscriptions/listen`. A provider is asked once per resource and instance, however many listen; a change of
several lists within a moment becomes one notification each, and only for those who can see the provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from mcp_hangar import __version__
from mcp_hangar.application.catalogue import SETTLE, Catalogue, ask
from mcp_hangar.application.ids import ids
from mcp_hangar.application.instances import Instance, InstanceKey
from mcp_hangar.application.ports.connection import Outgoing
from mcp_hangar.domain.errors import CallCancelled, CallTimeout, Denied, HangarError, ProtocolError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.catalogue import CHANGED, KINDS, Kind
from mcp_hangar.domain.mcp.envelope import Json, Message
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    MODERN_VERSION,
    OWNED,
    PROTOCOL_VERSION,
    SUBSCRIPTION_ID,
    Era,
)
from mcp_hangar.domain.mcp.names import expose_uri

log = structlog.get_logger(__name__)

UPDATED: Final = "notifications/resources/updated"
MOST_RESOURCES: Final = 1_000
"""Resources one client may listen to."""
_RECONNECT: Final = (1.0, 60.0)


class Ear:
    """One client's wishes. `deliver(method, params members)` must not block."""

    __slots__ = ("_due", "closed", "deliver", "methods", "prefixed", "resources", "scope")

    def __init__(
        self, *, scope: str, prefixed: bool, methods: set[str], deliver: Callable[[str, dict[str, Json]], None]
    ) -> None:
        self.scope = scope
        """The only provider it can see; empty for all."""
        self.prefixed = prefixed
        self.methods = methods
        """List-change notifications it wants."""
        self.deliver = deliver
        self.resources: dict[tuple[InstanceKey, str], None] = {}
        self.closed = False
        self._due: set[str] = set()

    def hears(self, method: str) -> None:
        """Deliver a list change, once for a burst."""
        if not self._due:
            asyncio.get_running_loop().call_later(SETTLE, self._flush)
        self._due.add(method)

    def _flush(self) -> None:
        due, self._due = self._due, set()
        for method in sorted(due) if not self.closed else ():
            self.deliver(method, {})


class Subscriptions:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._ears: set[Ear] = set()
        self._wanted: dict[tuple[InstanceKey, str], int] = {}
        """How many ears listen to a resource."""
        self._letting_go: set[asyncio.Task[None]] = set()
        self._asking: dict[tuple[InstanceKey, str], asyncio.Task[None]] = {}
        """Who asks a provider for a resource just now: others wait for the same."""
        self._listening: dict[tuple[str, str], asyncio.Task[None]] = {}
        """Modern providers: one listen exchange per (instance, uri), and one for its lists (uri empty)."""

    def open(self, ear: Ear) -> None:
        self._ears.add(ear)

    async def close(self, ear: Ear, find: Callable[[InstanceKey], Instance | None]) -> None:
        """The client is gone: unsubscribe from what nobody else listens to."""
        self._ears.discard(ear)
        ear.closed = True
        for key, uri in list(ear.resources):
            instance = find(key)
            try:
                await self.unsubscribe(ear, key, uri, instance)
            except HangarError as error:
                log.info("unsubscribe_failed", provider=key.provider, error=str(error))

    # -- towards clients

    def list_changed(self, instance: Instance, kind: Kind) -> None:
        for ear in self._ears:
            if kind.changed in ear.methods and ear.scope in ("", instance.provider.name):
                ear.hears(kind.changed)

    def fleet_changed(self) -> None:
        """Providers came or went, or a gap in a list was closed: everyone looks again."""
        for ear in self._ears:
            for kind in KINDS.values():
                if kind.changed in ear.methods:
                    ear.hears(kind.changed)

    def updated(self, instance: Instance, params: Json) -> None:
        try:
            parts = _without_protocol(params)
        except RequestError as error:
            log.info("update_dropped", provider=instance.provider.name, error=error.what)
            return
        uri = envelope.text(parts.get("uri"))
        key = (instance.key, uri)
        for ear in self._ears:
            if key in ear.resources:
                shown = expose_uri(instance.provider.name, uri) if ear.prefixed else uri
                ear.deliver(UPDATED, {**parts, "uri": envelope.encode(shown)})

    # -- towards providers

    async def subscribe(self, ear: Ear, instance: Instance, uri: str) -> None:
        """Raises a `HangarError` if the provider does not agree in time, or the client has gone meanwhile."""
        key = (instance.key, uri)
        if key in ear.resources:
            return
        if len(ear.resources) >= MOST_RESOURCES:
            raise Denied("limit", limit="resources per subscription", value=MOST_RESOURCES)
        asking = self._asking.get(key)
        if asking is None and key not in self._wanted:
            asking = self._asking[key] = asyncio.create_task(self._ask_for(instance, uri), name=f"ask for {uri}")
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        if asking is not None:
            try:
                await asyncio.shield(asking)
            except asyncio.CancelledError:
                task = asyncio.create_task(self._let_go(asking, instance, uri), name=f"let go of {uri}")
                self._letting_go.add(task)
                task.add_done_callback(self._letting_go.discard)
                raise
        if ear.closed:
            if key not in self._wanted:
                await self._ask_no_more(instance, uri)
            raise CallCancelled("cancelled", detail="The client has gone.")
        if key in ear.resources:
            return
        self._wanted[key] = self._wanted.get(key, 0) + 1
        ear.resources[key] = None
        instance.pinned += 1

    async def unsubscribe(self, ear: Ear, key: InstanceKey, uri: str, instance: Instance | None) -> None:
        if (key, uri) not in ear.resources:
            return
        del ear.resources[(key, uri)]
        left = self._wanted.pop((key, uri), 1) - 1
        if left:
            self._wanted[(key, uri)] = left
        if instance is None:
            return
        instance.pinned -= 1
        if not left:
            await self._ask_no_more(instance, uri)

    async def _let_go(self, asking: asyncio.Task[None], instance: Instance, uri: str) -> None:
        """Who asked has gone before the provider agreed: unless somebody else waited too, it is taken back."""
        try:
            await asking
            await asyncio.sleep(SETTLE)  # others who waited have said so by then
            if (instance.key, uri) not in self._wanted:
                await self._ask_no_more(instance, uri)
        except HangarError as error:
            log.info("subscription_not_taken_back", provider=instance.provider.name, error=error.what)

    async def _ask_no_more(self, instance: Instance, uri: str) -> None:
        if instance.era is Era.legacy:
            await ask(instance, "resources/unsubscribe", {"uri": uri}, instance.provider.limits.call_timeout)
        else:
            self._stop_listening(instance, uri)

    def _stop_listening(self, instance: Instance, uri: str) -> None:
        task = self._listening.pop((instance.id, uri), None)
        if task is not None:
            task.cancel()

    async def _ask_for(self, instance: Instance, uri: str) -> None:
        seconds = instance.provider.limits.call_timeout
        if instance.era is Era.legacy:
            if await ask(instance, "resources/subscribe", {"uri": uri}, seconds) is None:
                raise ProtocolError(
                    "provider_protocol", provider=instance.provider.name, detail="It offers no subscriptions."
                )
            return
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listen(instance, uri, {"resourceSubscriptions": [uri]}, heard)
        try:
            async with asyncio.timeout(seconds):
                await heard
        except TimeoutError:
            self._stop_listening(instance, uri)
            raise CallTimeout(
                "timeout", name="subscriptions/listen", provider=instance.provider.name, seconds=seconds
            ) from None
        except BaseException:
            self._stop_listening(instance, uri)
            raise

    def attend(self, instance: Instance) -> None:
        """A new instance: hear of its list changes, and subscribe again to what was subscribed before it."""
        if instance.era is Era.modern:
            wanted: dict[str, object] = {
                kind.wanted: True
                for kind in KINDS.values()
                if isinstance(instance.capabilities.get(kind.capability), dict)
                and instance.capabilities[kind.capability].get("listChanged")
            }
            if wanted:
                self._listen(instance, "", wanted, None)
        for key, uri in list(self._wanted):
            if key == instance.key:
                instance.pinned += self._wanted[(key, uri)]
                task = asyncio.create_task(self._again(instance, uri), name=f"resubscribe {instance.id}")
                self._listening[(instance.id, f"again {uri}")] = task

    async def _again(self, instance: Instance, uri: str) -> None:
        try:
            await self._ask_for(instance, uri)
        except HangarError as error:
            log.warning("resubscribe_failed", provider=instance.provider.name, error=str(error))

    def forget(self, instance: Instance) -> None:
        for key in [key for key in self._listening if key[0] == instance.id]:
            self._listening.pop(key).cancel()

    def _listen(
        self, instance: Instance, uri: str, notifications: dict[str, object], heard: asyncio.Future[None] | None
    ) -> None:
        self._stop_listening(instance, uri)
        task = asyncio.create_task(
            self._keep_listening(instance, notifications, heard), name=f"listen {instance.id} {uri}".rstrip()
        )
        self._listening[(instance.id, uri)] = task

    async def _keep_listening(
        self, instance: Instance, notifications: dict[str, object], heard: asyncio.Future[None] | None
    ) -> None:
        wait, longest = _RECONNECT
        while True:
            try:
                await self._listen_once(instance, notifications, heard)
                wait = _RECONNECT[0]
            except HangarError as error:
                if heard is not None and not heard.done():
                    heard.set_exception(error)
                    return
                log.info("listen_ended", provider=instance.provider.name, error=str(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, longest)

    async def _listen_once(
        self, instance: Instance, notifications: dict[str, object], heard: asyncio.Future[None] | None
    ) -> None:
        number = next(ids)
        params = {
            "notifications": notifications,
            "_meta": {
                PROTOCOL_VERSION: MODERN_VERSION,
                CLIENT_CAPABILITIES: {},
                CLIENT_INFO: {"name": "mcp-hangar", "version": __version__},
            },
        }
        method = "subscriptions/listen"
        exchange = await instance.connection.send(
            Outgoing(
                number,
                method,
                envelope.request(number, method, envelope.encode(params)),
                b"Mcp-Method: %b\r\n" % method.encode(),
                True,
            )
        )
        try:
            message = await exchange.next()
            while message.method:
                if message.method == "notifications/subscriptions/acknowledged":
                    if heard is not None and not heard.done():
                        heard.set_result(None)
                elif message.method == UPDATED:
                    self.updated(instance, message.params)
                elif message.method in CHANGED:
                    self._catalogue.changed(instance, CHANGED[message.method])
                message = await exchange.next()
        except asyncio.CancelledError:
            exchange.fail(CallCancelled("cancelled", detail="Nobody listens any more."))
            raise
        if len(message.error):
            raise ProtocolError(
                "provider_protocol",
                provider=instance.provider.name,
                detail=f"subscriptions/listen failed: {bytes(message.error).decode(errors='replace')[:200]}",
            )


def unrelated(subscriptions: Subscriptions, catalogue: Catalogue, instance: Instance, message: Message) -> bool:
    """A notification that belongs to no call: list changes and updates. False for anything else."""
    if message.method in CHANGED:
        catalogue.changed(instance, CHANGED[message.method])
    elif message.method == UPDATED:
        subscriptions.updated(instance, message.params)
    else:
        return False
    return True


def _without_protocol(params: Json) -> dict[str, Json]:
    """A provider's params without what its protocol says to us in `_meta`: the number of our own subscription."""
    parts: dict[str, Json] = dict(envelope.members(params, "params"))
    if "_meta" in parts:
        meta = envelope.members(parts.pop("_meta"), "_meta")
        kept = [(key, value) for key, value in meta.items() if not key.startswith(OWNED)]
        if kept:
            parts["_meta"] = envelope.join(kept)
    return parts


def subscription_meta(id: Json, params: dict[str, Json]) -> bytes:
    """Params of a message on a modern listen stream: `_meta` names the listen request, with its id's own type."""
    meta: dict[str, Json] = dict(envelope.members(params["_meta"])) if "_meta" in params else {}
    meta[SUBSCRIPTION_ID] = id
    return envelope.join([*((k, v) for k, v in params.items() if k != "_meta"), ("_meta", envelope.join(meta.items()))])
