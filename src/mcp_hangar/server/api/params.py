# SPDX-License-Identifier: MIT
"""Parameters that several routes take: checked strictly, described once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import AfterValidator

from mcp_hangar.application.kept_records import FAMILIES, TYPES
from mcp_hangar.domain.events import Severity

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def one_of(words: Iterable[str]) -> AfterValidator:
    known = tuple(words)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return AfterValidator(check)


def some_of(words: Iterable[str]) -> AfterValidator:
    known = tuple(words)

    def check(value: str) -> str:
        for word in value.split(","):
            if word not in known:
                raise ValueError(f"there is no {word!r}; there are: {', '.join(known)}")
        return value

    return AfterValidator(check)


def choice(words: Iterable[str], description: str, example: str) -> Any:
    """One of a closed set of words. Absent: all."""
    return Query(description=description, json_schema_extra={"enum": list(words), "examples": [example]})


def instant(value: str) -> str:
    """RFC 3339 as records have it: in UTC, with microseconds."""
    if not _INSTANT.fullmatch(value):
        raise ValueError("must be a time as RFC 3339 has it, with its zone, such as 2026-11-28T12:00:00Z")
    whole, mark, rest = value.upper().partition(".")
    if mark:  # as many digits as Python reads
        digits = re.match(r"\d+", rest)
        assert digits is not None
        whole += f".{digits[0][:6]:0<6}{rest[digits.end() :]}"
    try:
        at = datetime.fromisoformat(whole.replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("there is no such time") from None
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


_WHEN: Final[dict[str, Any]] = {"format": "date-time"}

Name = Annotated[str, Path(max_length=64, description="A provider's name.", examples=["time"])]
Provider = Annotated[str, Query(max_length=64, description="Only this provider's.", examples=["time"])]
Words = Annotated[
    str, Query(alias="query", max_length=200, description="Words that name or description contain.", examples=["time"])
]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.", examples=[100])]
Page = Annotated[
    str,
    Query(alias="cursor", max_length=700, description="Of the page before: go on after it.", examples=["time/convert"]),
]
Since = Annotated[
    str,
    AfterValidator(instant),
    Query(
        json_schema_extra=_WHEN,
        description="From then on (RFC 3339).",
        examples=["2026-11-28T12:00:00Z"],
    ),
]
Until = Annotated[
    str,
    AfterValidator(instant),
    Query(
        json_schema_extra=_WHEN,
        description="Before then (RFC 3339).",
        examples=["2036-11-28T12:00:00Z"],
    ),
]
Cursor = r"^[0-9a-z]{1,40}:[0-9]{1,18}$"
"""Of a place in the record."""
_EVENTS: Final = (*FAMILIES, *TYPES)
_EVENT: Final = "|".join(map(re.escape, _EVENTS))
Families = Annotated[
    str,
    some_of(_EVENTS),
    Query(
        json_schema_extra={"pattern": f"^({_EVENT})(,({_EVENT}))*$"},
        description=f"Families or types of events, with commas between. Families: {', '.join(FAMILIES)}.",
        examples=["call.denied,auth"],
    ),
]
SEVERITIES: Final = tuple(severity.value for severity in Severity)
