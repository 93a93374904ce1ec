# SPDX-License-Identifier: MIT
"""Names of providers and tools for the shell's completion, from the Hangar that runs. Whatever goes wrong, there is
nothing to complete: a shell waits for the answer, and shows what is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

PATIENCE: Final = 2.0
"""Seconds that a person at a prompt may be kept waiting."""

Names = Callable[..., list[tuple[str, str]]]


def _providers(incomplete: str) -> list[tuple[str, str]]:
    rows = _ask(lambda hangar: hangar.providers())
    return [(row["name"], f"{row['mode']}, {row['state']}") for row in rows if row["name"].startswith(incomplete)]


def _tools(ctx: Any, incomplete: str) -> list[tuple[str, str]]:
    provider = ctx.params.get("provider") or ""
    rows = _ask(lambda hangar: hangar.tools(provider)["tools"])
    return [
        (row["name"], row["description"].strip().split("\n")[0][:60])
        for row in rows
        if row["name"].startswith(incomplete) and not row["denied_by"] and row["name"].isprintable()
    ]


def _ask(question: Callable[[Any], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    from mcp_hangar.client import HangarClient, HangarError

    try:
        with HangarClient.find(timeout=PATIENCE) as hangar:
            return question(hangar)
    except (HangarError, OSError, KeyError, ValueError):
        return []


PROVIDERS: Final[Names] = _providers
TOOLS: Final[Names] = _tools
