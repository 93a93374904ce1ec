# SPDX-License-Identifier: MIT
"""Which MCP clients are known, where each keeps its servers, and what is found there. Reads; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcp_hangar.server.cli.onboarding.jsonc import BYTES, NotJson, parse

CLIENTS: Final = {
    "claude-desktop": "Claude Desktop",
    "claude-code": "Claude Code",
    "cursor": "Cursor",
    "vscode": "VS Code",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One object of servers in one file of a client."""

    client: str
    path: Path
    keys: tuple[str, ...]
    """Where the object stands in the file."""
    project: Path | None = None
    """The folder it is for; None: the user's, for all folders."""

    @property
    def title(self) -> str:
        return CLIENTS[self.client]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One server as a client has it written down."""

    place: Place
    name: str
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A client's file that could not be read, and why."""

    path: Path
    why: str


def places(home: Path, cwd: Path, environment: Mapping[str, str]) -> list[Place]:
    """Where servers may be written down, on Linux and macOS alike. The user's places come before the project's."""
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    library = home / "Library" / "Application Support"
    servers, theirs = ("mcpServers",), ("servers",)
    found = [
        *(
            Place(client="claude-desktop", path=folder / "Claude" / "claude_desktop_config.json", keys=servers)
            for folder in (config, library)
        ),
        Place(client="claude-code", path=home / ".claude.json", keys=servers),
        Place(client="cursor", path=home / ".cursor" / "mcp.json", keys=servers),
        *(
            Place(client="vscode", path=folder / edition / "User" / "mcp.json", keys=theirs)
            for folder in (config, library)
            for edition in ("Code", "Code - Insiders")
        ),
        Place(client="claude-code", path=home / ".claude.json", keys=("projects", str(cwd), "mcpServers"), project=cwd),
        Place(client="claude-code", path=cwd / ".mcp.json", keys=servers, project=cwd),
        Place(client="cursor", path=cwd / ".cursor" / "mcp.json", keys=servers, project=cwd),
        Place(client="vscode", path=cwd / ".vscode" / "mcp.json", keys=theirs, project=cwd),
    ]
    # In one's home the project's files are the user's.
    return list({(place.path, place.keys): place for place in reversed(found)}.values())[::-1]


def home_of(client: str, known: list[Place]) -> Place:
    """Where a client's servers are written when Hangar joins them: the user's file that is there, else the first whose
    folder is, else the first."""
    mine = [place for place in known if place.client == client and place.project is None]
    return next(
        (place for place in mine if place.path.is_file()),
        next((place for place in mine if place.path.parent.is_dir()), mine[0]),
    )


def look(known: list[Place]) -> tuple[list[Found], list[Unreadable]]:
    """All servers that are written down, and the files that could not be read."""
    found: list[Found] = []
    failed: dict[Path, Unreadable] = {}
    for place in known:
        try:
            whole = parse(read(place.path))
        except FileNotFoundError:
            continue
        except OSError as error:
            failed[place.path] = Unreadable(path=place.path, why=f"{error.strerror or error}")
            continue
        except (NotJson, UnicodeDecodeError) as error:
            failed[place.path] = Unreadable(path=place.path, why=f"it is not JSON: {error}")
            continue
        found += _servers(place, whole)
    return found, list(failed.values())


def read(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(BYTES + 1)
    if len(raw) > BYTES:
        raise OSError(f"it is larger than {BYTES // 1024**2} MiB")
    return raw.decode()


def _servers(place: Place, whole: Any) -> Iterator[Found]:
    for key in place.keys:
        whole = whole.get(key) if isinstance(whole, dict) else None
    for name, entry in whole.items() if isinstance(whole, dict) else ():
        if isinstance(entry, dict):
            yield Found(place=place, name=name, entry=entry)


def inputs_of(place: Place) -> dict[str, str]:
    """VS Code's `inputs`, by id: what each asks for."""
    try:
        whole = parse(read(place.path))
    except (OSError, NotJson, UnicodeDecodeError):
        return {}
    inputs = whole.get("inputs") if isinstance(whole, dict) else None
    rows = [row for row in inputs if isinstance(row, dict)] if isinstance(inputs, list) else []
    return {str(row.get("id")): str(row.get("description") or "") for row in rows}
