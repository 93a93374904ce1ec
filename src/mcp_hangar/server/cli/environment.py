# SPDX-License-Identifier: MIT
"""Files of variables, `NAME=value` lines: `hangar serve --env-file` reads, `hangar init --env-file` writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mcp_hangar.domain.errors import HangarError

EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        help="NAME=value lines, for ${NAME} in the configuration. Only its owner may be able to read it.",
    ),
]


def environment(env_file: Path | None) -> dict[str, str]:
    """The variables of this process, and those of the file; where both have one, the process's own counts."""
    if env_file is None:
        return dict(os.environ)
    return {**read_env_file(env_file), **os.environ}


def read_env_file(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            text = file.read(1024 * 1024).decode()
    except OSError as error:
        raise HangarError("env_file", path=path, detail=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise HangarError("env_file", path=path, detail="it is not UTF-8") from None
    if about.st_mode & 0o077:
        raise HangarError("env_file", path=path, detail="others may read or change it")
    return parse_env(text)


def parse_env(text: str) -> dict[str, str]:
    """`NAME=value` lines, with or without `export`; quotes around a value are taken off."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*", line, re.ASCII)
        if match:
            found[match[1]] = _unquoted(match[2])
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        inner = value[1:-1]
        return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), inner) if value[0] == '"' else inner
    return value


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Adds to what is there; readable by its owner alone. A shell can read it too (`set -a; . FILE`)."""
    before = read_env_file(path) if path.exists() else {}
    lines = [f"{name}={_quoted(value)}" for name, value in {**before, **values}.items()]
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise HangarError("env_file", path=path, detail=error.strerror or str(error)) from None


def _quoted(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_./:@%+=,-]*", value):
        return value
    if "'" not in value and "\n" not in value:
        return f"'{value}'"
    escaped = re.sub(r'([\\"$`])', r"\\\1", value).replace("\n", "\\n")
    return f'"{escaped}"'
