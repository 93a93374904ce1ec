# SPDX-License-Identifier: MIT
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.application.offered import Offered, page_of, place
from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.catalogue import PROMPTS, RESOURCES, TEMPLATES, TOOLS, Kind, Offer, read_items
from mcp_hangar.domain.provider import Mode, Provider, Sharing, SubprocessLaunch


def provider(name: str) -> Provider:
    launch = SubprocessLaunch(command=("x",))
    return Provider(name=name, mode=Mode.subprocess, launch=launch, sharing=Sharing.per_caller)


def offer(**names: list[str]) -> Offer:
    kinds: dict[str, Kind] = {"tools": TOOLS, "prompts": PROMPTS, "resources": RESOURCES, "templates": TEMPLATES}
    return Offer(
        {
            kinds[kind].method: read_items(
                kinds[kind],
                [json.dumps({kinds[kind].key: name, "description": f"About {name}"}).encode() for name in listed],
            )[0]
            for kind, listed in names.items()
        }
    )


class House:
    def __init__(self, **offers: Offer | None) -> None:
        self.offers = offers
        self.offered = Offered(
            providers=lambda: {name: provider(name) for name in self.offers},
            offer=lambda one: self.offers[one.name],
            denied_by=lambda one, tool: "rule" if tool.startswith("rm") else "",
        )


HOUSE = {
    "git": offer(tools=["log", "rm"], prompts=["sum"], resources=["git://a"], templates=["git://{x}"]),
    "time": offer(tools=["now"], resources=["time://z"]),
    "cold": None,
}


def test_tools_of_all_providers_are_searched_and_denied_ones_marked() -> None:
    offered = House(**HOUSE).offered
    every = offered.tools("", "", "", 100)
    assert [(row.provider, row.name, row.denied_by) for row in every.tools] == [
        ("git", "log", ""),
        ("git", "rm", "rule"),
        ("time", "now", ""),
    ]
    assert every.unknown == ["cold"]
    assert [row.name for row in offered.tools("", "ABOUT log", "", 100).tools] == ["log"]
    assert [row.name for row in offered.tools("time", "", "", 100).tools] == ["now"]


def test_resources_and_templates_are_one_list_and_can_be_told_apart() -> None:
    offered = House(**HOUSE).offered
    assert [row.uri for row in offered.resources("", "", None, "", 100).resources] == [
        "git://a", "git://{x}", "time://z",
    ]  # fmt: skip
    assert [row.uri for row in offered.resources("", "", True, "", 100).resources] == ["git://{x}"]
    assert [row.uri for row in offered.resources("git", "", False, "", 100).resources] == ["git://a"]
    assert [row.name for row in offered.prompts("", "", "", 100).prompts] == ["sum"]


def test_an_unknown_provider_is_named_with_those_that_there_are() -> None:
    with pytest.raises(RequestError) as caught:
        House(**HOUSE).offered.tools("tiem", "", "", 100)
    assert (caught.value.code, caught.value.facts["known"]) == ("unknown_provider", "cold, git, time")


def test_another_offer_of_a_provider_replaces_what_was_shown() -> None:
    house = House(time=offer(tools=["now"]))
    assert [row.name for row in house.offered.tools("", "", "", 100).tools] == ["now"]
    house.offers["time"] = offer(tools=["then"])
    assert [row.name for row in house.offered.tools("", "", "", 100).tools] == ["then"]


def test_what_a_provider_writes_where_text_belongs_does_not_matter() -> None:
    raw = b'{"name":"odd","title":7,"description":null,"inputSchema":{}}'
    offered = House(time=Offer({TOOLS.method: read_items(TOOLS, [raw])[0]})).offered
    (row,) = offered.tools("", "", "", 100).tools
    assert (row.title, row.description, bytes(row.definition)) == ("", "", raw)


NAMES = st.lists(st.tuples(st.sampled_from(["a", "a-b", "b"]), st.text(max_size=8)), unique=True, max_size=30)


@given(NAMES, st.integers(1, 10))
def test_page_by_page_each_row_comes_once_and_in_order(names: list[tuple[str, str]], limit: int) -> None:
    found: list[tuple[str, str]] = []
    cursor = ""
    while True:
        page, cursor = page_of(names, lambda row: place(*row), cursor, limit)
        found += page
        if not cursor:
            break
        assert len(page) == limit
    assert found == sorted(names)


@given(NAMES, NAMES, st.integers(1, 10))
def test_rows_that_stay_are_neither_lost_nor_repeated_when_others_come_and_go(
    before: list[tuple[str, str]], after: list[tuple[str, str]], limit: int
) -> None:
    first, cursor = page_of(before, lambda row: place(*row), "", limit)
    rest: list[tuple[str, str]] = []
    while cursor:
        page, cursor = page_of(after, lambda row: place(*row), cursor, limit)
        rest += page
    stayed = [row for row in before if row in after]
    told = [row for row in first + rest if row in stayed]
    assert len(told) == len(set(told))
    if rest or len(before) > limit:
        assert set(stayed) <= set(told)


def test_names_of_any_length_have_a_cursor_of_bounded_length() -> None:
    names = [("p", "x" * 5_000 + str(number)) for number in range(5)]
    found: list[tuple[str, str]] = []
    cursor = ""
    for _ in names:
        page, cursor = page_of(names, lambda row: place(*row), cursor, 1)
        assert len(cursor) <= 700
        found += page
    assert not cursor
    assert sorted(found) == names
