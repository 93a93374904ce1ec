# SPDX-License-Identifier: MIT
"""What the docs show is what was measured."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.__main__ import LATEST, PAGE, README
from benchmarks.report import BEGIN, END, Results, page, readme_table, with_table


@pytest.fixture(scope="module")
def latest() -> Results:
    return msgspec.json.decode(LATEST.read_bytes(), type=Results)


def test_the_page_is_made_from_the_latest_results(latest: Results) -> None:
    assert PAGE.read_text() == page(latest), "make bench writes both"


def test_the_readme_shows_the_same_run(latest: Results) -> None:
    readme = README.read_text()
    assert readme == with_table(readme, latest), "make bench writes both"
    assert "MCP Hangar, everything on" in readme_table(latest)


def test_only_the_place_between_the_markers_is_written(latest: Results) -> None:
    written = with_table(f"before\n{BEGIN}\nold\n{END}\nafter", latest)
    assert written.startswith(f"before\n{BEGIN}\n| ") and written.endswith(f"{END}\nafter")
    assert "old" not in written.split()
    with pytest.raises(ValueError, match=r"README\.md"):
        with_table("no markers", latest)
