# SPDX-License-Identifier: MIT
"""Does it start? Each candidate is really started, asked what it offers, and ended again, by the parts that `hangar
serve` is built of."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mcp_hangar.domain.errors import HangarError
from mcp_hangar.domain.mcp.catalogue import TOOLS, Offer
from mcp_hangar.domain.provider import Mode, Provider
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config import Settings

AT_ONCE: Final = 4
LINES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    started: bool
    why: str = ""
    fix: str = ""
    stderr: list[str] = field(default_factory=list)
    """The newest lines, where it did not start."""
    tools: int | None = None
    destructive: tuple[str, ...] = ()
    """Tools that say of themselves that they may destroy something."""


async def try_all(
    settings: Settings, environment: Mapping[str, str], *, hide: frozenset[str], on_done: Callable[[str], None]
) -> dict[str, Outcome]:
    """Start every provider of `settings`, a few at a time, each within its `lifecycle.start_timeout`. What is in `hide`
    appears in no outcome."""
    house = House(settings, environment=environment, hash_key=os.urandom(32), state=None, subscribers=[])
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(provider: Provider) -> Outcome:
        async with slots:
            outcome = await _try(house, provider)
        on_done(provider.name)
        return _without(outcome, hide)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(one(provider)) for name, provider in settings.providers.items()}
        return {name: task.result() for name, task in tasks.items()}
    finally:
        await house.stop(0)


async def _try(house: House, provider: Provider) -> Outcome:
    deadline = asyncio.get_running_loop().time() + provider.lifecycle.start_timeout
    key = house.instances.key(provider, "init", "{}", "init")
    try:
        instance = await house.instances.ready(provider, key, deadline)
        async with asyncio.timeout(provider.lifecycle.start_timeout):
            offer = await house.catalogue.load(instance)
    except HangarError as error:
        stderr = house.launchers[provider.mode].logs(provider.name)[-LINES:]
        return Outcome(started=False, why=_told(error), fix=_fix(error, provider), stderr=stderr)
    except TimeoutError:
        return Outcome(started=False, why="It started, but never said what it offers.")
    await house.instances.stop(provider.name)
    return Outcome(started=True, tools=len(offer.of(TOOLS)), destructive=_destructive(offer))


def _told(error: HangarError) -> str:
    """The reason; that the start failed is known already."""
    return error.why if error.code == "start_failed" else f"{error.what} {error.why}"


def _fix(error: HangarError, provider: Provider) -> str:
    if provider.mode is Mode.remote and error.code == "upstream_auth":
        return "Add a header with a token; a server that wants a login in the browser stays with its client."
    # No Hangar runs yet whose logs could be asked for.
    return "" if "hangar logs" in error.fix else error.fix


def _destructive(offer: Offer) -> tuple[str, ...]:
    found = []
    for name, item in offer.of(TOOLS).items():
        annotations = json.loads(bytes(item.raw)).get("annotations")
        if isinstance(annotations, dict) and annotations.get("destructiveHint") is True:
            found.append(name)
    return tuple(found)


def _without(outcome: Outcome, hide: frozenset[str]) -> Outcome:
    def clean(text: str) -> str:
        for secret in sorted(hide, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    return Outcome(
        started=outcome.started,
        why=clean(outcome.why),
        fix=clean(outcome.fix),
        stderr=[clean(line) for line in outcome.stderr],
        tools=outcome.tools,
        destructive=outcome.destructive,
    )
