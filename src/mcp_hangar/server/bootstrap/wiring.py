# SPDX-License-Identifier: MIT
"""The one composition root: configuration in, a running house out. Top to bottom, nothing hidden."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import structlog

from mcp_hangar import __version__
from mcp_hangar.application.catalogue import Catalogue, CatalogueCache
from mcp_hangar.application.event_codec import ArgumentsMode, Codec
from mcp_hangar.application.event_log import EventLog, Overflow
from mcp_hangar.application.fleet import Fleet
from mcp_hangar.application.flight import Answer, Flight, Own
from mcp_hangar.application.instances import Instance, Instances
from mcp_hangar.application.listing import Listing
from mcp_hangar.application.ports.launcher import Launcher
from mcp_hangar.application.ports.subscriber import Subscriber
from mcp_hangar.application.probing import Prober
from mcp_hangar.application.proxy import OWN, Proxy
from mcp_hangar.application.questions import Questions
from mcp_hangar.application.seal import Seal
from mcp_hangar.application.sessions import ClientSession, Sessions
from mcp_hangar.application.subscriptions import Subscriptions, unrelated
from mcp_hangar.application.views import Views
from mcp_hangar.domain.call import Call
from mcp_hangar.domain.errors import HangarError
from mcp_hangar.domain.events import (
    CapabilityUnenforced,
    ConfigLoaded,
    ProviderRegistered,
    SystemStarted,
    SystemStopping,
)
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.domain.policy import ToolJudge, decide
from mcp_hangar.domain.provider import Mode
from mcp_hangar.server.config import Settings
from mcp_hangar.server.hangar_tools import DEFINITIONS, HangarTools, offered
from mcp_hangar.server.mcp_methods import Methods

log = structlog.get_logger(__name__)


class State(CatalogueCache, Protocol):
    """What a restart must not forget."""

    async def held(self) -> frozenset[str]: ...

    async def hold(self, provider: str) -> None: ...

    async def release(self, provider: str) -> None: ...


class House:
    """All parts, built and connected, not yet running: `server/bootstrap/background.py` starts the loops."""

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str],
        hash_key: bytes,
        state: State | None,
        subscribers: list[Subscriber],
    ) -> None:
        self.settings = settings
        self.environment = environment
        self._state = state
        self._held: set[str] = set()
        epoch = uuid.uuid4().hex[:12]

        # the record
        self.views = Views(epoch=epoch, keep=settings.events.keep)
        self.log = EventLog(
            [*subscribers, self.views],
            codec=Codec(epoch=epoch, hash_key=hash_key, arguments=ArgumentsMode(settings.audit.arguments)),
            backlog_bytes=settings.events.backlog_bytes,
            on_overflow=Overflow(settings.events.on_overflow),
        )

        # providers
        self.launchers = launchers(settings, environment)
        self.instances = Instances(self.launchers, self.log.append)
        self.prober = Prober(self.instances)
        self.catalogue = Catalogue(
            instances=self.instances, record=self.log.append, on_changed=self._list_changed, cache=state
        )
        self.subscriptions = Subscriptions(self.catalogue)
        self.instances.on_ready = self._ready
        self.instances.on_gone = self._gone
        self.instances.on_message = self._said

        # the call path
        rules = {name: provider.tools for name, provider in settings.providers.items()}
        judge = ToolJudge(rules)
        self.fleet = Fleet(providers={**settings.providers, OWN.name: OWN}, judges=(judge,) if judge.has_rules else ())
        self.seal = Seal(settings.server.session_key or os.urandom(32), time.time)
        self.questions = Questions(
            seal=self.seal,
            log=self.log,
            decide=lambda call: decide(call, self.proxy.fleet.providers[call.provider], self.proxy.fleet.judges),
            limit=settings.server.limits.parked,
        )
        own: dict[str, Own] = {}
        self.proxy = Proxy(
            fleet=self.fleet,
            instances=self.instances,
            catalogue=self.catalogue,
            questions=self.questions,
            seal=self.seal,
            log=self.log,
            own=own,
            subscribe=self._subscribe,
        )

        # the doors
        self.sessions = Sessions(
            limit=settings.server.limits.sessions,
            per_caller=settings.server.limits.sessions_per_caller,
            idle=settings.server.session_idle,
            on_closed=self._session_closed,
        )
        self.listing = Listing(
            fleet=lambda: self.proxy.fleet,
            catalogue=self.catalogue,
            instances=self.instances,
            timeout=settings.expose.list_timeout,
            own_tools=[envelope.encode(DEFINITIONS[name]) for name in offered(settings.expose.hangar_tools)],
            on_completed=self.subscriptions.fleet_changed,
        )
        self.methods = Methods(
            proxy=self.proxy,
            listing=self.listing,
            sessions=self.sessions,
            subscriptions=self.subscriptions,
            instances=self.instances,
            seal=self.seal,
            prefixed=settings.expose.prefix == "always",
            start_timeout=settings.expose.list_timeout,
        )
        self.tools = HangarTools(
            setting=settings.expose.hangar_tools,
            batch=settings.server.limits.batch,
            listing=self.listing,
            instances=self.instances,
            call_of=self.methods.call_of,
            hold=self.hold,
            proxy=lambda: self.proxy,
        )
        own.update(self.tools.handlers)
        self.tasks: set[asyncio.Task[Any]] = set()

    async def hold(self, provider: str, held: bool) -> None:
        """Stop a provider until it is started again, or the opposite; remembered before it is done."""
        if held:
            if self._state is not None:
                await self._state.hold(provider)
            self._held.add(provider)
            await self.instances.stop(provider, held=True)
        else:
            if self._state is not None:
                await self._state.release(provider)
            self._held.discard(provider)
            await self.instances.start(provider)

    async def heed_holds(self) -> None:
        """What another Hangar, or an earlier run, stopped or started."""
        if self._state is None:
            return
        held = set(await self._state.held()) & set(self.settings.providers)
        for provider in held - self._held:
            self._held.add(provider)
            await self.instances.stop(provider, held=True)
        for provider in self._held - held:
            self._held.discard(provider)
            await self.instances.start(provider)

    def announce(self) -> None:
        """The first events: what runs, from which configuration, with which providers, and what nothing enforces."""
        now = time.time()
        self.log.append(SystemStarted(at=now, software=f"mcp-hangar {__version__}", pid=os.getpid()))
        self.log.append(ConfigLoaded(at=now, file=str(self.settings.file), digest=self.settings.digest))
        for provider in self.settings.providers.values():
            self.log.append(ProviderRegistered(at=now, provider=provider.name, mode=provider.mode.value))
            self.log.append(CapabilityUnenforced(at=now, provider=provider.name, capabilities=provider.unenforced))

    async def stop(self, grace: float) -> None:
        """Take no new calls, finish those under way, end everything, write the last event."""
        self.proxy.stopping = True
        self.log.append(SystemStopping(at=time.time()))
        for stream in list(self.methods.streams):
            stream.finish()
        self.questions.close()
        self.listing.close()
        try:
            async with asyncio.timeout(grace):
                await self.instances.drain()
        except TimeoutError:
            log.warning("calls_cut_short", in_flight=len(self.proxy.in_flight))
            for flight in list(self.proxy.in_flight.values()):
                flight.cancel("Hangar is stopping.")
        for session in self.sessions.all():
            self.sessions.close(session)
        await self.instances.close()
        for launcher in self.launchers.values():
            await launcher.close()
        await self.log.close()

    # -- what providers tell

    def _ready(self, instance: Instance) -> None:
        self.catalogue.begin(instance)
        self.subscriptions.attend(instance)

    def _gone(self, instance: Instance, error: HangarError | None) -> None:
        self.catalogue.forget(instance)
        self.subscriptions.forget(instance)
        self.questions.gone(instance)
        self.proxy.gone(instance)

    def _list_changed(self, instance: Instance, kind: Any) -> None:
        self.subscriptions.list_changed(instance, kind)

    def _said(self, instance: Instance, message: Message) -> None:
        """Something a provider said that belongs to no call."""
        if message.is_request or not unrelated(self.subscriptions, self.catalogue, instance, message):
            self.spawn(self.methods.stray(instance, message), f"stray {instance.id}")

    async def _subscribe(self, call: Call, flight: Flight, instance: Instance) -> Answer:
        return await self.methods.subscribe(call, flight, instance)

    def _session_closed(self, session: ClientSession) -> None:
        self.spawn(self.methods.closed(session), f"closing session {session.id[:8]}")

    def spawn(self, work: Any, name: str) -> None:
        """A task off the call path, kept until it is done; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background_task_failed", task=task.get_name(), error=repr(task.exception()))


def launchers(settings: Settings, environment: Mapping[str, str]) -> dict[Mode, Launcher]:
    """An adapter for each mode that is configured; what is not configured is not imported."""
    found: dict[Mode, Launcher] = {}
    for mode in {provider.mode for provider in settings.providers.values()}:
        if mode is Mode.subprocess:
            from mcp_hangar.infrastructure.launchers.subprocess import SubprocessLauncher

            found[mode] = SubprocessLauncher(environment)
        elif mode is Mode.remote:
            from mcp_hangar.infrastructure.launchers.remote import RemoteLauncher

            found[mode] = RemoteLauncher()
    return found
