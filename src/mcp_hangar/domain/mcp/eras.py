# SPDX-License-Identifier: MIT
"""The protocol's revisions as tables: which exist, which methods each knows, what each method names.

*Legacy* is 2025-11-25 and older (`initialize`, sessions); *modern* is 2026-07-28 (stateless, per-request `_meta`).
"""

from __future__ import annotations

import enum
from typing import Final


class Era(enum.StrEnum):
    legacy = "legacy"
    modern = "modern"


MODERN_VERSION: Final = "2026-07-28"
MODERN_VERSIONS: Final = ("2026-07-28",)
LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
NEWEST_LEGACY: Final = "2025-11-25"
BATCHING_VERSION: Final = "2025-03-26"
"""The only revision with JSON-RPC batches."""

PROTOCOL_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
HANGAR_SESSION: Final = "io.mcp-hangar/session"
"""Our own `_meta` key: the governance session, where a modern client sends one."""
HANGAR_PREFIX: Final = "io.mcp-hangar/"
"""Reserved for Hangar; stripped from what a caller or a provider sends."""
OWNED: Final = ("io.modelcontextprotocol/", HANGAR_PREFIX)
"""Prefixes of the `_meta` keys that say something about one connection only: never passed on as they came."""

NAME_PARAM: Final[dict[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""The parameter that `Mcp-Name` mirrors."""

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
