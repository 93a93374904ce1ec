# SPDX-License-Identifier: MIT
"""Contract: judge a call before it happens. Pure and synchronous; core's own judge and enterprise's keep it alike."""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from mcp_hangar.domain.call import Call
from mcp_hangar.domain.provider import Provider


class Effect(enum.StrEnum):
    allow = "allow"
    deny = "deny"


class PolicyDecision(msgspec.Struct, frozen=True, kw_only=True):
    effect: Effect
    policy: str
    """Which policy said so; stable, for the record."""
    reason: str
    way_out: str = ""
    """What the caller may do instead."""
    hidden: bool = True
    """The caller may not know that the name exists: answer as the unknown is answered."""


class Judge(Protocol):
    """Judges a call by who calls what. It must not look at the clock or the world.

    Called with the same arguments for a listing (one name at a time) as for a call.
    """

    name: str

    def judge(self, call: Call, target: Provider) -> PolicyDecision | None:
        """Allow, deny, or None to abstain."""
