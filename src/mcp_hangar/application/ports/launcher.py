# SPDX-License-Identifier: MIT
"""Port: run or reach a provider. One adapter per mode; imported only when a provider of that mode is configured."""

from __future__ import annotations

from typing import Protocol

from mcp_hangar.application.ports.connection import Connection
from mcp_hangar.domain.provider import Provider


class Launcher(Protocol):
    def wires(self, provider: Provider) -> tuple[str, ...]:
        """The wires this provider may speak, best first (`stdio`; `streamable_http`, `legacy_sse`). If it answers the
        handshake on one with a 4xx that means "not here" (`TransportError` with fact `status` 400, 404, 405, 406, 415),
        the next is tried."""

    async def launch(self, provider: Provider, instance: str, wire: str) -> Connection:
        """A connection over which nothing was said yet. `instance` is unique, for logs and process titles.

        Raises `StartFailed` with `detail` and `fix` filled for a person. Leaves nothing behind if it raises or is
        cancelled.
        """

    def logs(self, provider: str) -> list[str]:
        """The newest lines the provider wrote to stderr (all instances), oldest first; empty where there are none."""

    async def close(self) -> None:
        """End everything it launched."""
