# SPDX-License-Identifier: MIT
"""What the site is built from: pages as they are in the repository, made ready, all in the menu, fetching nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.build_site import fetched, listed, not_in_menu, prepared

PAGE = Path("docs/operations/page.md")


def test_a_fence_loses_what_it_asks_of_the_checks_and_nothing_else() -> None:
    text = (
        "<!-- SPDX-License-Identifier: MIT -->\n# A page\n\n```yaml config\na: '```yaml config'\n```\n\n"
        "- in a list:\n\n  ```console run\n  $ a\n  ```\n"
    )
    assert prepared(PAGE, text) == (
        "# A page\n\n```yaml\na: '```yaml config'\n```\n\n- in a list:\n\n  ```console\n  $ a\n  ```\n"
    )


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[a page](../concepts.md#states)", "[a page](../concepts.md#states)"),
        ("[here](#there)", "[here](#there)"),
        ("[elsewhere](https://example.com/a)", "[elsewhere](https://example.com/a)"),
        ("![a picture](../images/states.svg)", "![a picture](../images/states.svg)"),
        ("[the schema](../../schemas/hangar.schema.json)", "the schema"),
        ("[README](../../README.md#licence)", "README"),
    ],
)
def test_a_link_stays_if_its_target_is_on_the_site(link: str, on_the_site: str) -> None:
    assert prepared(PAGE, f"See {link}.\n") == f"See {on_the_site}.\n"


def test_links_in_a_fence_are_left_as_they_are() -> None:
    assert prepared(PAGE, "```text\n[a](../../README.md)\n```\n") == "```text\n[a](../../README.md)\n```\n"


def test_a_page_that_the_menu_forgets_and_one_that_it_invents_are_found() -> None:
    menu = [{"Home": "index.md"}, {"Guides": [{"One": "guides/one.md"}, {"Deep": [{"Two": "guides/two.md"}]}]}]
    assert list(listed(menu)) == ["index.md", "guides/one.md", "guides/two.md"]
    there = [Path("docs/index.md"), Path("docs/guides/one.md"), Path("docs/new.md"), Path("docs/images/a.svg")]
    assert not_in_menu(menu, there) == [
        "docs/new.md is not in the menu: name it under nav in zensical.toml",
        "zensical.toml: the menu names docs/guides/two.md, which does not exist",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://elsewhere.example/a.js"></script>',
        "<script async src=//elsewhere.example/a.js></script>",
        '<img alt="a" src="http://elsewhere.example/a.png">',
        '<link rel="stylesheet" href="https://elsewhere.example/a.css">',
        "@import 'https://elsewhere.example/a.css';",
        "src: url(https://elsewhere.example/a.woff2)",
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere_is_found(text: str) -> None:
    assert [address.partition("//")[2].split("/")[0] for address in fetched(text)] == ["elsewhere.example"]


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://elsewhere.example/">there</a>',
        '<link rel="canonical" href="https://elsewhere.example/a.html">',
        '<script src="assets/a.js"></script>',
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        "background: url(images/a.svg)",
    ],
)
def test_links_that_a_reader_follows_and_files_of_the_site_are_no_fetches(text: str) -> None:
    assert fetched(text) == []
