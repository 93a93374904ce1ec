# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.redaction import (
    CUT,
    MASK,
    PREVIEW_CHARS,
    WINDOW,
    escape_controls,
    is_secret_name,
    mask_shapes,
    redact_json,
    redact_text,
)

SECRET_NAMES = [
    "password", "Password", "DB_PASSWORD", "apiKey", "api_key", "X-Api-Key", "api key", "accessToken", "refresh_token",
    "client_secret", "Authorization", "cookie", "Set-Cookie", "privateKey", "connectionString", "pin", "pwd", "otp",
    "session_id", "credentials",
]  # fmt: skip
PLAIN_NAMES = [
    "path",
    "query",
    "author",
    "passage",
    "keyboard",
    "max_tokens",
    "maxTokens",
    "pinned",
    "compass",
    "timezone",
]

SECRETS = [
    "ghp_0123456789abcdefghijABCDEFGHIJ456789",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrst",
    "glpat-abcdefghij0123456789",
    "xoxb-123456789012-abcdefghijkl",
    "sk-proj-abcdefghijklmnopqrstuvwx",
    "sk_live_abcdefghijklmnop",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopqrstu",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "hf_abcdefghijklmnopqrstuv",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_what_goes_by_a_secrets_name_is_masked_however_it_is_nested(name: str) -> None:
    for value in ("hunter2", 4711, ["hunter2", {"x": "hunter2"}], {"deep": [{"hunter2": "hunter2"}]}, True, None):
        shown = redact_json(json.dumps({"a": 1, name: value, "after": "kept"}).encode())
        assert "hunter2" not in shown
        assert "4711" not in shown
        assert MASK in shown
        assert '"after": "kept"' in shown


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_what_is_no_secret_stays_readable(name: str) -> None:
    assert not is_secret_name(name)
    text = json.dumps({name: "a plain value"})
    assert redact_json(text.encode()) == text


def test_a_key_hidden_behind_escapes_is_still_a_key() -> None:
    assert "hunter2" not in redact_json(rb'{"pass\u0077ord":"hunter2"}')


@pytest.mark.parametrize("secret", SECRETS)
def test_a_well_known_secret_is_masked_wherever_it_stands(secret: str) -> None:
    for text in (
        secret,
        f"a {secret} b",
        f"x={secret}",
        f"https://host/?a={secret}&b=1",
        f"({secret})",
        f"/p/{secret}",
    ):
        assert secret not in redact_text(text)
        assert secret not in redact_json(json.dumps({"note": text}).encode())


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2",
        "authorization=Basic aHVudGVyMjpodW50ZXIy hunter2"[:42],
        "postgres://admin:hunter2@db/x",
        "https://:hunter2@host/",
        "DB_PASSWORD=hunter2",
        'config {"password": "hunter2"}',
        'nested "{\\"password\\":\\"hunter2\\"}"',
        "--token=hunter2",
        "api-key => hunter2",
        "Cookie: sid=hunter2",
    ],
)
def test_a_named_secret_in_running_text_is_masked(text: str) -> None:
    shown = redact_text(text)
    assert "hunter2" not in shown
    assert "aHVudGVy" not in shown
    assert MASK in shown


def test_a_private_key_is_masked_whole_and_also_when_its_end_is_missing() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nMIIEdef\n-----END RSA PRIVATE KEY-----"
    assert redact_text(f"a {key} b") == f"a {MASK} b"
    assert redact_text(f"a {key[:50]}") == f"a {MASK}"
    assert "MIIE" not in redact_json(json.dumps({"pem": key}).encode())


def test_ordinary_words_that_look_a_little_like_secrets_stay() -> None:
    for text in (
        "task-management-board-list",
        "/usr/lib/python3/dist-packages/mcp_server_time",
        "a_very_long_name_of_letters_and_underscores_only",
        "2025-11-25T10:00:00Z",
        "0190a0b0-aaaa-7bbb-8ccc-0123456789ab",
        "https://example.com:8080/a/b?c=d",
    ):
        assert redact_text(text) == text


def test_a_secret_at_the_edge_of_what_is_read_is_not_shown_in_part() -> None:
    for padding in range(WINDOW - 60, WINDOW + 10):
        text = "p" * 20 + " " * (padding - 20) + SECRETS[0] + " tail"
        assert "ghp_" not in redact_text(text, limit=2 * WINDOW)
    many = ("password=" + "s" * 500 + " ") * 40
    assert "sss" not in redact_text(many)


HOSTILE = [
    "a", "A1", "-eyJ", "eyJ", "sk-", "://a:", "://", "password", "password=", "token: ", '"', '\\"', "\\",
    "-----BEGIN ", "-----BEGIN A-----", "-----BEGIN A-----\n-----EN", "bearer ", "AKIA", "{", "[", '{"password":', "=",
    "a_" * 15 + "-",    "\x1b", "é", "🙂", " ", "ghp_123456789 ", "a" * 31 + " ",
]  # fmt: skip


def _steps(text: str) -> int:
    """Own bytecode lines run for `text`: the same on every machine, unlike time."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        redact_text(text)
        redact_json(text.encode())
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_of_any_length_costs_no_more_than_its_window(unit: str) -> None:
    window, flood = unit * (2 * WINDOW // len(unit)), unit * (1024 * 1024 // len(unit))
    assert _steps(flood) <= _steps(window) + 50
    for shown in (redact_text(flood), redact_json(flood.encode())):
        assert len(shown) <= PREVIEW_CHARS
        assert shown.endswith(CUT)


@given(st.text(max_size=600))
def test_any_text_becomes_one_bounded_harmless_line(text: str) -> None:
    for shown in (redact_text(text), redact_json(text.encode("utf-8", "surrogatepass"))):
        assert len(shown) <= PREVIEW_CHARS
        assert shown.isprintable() or not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in shown)
        assert "\u202e" not in shown
        assert "\u2028" not in shown
        shown.encode()


@given(st.binary(max_size=300))
def test_bytes_that_are_no_text_are_no_trouble(data: bytes) -> None:
    assert len(redact_json(data)) <= PREVIEW_CHARS


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="abc", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc", max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(_json, st.sampled_from(SECRET_NAMES), st.booleans())
def test_no_surrounding_lets_a_named_secret_through(value: object, name: str, spaced: bool) -> None:
    around = {"before": value, "inner": [{name: {"v": "hunter2", "w": value}}], "after": value}
    text = json.dumps(around, indent=1 if spaced else None)
    assert "hunter2" not in redact_json(text.encode(), limit=WINDOW)


@given(st.text(max_size=100))
def test_escaping_inside_of_json_keeps_the_string(text: str) -> None:
    quoted = json.dumps(text, ensure_ascii=False)
    assert json.loads(escape_controls(quoted)) == text


def test_masking_twice_changes_nothing_more() -> None:
    for secret in SECRETS:
        once = mask_shapes(f"token={secret} {secret}")
        assert mask_shapes(once) == once
