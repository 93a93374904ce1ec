# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.mcp.catalogue import (
    CHANGED,
    KINDS,
    NOTHING,
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    Item,
    Kind,
    Offer,
    expose_item,
    read_items,
)
from mcp_hangar.domain.mcp.names import expose_name, split_name
from tests.domain.mcp.json_texts import objects, pairs_of, texts


def items_of(kind: Kind, *definitions: dict[str, Any] | str) -> dict[str, Item]:
    raws = [each.encode() if isinstance(each, str) else json.dumps(each).encode() for each in definitions]
    items, refused = read_items(kind, list(raws))
    assert refused == []
    return items


def shown(
    kind: Kind, definition: dict[str, Any] | str, *, prefixed: bool = True, modern: bool = True
) -> dict[str, Any]:
    (item,) = items_of(kind, definition).values()
    found = json.loads(expose_item(kind, item, "time", prefixed, modern))
    assert isinstance(found, dict)
    return found


def test_items_are_known_by_their_own_key_and_kept_as_they_came() -> None:
    for kind in KINDS.values():
        raw = f'{{ "{kind.key}" : "x{{y}}", "size": 1.50, "ünknown": [] }}'
        items = items_of(kind, raw)
        assert list(items) == ["x{y}"]
        assert items["x{y}"].raw == raw.encode()
        assert (items["x{y}"].template is not None) is (kind is TEMPLATES)


@pytest.mark.parametrize(
    "raw", ["7", "[]", "{}", '{"name":""}', '{"name":7}', '{"name":"a","name":"b"}', '{"name":"a"', '{"\\ud800":1}']
)
def test_what_is_no_definition_is_refused_and_the_rest_stays(raw: str) -> None:
    items, refused = read_items(TOOLS, [raw.encode(), b'{"name":"good"}'])
    assert list(items) == ["good"]
    assert len(refused) == 1


def test_a_repeated_name_keeps_its_first_owner() -> None:
    items, refused = read_items(TOOLS, [b'{"name":"a","title":"1"}', b'{"name":"a","title":"2"}'])
    assert items["a"].raw == b'{"name":"a","title":"1"}'
    assert len(refused) == 1


def test_a_tool_with_invalid_header_annotations_is_refused() -> None:
    def tool(name: str, annotation: str) -> bytes:
        schema = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": annotation}}}
        return json.dumps({"name": name, "inputSchema": schema}).encode()

    items, refused = read_items(TOOLS, [tool("good", "Region"), tool("bad", "not a token")])
    assert list(items) == ["good"]
    assert [param.token for param in items["good"].headers] == ["Region"]
    assert "bad" in refused[0]
    deep = b'{"name":"deep","inputSchema":{"x-mcp-header":' + b"[" * 900 + b"]" * 900 + b"}}"
    huge = b'{"name":"huge","inputSchema":{"x-mcp-header":"A","maximum":1e999}}'
    assert read_items(TOOLS, [deep, huge])[0] == {}


@given(objects(texts, st.sampled_from(["title", "é", "_meta", "x"])))
def test_only_the_name_changes_and_all_else_survives_spelled_as_it_came(text: str) -> None:
    pairs = pairs_of(text)
    raw = '{"name":"tool",' + text[1:] if pairs else '{"name":"tool"}'
    items, refused = read_items(TOOLS, [raw.encode()])
    assert bool(refused) is (len(dict(pairs)) != len(pairs))
    for item in items.values():
        assert expose_item(TOOLS, item, "time", False, True) == raw.encode()
        assert pairs_of(expose_item(TOOLS, item, "time", True, True).decode()) == [("name", "time__tool"), *pairs]


def test_each_kind_is_renamed_where_the_door_prefixes() -> None:
    assert shown(TOOLS, {"name": "now"})["name"] == "time__now"
    assert shown(PROMPTS, {"name": "now"})["name"] == "time__now"
    assert shown(RESOURCES, {"uri": "file:///x", "name": "x"}) == {"uri": "time+file:///x", "name": "x"}
    assert shown(TEMPLATES, {"uriTemplate": "file:///{x}"})["uriTemplate"] == "time+file:///{x}"
    assert shown(TOOLS, {"name": "now"}, prefixed=False)["name"] == "now"


