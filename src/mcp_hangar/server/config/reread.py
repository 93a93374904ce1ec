# SPDX-License-Identifier: MIT
"""The configured file read again while Hangar runs: what is wrong with it, and whether it differs from what is in
effect. Nothing is applied, and which file it is nobody may choose here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from mcp_hangar.domain.errors import ConfigError
from mcp_hangar.server.config import Settings, load


class EffectiveConfig(msgspec.Struct, frozen=True):
    """What is in effect."""

    file: str
    digest: str
    """SHA-256 of the file as it was read."""
    config: dict[str, Any]
    """Defaults filled in, secrets masked."""


class ProblemRow(msgspec.Struct, frozen=True):
    """One mistake."""

    file: str
    line: int
    """From 1; 0 where there is no place."""
    column: int
    what: str
    fix: str
    code: str
    """See docs/reference/errors.md."""


class ConfigCheck(msgspec.Struct, frozen=True):
    ok: bool
    file: str
    digest: str
    """SHA-256 of the file as it is now; empty if it cannot be used."""
    changed: bool
    """It is not what is in effect: a restart would bring something else, or fail."""
    problems: list[ProblemRow]


class Configuration:
    """The settings that are in effect, and the file that they came from."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings, self._environment = settings, environment
        self._reading: asyncio.Task[ConfigCheck] | None = None

    def effective(self) -> EffectiveConfig:
        return EffectiveConfig(str(self._settings.file), self._settings.digest, dict(self._settings.shown))

    async def check(self) -> ConfigCheck:
        """Read in a thread, since a large file takes a while; once for all who ask meanwhile."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._check), name="config check")
            self._reading.add_done_callback(self._read)
        return await asyncio.shield(self._reading)

    def _read(self, task: asyncio.Task[ConfigCheck]) -> None:
        self._reading = None

    def _check(self) -> ConfigCheck:
        file = self._settings.file
        try:
            found = load(file, self._environment, unsafe_no_auth=self._settings.unsafe_no_auth)
        except ConfigError as error:
            problems = [
                ProblemRow(one.file, one.line, one.column, one.what, one.fix, one.code) for one in error.problems
            ]
            return ConfigCheck(False, str(file), "", True, problems)
        return ConfigCheck(True, str(file), found.digest, found.digest != self._settings.digest, [])
