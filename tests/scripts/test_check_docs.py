# SPDX-License-Identifier: MIT
"""The checks of the pages, checked: a page that says something untrue is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_docs import (
    Block,
    Wrong,
    anchors,
    blocks,
    broken_links,
    check,
    dialogue,
    execute,
    matches,
    read,
    scratch,
)

PAGE = """\
# A page: `hangar` & more

Before.

```console run
$ echo one
one
```

- In a list:

  ```json
  {"a": 1}
  ```

## A page

## A page
"""


def block(info: str, text: str) -> Block:
    return Block(path=Path("page.md"), line=1, info=info, text=text)


def test_blocks_are_found_with_their_line_and_without_their_indent() -> None:
    first, second = blocks(Path("page.md"), PAGE)
    assert (first.place, first.info, first.text) == ("page.md:5", "console run", "$ echo one\none\n")
    assert (second.place, second.language, second.text) == ("page.md:12", "json", '{"a": 1}\n')


def test_headings_are_named_as_in_links_and_repeated_ones_are_numbered() -> None:
    assert anchors(PAGE) == {"a-page-hangar--more", "a-page", "a-page-1"}


def test_a_link_to_a_missing_file_or_heading_is_found_and_other_sites_are_left_alone() -> None:
    text = "[a](README.md) [b](missing.md) [c](README.md#no-such-heading) [d](#here) [e](a:b)\n\n# Here\n"
    assert [problem.split(": ", 1)[1] for problem in broken_links(Path("CLA.md"), text)] == [
        "link to missing.md: there is no such file",
        "link to README.md#no-such-heading: no heading of that page is called so",
        "link to #here: no heading of that page is called so",
    ]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("json", "{'a': 1}"),
        ("yaml", "a: [1"),
        ("toml", "a = "),
        ("python", "def f(:"),
        ("bash", "if true; then"),
        ("", "no language"),
        ("yaml hangar", "a: 1"),
    ],
)
def test_a_block_that_is_not_what_it_says_is_found(info: str, text: str) -> None:
    with pytest.raises(Wrong):
        read(block(info, text))


def test_what_was_printed_must_be_what_the_page_says() -> None:
    assert matches(["one", "two"], "one\ntwo\n")
    assert matches(["at … o'clock"], "at 12:30 o'clock\n")
    assert matches(["first", "…", "last"], "first\nand\nmore\nlast\n")
    assert matches(["first", "…"], "first\n")
    assert not matches(["one"], "one\ntwo\n")
    assert not matches(["one", "two"], "one\n")
    assert not matches([], "something\n")


def test_a_console_block_is_commands_with_what_they_print() -> None:
    assert dialogue("$ one \\\n>   more\nprinted\n\n$ two\n") == [("one \\\n  more", ["printed", ""]), ("two", [])]
    assert dialogue("$ cat <<'END'\n> one\n> END\none\n") == [("cat <<'END'\none\nEND", ["one"])]
    with pytest.raises(Wrong):
        dialogue("printed before any command\n")


def test_a_console_block_is_executed_and_compared() -> None:
    with scratch() as (env, cwd):
        execute(block("console run", "$ ls examples\nquickstart\n…\n"), env, cwd)
        with pytest.raises(Wrong, match="the page says"):
            execute(block("console run", "$ echo one\ntwo\n"), env, cwd)
        with pytest.raises(Wrong, match="ended with 3"):
            execute(block("bash run", "exit 3"), env, cwd)


SERVED = """\
```yaml served
version: 1
server: {listen: 127.0.0.1:8000}
providers:
  mute: {mode: subprocess, command: [sh, -c, "read request; exit 1"]}
```

```console served
$ hangar status | cut -f 1 | tail -1
mute
$ hangar status --url http://127.0.0.1:8000 | cut -f 1 | tail -1
mute
```
"""


def test_a_page_talks_to_a_hangar_with_its_own_configuration(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SERVED)
    assert check([page]) == []
    page.write_text(SERVED.replace("\nmute\n", "\nloud\n", 1))
    (problem,) = check([page])
    assert "printed:\nmute\n" in problem


def test_talk_without_a_configuration_to_run_on_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console served\n$ hangar status\n…\n```\n")
    (problem,) = check([page])
    assert "needs one block `yaml served`" in problem


def test_console_blocks_of_a_page_share_a_folder_and_other_pages_have_their_own(tmp_path: Path) -> None:
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    first.write_text("```console run\n$ touch here\n```\n\n```console run\n$ ls here\nhere\n```\n")
    second.write_text("```console run\n$ ls here || true\n…No such file…\n```\n")
    assert check([first, second]) == []
