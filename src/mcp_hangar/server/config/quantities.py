# SPDX-License-Identifier: MIT
"""Durations, sizes and ranges as people write them (`30s`, `4MiB`, `1s..60s`), and back, exact both ways."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from mcp_hangar.domain.provider import Backoff

LONGEST: Final = 366 * 24 * 3600.0
"""Seconds. Longer is a mistake, and would only hide one."""
LARGEST: Final = 64 * 1024**3

_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h)", re.ASCII)
_SECONDS: Final = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_SIZE: Final = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB|Ki|Mi|Gi)?", re.ASCII)
_BYTES: Final = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}

DURATION_PATTERN: Final = r"^(0|\d{1,12}(\.\d{1,6})?(ms|s|m|h))$"
SIZE_PATTERN: Final = r"^\d{1,12}(B|KiB|MiB|GiB|Ki|Mi|Gi)?$"
BACKOFF_PATTERN: Final = r"^\d{1,12}(\.\d{1,6})?(ms|s|m|h)\.\.\d{1,12}(\.\d{1,6})?(ms|s|m|h)$"


def parse_duration(text: str) -> float:
    """Seconds. `ValueError` says what was expected."""
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError("expected a duration such as 500ms, 30s, 5m or 1h")
    seconds = float(Decimal(found[1]) * _SECONDS[found[2]])
    if seconds > LONGEST:
        raise ValueError("expected a duration of at most 366 days")
    return seconds


def format_duration(seconds: float) -> str:
    exact = Decimal(repr(seconds))
    if not exact:
        return "0s"
    for unit, length in _SECONDS.items():
        if exact % length == 0:
            return f"{int(exact / length)}{unit}"
    return f"{(exact / _SECONDS['ms']).normalize():f}ms"


def parse_size(text: str) -> int:
    """Bytes. `ValueError` says what was expected."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError("expected a size such as 64KiB, 4MiB or 1GiB")
    unit = found[2] or "B"
    size = int(found[1]) * _BYTES[unit if unit.endswith("B") else unit + "B"]
    if size > LARGEST:
        raise ValueError("expected a size of at most 64GiB")
    return size


def format_size(size: int) -> str:
    for unit, length in _BYTES.items():
        if size >= length and size % length == 0:
            return f"{size // length}{unit}"
    return "0B"


def parse_backoff(text: str) -> Backoff:
    """`1s..60s`: the first wait and the longest. `ValueError` says what was expected."""
    first, dots, longest = text.partition("..")
    if not dots:
        raise ValueError("expected a range of durations such as 1s..60s")
    backoff = Backoff(first=parse_duration(first), longest=parse_duration(longest))
    if not 0 < backoff.first <= backoff.longest:
        raise ValueError("expected the first wait above zero and not above the longest, such as 1s..60s")
    return backoff


def format_backoff(backoff: Backoff) -> str:
    return f"{format_duration(backoff.first)}..{format_duration(backoff.longest)}"
