# SPDX-License-Identifier: MIT
"""Where message ids come from: one counter for the whole process, so that an id never means two requests, whichever
connections they went over, and an answer can be matched to one exchange only."""

from __future__ import annotations

import itertools
import time
from typing import Final

ids: Final = itertools.count(1)
"""`next(ids)`: the id of a request to a provider, and its progress token."""

RUN: Final = f"{time.time_ns() // 1_000_000 & 0xFFFFFFFFFF:010x}"
calls: Final = itertools.count(1)


def new_call_id() -> str:
    """A call's id: the run of Hangar and a number; sortable within a run, short enough to be typed."""
    return f"{RUN}-{next(calls):x}"