@pytest.mark.parametrize("prefixed", [True, False])
def test_each_era_is_spared_what_it_does_not_know(prefixed: bool) -> None:
    tool = {"name": "a", "execution": {"taskSupport": "optional"}, "outputSchema": {"type": "array"}}
    assert "execution" not in shown(TOOLS, tool, prefixed=prefixed, modern=True)
    assert "outputSchema" in shown(TOOLS, tool, prefixed=prefixed, modern=True)
    assert "execution" in shown(TOOLS, tool, prefixed=prefixed, modern=False)
    assert "outputSchema" not in shown(TOOLS, tool, prefixed=prefixed, modern=False)
    for schema in ({"type": "object", "properties": {}}, {"properties": {}, "type": "object"}):
        assert shown(TOOLS, {"name": "a", "outputSchema": schema}, modern=False)["outputSchema"] == schema
    for odd in (True, {"type": ["object"]}, {"$ref": "#"}):
        assert "outputSchema" not in shown(TOOLS, {"name": "a", "outputSchema": odd}, modern=False)
    plain = {"name": "a", "description": 'an "execution" of "outputSchema"'}
    assert shown(TOOLS, plain, prefixed=False, modern=False) == plain


def test_an_apps_resource_follows_its_tool() -> None:
    meta = {"ui": {"resourceUri": "ui://app", "more": 1}, "ui/resourceUri": "ui://app", "other": "ui://app"}
    assert shown(TOOLS, {"name": "a", "_meta": meta})["_meta"] == {
        "ui": {"resourceUri": "ui://time/app", "more": 1},
        "ui/resourceUri": "ui://time/app",
        "other": "ui://app",
    }
    escaped = r'{"name":"a","_meta":{"ui":{"resourceUri":"ui:\/\/app"}}}'
    assert shown(TOOLS, escaped)["_meta"]["ui"]["resourceUri"] == "ui://time/app"
    assert shown(RESOURCES, {"uri": "ui://app"})["uri"] == "ui://time/app"


@pytest.mark.parametrize("meta", ["7", '{"a":"ui://x","a":1}', '{"ui":{"a":"ui://x","a":1}}', '{"ui":"ui://x"}'])
def test_meta_that_cannot_be_read_does_not_spoil_the_list(meta: str) -> None:
    raw = f'{{"name":"a","title":"ui://","_meta":{meta}}}'
    (item,) = items_of(TOOLS, raw).values()
    assert expose_item(TOOLS, item, "time", True, True) == raw.replace('"a"', '"time__a"', 1).encode()


def an_offer() -> Offer:
    return Offer(
        {
            RESOURCES.method: items_of(RESOURCES, {"uri": "file:///listed"}),
            TEMPLATES.method: items_of(TEMPLATES, {"uriTemplate": "note://{id}"}),
        }
    )


def test_an_offer_knows_what_is_listed_templated_or_was_handed_out() -> None:
    offer = an_offer()
    for known in ("file:///listed", "note://1"):
        assert offer.knows_resource(known)
    assert not offer.knows_resource("file:///handed")
    offer.remember("file:///handed")
    assert offer.knows_resource("file:///handed")
    assert offer.has_template("note://{id}")
    assert not offer.has_template("note://{other}")
    assert not NOTHING.knows_resource("x")


def test_what_was_handed_out_is_bounded_in_number_and_length() -> None:
    offer = an_offer()
    offer.remember("x" * (Offer.LONGEST_LINK + 1))
    assert not offer.links
    for number in range(Offer.MOST_LINKS + 5):
        offer.remember(f"file:///{number}")
    assert len(offer.links) == Offer.MOST_LINKS
    assert not offer.knows_resource("file:///4")
    assert offer.knows_resource("file:///5")


def test_a_hashed_name_is_found_again() -> None:
    long = "t" * 80
    offer = Offer({TOOLS.method: items_of(TOOLS, {"name": "short"}, {"name": long}, {"name": long + "2"})})
    for name in ("short", long, long + "2"):
        _, split = split_name(expose_name("time", name))
        assert offer.plain("time", TOOLS, split) == name
    assert offer.plain("time", TOOLS, "unknown") == "unknown"
    assert offer.plain("time", PROMPTS, "short") == "short"


def test_the_digest_tells_offers_apart_and_nothing_else() -> None:
    def offer(kind: Kind, *definitions: dict[str, Any]) -> str:
        return Offer({kind.method: items_of(kind, *definitions)}).digest

    a, b = {"name": "a"}, {"name": "b"}
    assert offer(TOOLS, a, b) == offer(TOOLS, a, b)
    different = [offer(TOOLS, a, b), offer(TOOLS, b, a), offer(TOOLS, a), offer(PROMPTS, a), NOTHING.digest]
    assert len(set(different)) == len(different)


def test_equal_definitions_are_equal_items() -> None:
    template = {"uriTemplate": "a{+b}c"}
    assert items_of(TEMPLATES, template) == items_of(TEMPLATES, template)


def test_each_notification_says_which_lists_changed() -> None:
    assert {kind for kinds in CHANGED.values() for kind in kinds} == set(KINDS.values())
    for method, kinds in CHANGED.items():
        assert all(kind.changed == method for kind in kinds)
