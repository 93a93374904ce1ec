# SPDX-License-Identifier: BUSL-1.1
"""The whole boundary to the core in one function: core hands over what is replaceable and takes back what to use.

Core finds it by the entry point group `mcp_hangar.extensions`, so that neither names the other in an import.
"""

from __future__ import annotations

from typing import TypeVar

Parts = TypeVar("Parts")


def extend(parts: Parts, license: object, settings: object) -> Parts:
    """The parts to build the house from. No licensed feature exists yet, so they are the parts that came in."""
    return parts
