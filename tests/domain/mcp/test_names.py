# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_hangar.domain.mcp.names import (
    LONGEST,
    PROVIDER_NAME,
    expose_name,
    expose_uri,
    read_template,
    split_name,
    split_uri,
)

providers = st.from_regex(PROVIDER_NAME, fullmatch=True)
tools = st.one_of(
    st.text("ab_-.A1", min_size=1, max_size=80),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.integers(60, 300).map(lambda size: "t" * size),
)
uris = st.one_of(
    st.text("abui:/+{}?#.", max_size=30), st.text(st.characters(exclude_categories=["Cs"])), st.just("ui://app/x")
)


@given(providers, tools)
@example("a", "_")
@example("a", "__")
@example("a-b", "b__c")
@example("p" * 32, "t" * 30)
@example("p" * 32, "t" * 31)
def test_an_exposed_name_is_short_and_comes_back(provider: str, tool: str) -> None:
    exposed = expose_name(provider, tool)
    assert len(exposed) <= LONGEST
    assert exposed == expose_name(provider, tool)
    back, name = split_name(exposed)
    assert back == provider
    if len(provider) + 2 + len(tool) <= LONGEST:
        assert name == tool
    else:
        assert len(exposed) == LONGEST
        assert exposed.startswith(f"{provider}__{tool}"[: LONGEST - 9])


@given(providers, tools, providers, tools)
@example("a", "b__c", "a", "b")
@example("a-b", "c", "a", "b__c")
@example("a", "t" * 80, "a", "t" * 81)
def test_two_names_are_never_exposed_alike(provider: str, tool: str, other: str, other_tool: str) -> None:
    alike = expose_name(provider, tool) == expose_name(other, other_tool)
    assert alike is ((provider, tool) == (other, other_tool))


def test_long_names_do_not_change_between_versions() -> None:
    long = "a_very_long_tool_name_that_somebody_generated_from_a_path_and_a_verb"
    assert expose_name("git", "status") == "git__status"
    assert expose_name("git", long) == "git__a_very_long_tool_name_that_somebody_generated_from_75ae95f5"


@given(st.text())
def test_what_names_no_provider_stays_as_it_is(text: str) -> None:
    for split in (split_name, split_uri):
        provider, rest = split(text)
        if provider:
            assert PROVIDER_NAME.match(provider)
        else:
            assert rest == text


@pytest.mark.parametrize("name", ["", "__", "__x", "A__x", "-a__x", "a-__x", "a_b", "a\n__x", "é__x", "p" * 33 + "__x"])
def test_a_name_without_a_provider_has_none(name: str) -> None:
    assert split_name(name) == ("", name)


@given(providers, uris)
@example("a", "ui://")
@example("a", "ui://x/y")
@example("a", "b+file:///x")
@example("a", "UI://x")
def test_a_uri_comes_back(provider: str, uri: str) -> None:
    assert split_uri(expose_uri(provider, uri)) == (provider, uri)


@given(providers, uris, providers, uris)
def test_two_uris_are_never_exposed_alike(provider: str, uri: str, other: str, other_uri: str) -> None:
    alike = expose_uri(provider, uri) == expose_uri(other, other_uri)
    assert alike is ((provider, uri) == (other, other_uri))


@given(providers, st.text("abc/-", max_size=10))
def test_apps_keep_their_scheme(provider: str, rest: str) -> None:
    assert expose_uri(provider, f"ui://{rest}").startswith("ui://")


@pytest.mark.parametrize("uri", ["", "+x", "ui://", "ui://x", "ui://A/x", "A+x", "file:///a+b", "ui:/a/b"])
def test_a_uri_without_a_provider_has_none(uri: str) -> None:
    assert split_uri(uri) == ("", uri)


@pytest.mark.parametrize(
    ("template", "uri", "matches"),
    [
        ("file:///{name}", "file:///x", True),
        ("file:///{name}", "file:///", False),
        ("file:///{name}", "file:///a/b", False),
        ("file:///{+path}", "file:///a/b", True),
        ("file:///{+path}", "file:///", True),
        ("file://{/path*}", "file:///a/b", True),
        ("a{?x,y}", "a?x=1&y=2", True),
        ("a{?x,y}", "a", True),
        ("a{?x}", "b?x=1", False),
        ("note://{id}.txt", "note://1.2.txt", True),
        ("note://{id}.txt", "note://1.txt.bak", False),
        ("{a}-{b}-{c}", "1-2-3", True),
        ("{a}-{b}-{c}", "1-2", False),
        ("{a}{b}", "x", False),
        ("{a}{b}", "xy", True),
        ("{a*}/end", "one/two/end", True),
        ("{x}x", "xx", True),
        ("{x}x", "x", False),
        ("plain", "plain", True),
        ("plain", "plainer", False),
        ("a.c", "abc", False),
        ("a{b", "a{b", True),
        ("a{}b", "a{}b", True),
        ("{a}\n", "x", False),
        ("{a}", "x\n", True),
    ],
)
def test_a_template_matches_what_it_may_expand_to(template: str, uri: str, matches: bool) -> None:
    assert read_template(template).match(uri) is matches


pieces = st.lists(st.one_of(st.text("ab/", min_size=1, max_size=2), st.sampled_from(["{x}", "{+x}", "{y}", "{z*}"])))


@given(pieces, st.text("ab/", max_size=9))
@example(["{x}", "a", "{y}", "ab"], "aaab")
@example(["{x}", "a/", "{y}", "a"], "aa/aa")
@example(["{+x}", "a", "{y}", "b"], "a/abab")
def test_a_template_matches_as_a_backtracking_reference_does(parts: list[str], uri: str) -> None:
    pattern, anything = "", False
    for part in parts:
        if part.startswith("{"):
            anything = anything or part not in ("{x}", "{y}")
            pattern += ".*" if anything else "[^/]+"
        else:
            pattern += re.escape(part)
    assert read_template("".join(parts)).match(uri) is (re.fullmatch(pattern, uri) is not None)


@pytest.mark.parametrize("expression", ["{+x}", "{x}", "{x}{+y}"])
def test_a_hostile_template_and_uri_take_no_exponential_time(expression: str) -> None:
    """Backtracking would not be done before the sun is cold."""
    template = read_template(f"{expression}a" * 500 + "b")
    assert not template.match("a" * 20_000)
    assert not template.match("a" * 20_000 + "/b")
    assert template.match("a" * 20_000 + "b") is True
    read_template("{" * 200_000)
    read_template("{a" * 200_000)
