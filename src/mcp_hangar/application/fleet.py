# SPDX-License-Identifier: MIT
"""Everything this Hangar knows, in one snapshot that is replaced whole: a call reads it once."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_hangar.domain.contracts.policy import Judge
from mcp_hangar.domain.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    providers: dict[str, Provider]
    judges: tuple[Judge, ...]
