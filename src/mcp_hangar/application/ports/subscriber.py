# SPDX-License-Identifier: MIT
"""Port: be told of events, in order, in batches, after the fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcp_hangar.application.event_codec import Record


class Subscriber(Protocol):
    name: str
    effects_outside: bool
    """True: run once per cluster (audit file, export). False: a local view."""

    async def see(self, records: Sequence[Record]) -> None:
        """Take them all or raise; after a raise the same records come again."""

    async def close(self) -> None: ...
