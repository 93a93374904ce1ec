# SPDX-License-Identifier: MIT
"""What is taken for a secret in other programs' configurations, and what their references become."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_hangar.server.cli.onboarding.clients import Place
from mcp_hangar.server.cli.onboarding.references import (
    Parts,
    Reference,
    Unsupported,
    is_harmless,
    read,
    secret_in_command,
    written,
)

HOME = Path("/home/someone")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "debug"), ("TZ", "Europe/Berlin"), ("PORT", "8080"), ("DEBUG", "true"), ("LANG", "en_US.UTF-8"),
        ("DB_PATH", "/home/someone/data/my-database.sqlite"), ("ROOT", "~/projects"), ("E", "http://localhost:9200"),
        ("API_URL", "https://api.example.com/v1"), ("NODE_ENV", "production"), ("VERSION", "v2.10.1"), ("EMPTY", ""),
        ("USE_AUTH", "false"), ("HOST", "127.0.0.1:5432"),
    ],
)  # fmt: skip
def test_plain_settings_may_stand_in_the_file(name: str, value: str) -> None:
    assert is_harmless(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_TOKEN", "x"), ("API_KEY", "12345"), ("password", "summer"), ("AUTH", "yes"),
        ("PGPASSWORD", "postgres"),
        ("THING", "ghp_0123456789abcdef"), ("X", "sk-proj-abc"), ("WHAT", "eyJhbGciOiJIUzI1NiJ9.e30.x"),
        ("DATABASE_URL", "postgres://me:secret@db/x"), ("URL", "https://me:secret@example.com/"),
        ("ENDPOINT", "https://example.com/?key=1"),
        ("HOOK", "https://hooks.example.com/services/T01AB2C3D4/B01AB2C3D4E5F6"),
        ("SOMETHING", "9f86d081884c7d659a2feaa0c55ad015"), ("SOMETHING", "correct horse battery staple"),
        ("SOMETHING", "hunter2"), ("CONNECTION_STRING", "Server=x;Pwd=y"), ("SLACK", "xoxb-1-2-abc"),
        ("PATHLIKE", "/s3cr3tS3cr3tS3cr3t0"), ("MULTI", "a\nb"),
    ],
)  # fmt: skip
def test_in_doubt_a_value_is_a_secret(name: str, value: str) -> None:
    assert not is_harmless(name, value)


@pytest.mark.parametrize(
    "words",
    [
        ["npx", "-y", "@modelcontextprotocol/server-postgres", "postgresql://u:p@localhost/db"],
        ["x", "--api-key", "abc"], ["x", "--api-key=abc"], ["x", "-e", "TOKEN=abc"], ["x", "TOKEN=abc"],
        ["x", "--header", "Authorization: Bearer abc"], ["x", "ghp_0123456789abcdef"], ["x", "--password", "p"],
        ["x", "https://example.com/mcp?token=abc"], ["x", "https://example.com/s/Ab3dEf6hIj9kLm2n/mcp"],
        ["x", "9f86d081884c7d659a2feaa0c55ad015"], ["x", "Zm9vYmFyYmF6cXV4MTIzNDU2"],
    ],
)  # fmt: skip
def test_a_secret_in_a_command_line_is_noticed_and_not_repeated(words: list[str]) -> None:
    where = secret_in_command(words)
    assert where
    for secret in ("abc", "u:p", "ghp_", "9f86", "Ab3d", "Zm9v"):
        assert secret not in where


@pytest.mark.parametrize(
    "words",
    [
        ["npx", "-y", "@modelcontextprotocol/server-filesystem@2025.12.18", "/home/someone/Documents"],
        ["uvx", "mcp-server-git", "--repository", "."], ["x", "--max-tokens", "4096"], ["x", "--key-file", "/etc/key"],
        ["x", "--port=8080", "--verbose"],
        ["uv", "--directory", "/home/someone/Thing1234567890abcd", "run", "server.py"],
        ["npx", "mcp-remote", "https://mcp.example.com/sse"], ["x", "--token", "/run/secrets/token"],
        ["x", "--auth", "true"],
    ],
)  # fmt: skip
def test_ordinary_command_lines_are_taken(words: list[str]) -> None:
    assert secret_in_command(words) == ""


def understood(text: str, client: str, project: Path | None = None) -> Parts:
    place = Place(client=client, path=Path("/f"), keys=("mcpServers",), project=project)
    return read(text, place, HOME, lambda id: f"INPUT_{id.upper()}")


@pytest.mark.parametrize(
    ("client", "text", "expected"),
    [
        ("cursor", "a ${env:NAME} b", "a ${NAME} b"),
        ("cursor", "${userHome}/x", "/home/someone/x"),
        ("vscode", "Bearer ${input:key}", "Bearer ${INPUT_KEY}"),
        ("vscode", "${workspaceFolder}${/}x", "/p/x"),
        ("vscode", "${workspaceFolderBasename}", "p"),
        ("claude-code", "${NAME:-none} ${OTHER}", "${NAME:-none} ${OTHER}"),
        ("claude-desktop", "${NAME}", "$${NAME}"),
        ("cursor", "${NAME}", "$${NAME}"),
        ("cursor", "plain $ text ${", "plain $ text $${"),
    ],
)
def test_references_become_hangars_own(client: str, text: str, expected: str) -> None:
    assert written(understood(text, client, Path("/p"))) == expected


def test_what_hangar_has_nothing_like_is_told() -> None:
    for text in ("${workspaceFolder}", "${command:pick}", "${config:x.y}", "${file}"):
        with pytest.raises(Unsupported, match=r"\$"):
            understood(text, "vscode")
    assert understood("${env:A}", "cursor") == (Reference(name="A"),)
