# SPDX-License-Identifier: MIT
from __future__ import annotations

from benchmarks.trace import SOURCE, Row, shares, table


def test_shares_are_of_our_own_time_and_what_is_small_is_summed_up() -> None:
    stats = {
        (f"{SOURCE}a.py", 1, "long"): (200, 200, 0.75, 2.0, {}),
        (f"{SOURCE}a.py", 9, "short"): (100, 100, 0.248, 0.3, {}),
        (f"{SOURCE}b.py", 2, "tiny"): (50, 50, 0.002, 0.002, {}),
        ("/elsewhere/loop.py", 3, "run"): (1, 1, 9.0, 9.0, {}),
    }
    rows = shares(stats, 100)
    assert rows == [Row("a.py long", 2.0, 0.75), Row("a.py short", 1.0, 0.248), Row("1 others", 0.5, 0.002)]
    assert "| `a.py long` | 2.00 | 75.0% |" in table(rows)
