# SPDX-License-Identifier: MIT
"""Durations and sizes: what is shown is read as the same value again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.provider import Backoff
from mcp_hangar.server.config import quantities as q


@given(st.integers(0, int(q.LONGEST * 1000)))
def test_every_duration_survives_being_written_and_read(millis: int) -> None:
    seconds = millis / 1000
    assert q.parse_duration(q.format_duration(seconds)) == seconds


@given(st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,6})?(ms|s|m)", fullmatch=True))
def test_every_written_duration_keeps_its_value_when_it_is_shown(text: str) -> None:
    seconds = q.parse_duration(text)
    shown = q.format_duration(seconds)
    assert q.parse_duration(shown) == seconds
    assert re.match(q.DURATION_PATTERN, shown)


@given(st.integers(0, q.LARGEST))
def test_every_size_survives_being_written_and_read(size: int) -> None:
    shown = q.format_size(size)
    assert q.parse_size(shown) == size
    assert re.match(q.SIZE_PATTERN, shown)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_every_range_survives_being_written_and_read(first: int, more: int) -> None:
    backoff = Backoff(first=first / 1000, longest=(first + more) / 1000)
    shown = q.format_backoff(backoff)
    assert q.parse_backoff(shown) == backoff
    assert re.match(q.BACKOFF_PATTERN, shown)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("500ms", 0.5), ("30s", 30), ("1.5s", 1.5), ("5m", 300), ("1h", 3600)]
)
def test_a_duration_is_read_as_it_is_meant(text: str, seconds: float) -> None:
    assert q.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1024", 1024), ("7B", 7), ("64KiB", 65536), ("256Mi", 2**28), ("1GiB", 2**30)]
)
def test_a_size_is_read_as_it_is_meant(text: str, size: int) -> None:
    assert q.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "s", "30", "1d", "-1s", "1s ", "1 s", "1e3s", "\u0661s", "1,5s", "9999999999s", "8785h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        q.parse_duration(text)


@pytest.mark.parametrize("text", ["", "MiB", "1MB", "1kb", "-1", "1.5MiB", "1 MiB", "\u0663", "65GiB", "9" * 13])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        q.parse_size(text)


@pytest.mark.parametrize("text", ["", "1s", "1s-5s", "0s..5s", "5s..1s", "1s..", "..1s", "1s..2s..3s"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        q.parse_backoff(text)
