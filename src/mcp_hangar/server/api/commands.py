# SPDX-License-Identifier: MIT
"""What REST asks of the house beyond reading."""

from __future__ import annotations

from typing import Any, Protocol


class Commands(Protocol):
    """What REST may change."""

    async def start(self, provider: str) -> None:
        """Lift an operator's hold."""

    async def stop(self, provider: str) -> None:
        """End it, and keep it stopped until it is started."""

    async def meet(self, provider: str) -> None:
        """Start it if nobody ever asked what it offers, and wait for the answer within `expose.list_timeout`. That it
        cannot be had is no error here: its status says why."""

    async def invoke(self, provider: str, tool: str, arguments: bytes) -> dict[str, Any]:
        """Call a tool on the one path: `call_id`, and `result` as the provider wrote it (`msgspec.Raw`).

        Raises `HangarError`; its fact `call_id`, where there is one, is told too.
        """
