# SPDX-License-Identifier: MIT
"""The references say what the code does: generated pages are current, and the complete example is complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from mcp_hangar.domain.errors import CODES
from mcp_hangar.domain.events import AnyEvent
from mcp_hangar.server.config import Settings, json_schema, load
from mcp_hangar.server.config.schema import known_keys, section_at
from scripts import generate_reference
from tests.server.config.bad_configs import BAD

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "reference" / "hangar.yaml"
KEY = "ab" * 32
ENV = {
    "HOME": "/home/someone",
    "HANGAR_TOKEN": "agent-token",
    "HANGAR_ADMIN_TOKEN": "admin-token",
    "HANGAR_SESSION_KEY": KEY,
    "HANGAR_HASH_KEY": KEY,
    "FILES_API_KEY": "files-key",
    "SEARCH_API_KEY": "search-key",
    "SEARCH_CLIENT_SECRET": "client-secret",
}


@pytest.fixture(scope="module")
def example() -> Settings:
    return load(EXAMPLE, ENV)


def plain(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def test_the_complete_example_loads(example: Settings) -> None:
    assert set(example.providers) == {"files", "search"}
    assert example.server.token == "agent-token"


def test_the_complete_example_has_every_key() -> None:
    def paths(value: Any, at: tuple[str, ...]) -> set[tuple[str, ...]]:
        if not isinstance(value, dict):
            return {at}
        names = len(at) == 1 and at[0] == "providers"
        inner = (paths(item, (*at, "*" if names else str(key))) for key, item in value.items())
        return {at}.union(*inner)

    written = paths(plain(EXAMPLE), ())
    # Of one section in two places (defaults and a provider), one is enough.
    sections = {"lifecycle", "health", "limits"}
    shared = {key for key in known_keys() if key[:2] == ("providers", "*") and len(key) > 3 and key[2] in sections}
    missing = {
        key for key in known_keys() if key not in written and not (key in shared and ("defaults", *key[2:]) in written)
    }
    assert missing == set()


def test_the_defaults_that_the_example_shows_are_the_defaults(tmp_path: Path, example: Settings) -> None:
    (tmp_path / "hangar.yaml").write_text("version: 1\n")
    bare = load(tmp_path / "hangar.yaml", ENV)
    assert example.server.limits == bare.server.limits
    assert (example.server.host, example.server.port) == (bare.server.host, bare.server.port)
    assert example.server.session_idle == bare.server.session_idle
    assert (example.expose, example.events, example.state_dir) == (bare.expose, bare.events, bare.state_dir)
    assert example.audit.arguments == bare.audit.arguments
    assert (example.audit.rotate_bytes, example.audit.rotate_keep) == (bare.audit.rotate_bytes, bare.audit.rotate_keep)
    (tmp_path / "hangar.yaml").write_text("version: 1\nproviders: {p: {mode: subprocess, command: [x]}}\n")
    built_in = load(tmp_path / "hangar.yaml", ENV).providers["p"]
    shown = example.providers["search"]
    assert (shown.lifecycle, shown.health, shown.limits) == (built_in.lifecycle, built_in.health, built_in.limits)


def test_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_reference.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_file_fails_the_check_and_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_reference.main(["--check", "--root", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []
    assert generate_reference.main(["--root", str(tmp_path)]) == 0
    assert generate_reference.main(["--check", "--root", str(tmp_path)]) == 0
    page = tmp_path / "docs" / "reference" / "errors.md"
    page.write_text("old")
    assert generate_reference.main(["--check", "--root", str(tmp_path)]) == 1
    assert page.read_text() == "old"
    assert "docs/reference/errors.md: differs" in capsys.readouterr().out


def test_every_error_code_has_its_anchor_and_its_three_sentences() -> None:
    page = generate_reference.errors_page()
    for name, row in CODES.items():
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert all(f"**{word}:**" in part for word in ("What", "Why", "Fix")), name
        assert (f"JSON-RPC `{row.rpc}`, HTTP {row.http}" if row.rpc else f"Exit status {row.exit}") in part


def test_every_event_is_told_with_every_field() -> None:
    page = generate_reference.events_page()
    for cls in get_args(AnyEvent):
        tag = cls.__struct_config__.tag
        part = page.partition(f"\n## {tag}\n")[2].partition("\n## ")[0]
        assert part.strip(), tag
        assert not re.search(r"\| *\|$", part, re.MULTILINE), f"{tag} has a field without a meaning"


def test_every_key_is_told_in_the_page_and_in_the_schema() -> None:
    page = generate_reference.config_page(json_schema())
    for key in known_keys():
        assert f"| `{key[-1]}` |" in page
    for body in [json_schema(), *json_schema()["$defs"].values()]:
        for name, entry in body["properties"].items():
            assert entry.get("description"), name


# the schema that editors use


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json_schema())


def test_the_schema_is_one_and_accepts_the_example_and_the_quickstart(
    validator: jsonschema_rs.Draft202012Validator,
) -> None:
    jsonschema_rs.meta.validate(json_schema())
    for path in (EXAMPLE, *sorted((ROOT / "examples").glob("**/hangar.yaml"))):
        assert [error.message for error in validator.iter_errors(plain(path))] == [], path


def test_the_schema_refuses_what_a_schema_can_refuse(validator: jsonschema_rs.Draft202012Validator) -> None:
    for name in (
        "no version", "misspelt section", "misspelt key", "misspelt mode", "no mode", "misspelt choice",
        "command as text", "number in env", "bare number as duration", "unit that is none", "decimal unit",
        "count as text", "depth beyond reason", "backoff that is no range", "url for a subprocess",
        "command for a remote", "subprocess without command", "remote without url", "provider called hangar",
        "provider name with capitals", "key of a later version", "nothing allowed, in words of everything",
        "credentials without their secret",
    ):  # fmt: skip
        data = YAML(typ="safe", pure=True).load(BAD[name].text)
        assert not validator.is_valid(data), name


def test_the_shipped_schema_marks_what_is_secret() -> None:
    schema = json.loads((ROOT / "schemas" / "hangar.schema.json").read_text(encoding="utf-8"))
    marked = {
        (title, name)
        for title, body in schema["$defs"].items()
        for name, entry in body["properties"].items()
        if entry.get("writeOnly")
    }
    assert marked == {
        ("ServerSection", "token"),
        ("ServerSection", "admin_token"),
        ("ServerSection", "session_key"),
        ("AuditSection", "hash_key"),
        ("ProviderSection", "env"),
        ("ProviderSection", "headers"),
        ("ClientCredentialsSection", "client_secret"),
    }
    assert section_at(("server",)) is not None
