# SPDX-License-Identifier: MIT
"""Events to records and back. Encoding happens here, off the call path, once per event."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True):
    """One event as it is kept: where it stands, and its JSON (one line, no newline)."""

    seq: int
    type: str
    data: bytes
