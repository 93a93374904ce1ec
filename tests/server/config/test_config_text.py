# SPDX-License-Identifier: MIT
"""The text of a configuration: scalars, places, and lines that may be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_hangar.domain.errors import ConfigError
from mcp_hangar.server.config.problems import excerpt
from mcp_hangar.server.config.text import Document, Span, did_you_mean, read_document, resolve


def document(text: str, env: dict[str, str] | None = None) -> Document:
    return read_document(text, "f", env or {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("007", 7), ("1.5", 1.5), ("1e3", 1000.0), ("true", True), ("False", False),
        ("~", None), ("null", None), ("", None),
        ("yes", "yes"), ("off", "off"), ("0x10", "0x10"), ("1_000", "1_000"), ("1:30", "1:30"), (".inf", ".inf"),
        ("2026-01-01", "2026-01-01"), ("tRuE", "tRuE"), ("1.2.3", "1.2.3"), ("9" * 31, float("9" * 31)),
    ],
)  # fmt: skip
def test_plain_words_are_what_yaml_1_2_says(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value and type(found) is type(value)


def test_keys_values_and_entries_have_their_places() -> None:
    found = document("a:\n  b: [x, 'y']\n  c: z\n")
    assert found.data == {"a": {"b": ["x", "y"], "c": "z"}}
    assert found.span(("a", "b")) == Span(2, 3, 2, 4)
    assert found.span(("a", "b", 1)) == Span(2, 10, 2, 13)
    assert found.span(("a", "c"), value=True) == Span(3, 6, 3, 7)
    assert found.span(("a", "not", "there")) == found.span(("a",))
    assert found.span(("nothing",)) == Span(1, 1, 1, 1)


def test_quoted_and_block_text_stays_text() -> None:
    assert document("a: '1'\nb: \"true\"\nc: |\n  null\n").data == {"a": "1", "b": "true", "c": "null\n"}


def test_what_is_filled_in_is_never_read_as_yaml() -> None:
    assert document("a: ${X}\n", {"X": "{b: 1}\nc: *d"}).data == {"a": "{b: 1}\nc: *d"}


def test_a_fifo_does_not_hold_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    found = document(f"a: ${{file:{tmp_path}/fifo}}\n")
    assert "is not a regular file" in found.problems[0].what


def test_a_secret_file_is_bounded_and_must_be_text(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(b"x" * (64 * 1024 + 1))
    (tmp_path / "binary").write_bytes(b"\xff")
    found = document(f"a: ${{file:{tmp_path}/huge}}\nb: ${{file:{tmp_path}/binary}}\n")
    assert ["larger than 64 KiB" in found.problems[0].what, "not UTF-8" in found.problems[1].what] == [True, True]


def test_a_home_in_a_files_name_is_the_environments(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert document("a: ${file:~/secret}\n", {"HOME": str(tmp_path)}).data == {"a": "x"}


def test_words_that_are_near_are_found_and_others_are_not() -> None:
    assert did_you_mean("comand", ["command", "env"]) == "command"
    assert did_you_mean("Allowed-Hosts", ["allowed_hosts"]) == "allowed_hosts"
    assert did_you_mean("xyz", ["command", "env"]) == ""


TEXT = """\
version: 1
server: {token: s3cr3t, listen: 127.0.0.1:1, depht: 5}
providers:
  p:
    mode: subprocess
    command: [x, --verbose]
    env: {A: "s3cr3t", B: s3cr3t}
    url: https://u:s3cr3t@h/
    unknown: s3cr3t
    headers:
      A: |
        s3cr3t and
        s3cr3t
      B: "s3cr3t
        s3cr3t"
"""


@pytest.mark.parametrize("line", range(1, TEXT.count("\n") + 1))
def test_no_line_that_is_shown_tells_a_secret(line: int) -> None:
    shown, column = excerpt(TEXT, line, 1)
    assert "s3cr3t" not in shown
    assert 1 <= column <= len(shown) + 1


def test_a_line_that_is_shown_keeps_what_is_harmless_and_the_column() -> None:
    assert excerpt(TEXT, 6, 18) == ("    command: [x, --verbose]", 18)
    shown, column = excerpt(TEXT, 2, 46)
    assert shown == "server: {token: ***, listen: 127.0.0.1:1, depht: ***}"
    assert shown[column - 1 :].startswith("depht")
    assert excerpt(TEXT, 99, 1) == ("", 1)


@pytest.mark.parametrize(
    "text",
    ["server:\n  token: 's3cr3t\n", "server:\n  token: s3cr3t: x\n", "token: |\n  s3cr3t\n x: y\n", "- s3cr3t\n"],
)
def test_no_line_of_a_text_that_is_no_yaml_tells_a_secret(text: str) -> None:
    for line in range(1, text.count("\n") + 1):
        shown, column = excerpt(text, line, 4)
        assert "s3cr3t" not in shown and len(shown) == len(text.splitlines()[line - 1]) and column == 4


def test_deep_and_wide_nests_end_in_a_problem() -> None:
    for text in ("a: " + "[" * 5000, "a: " + "{b: " * 5000, "\n".join(" " * depth + "a:" for depth in range(300))):
        with pytest.raises(ConfigError) as caught:
            document(text)
        assert caught.value.problems[-1].line >= 1
