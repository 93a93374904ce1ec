# SPDX-License-Identifier: MIT
"""Hangar in a client's configuration, in place of the servers it took over; and the way back.

Beside each changed file lies the one from before, byte for byte, as `FILE.before-hangar-DIGEST`. The digest is that of
what was written, so that `undo` knows whether someone changed the file since.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcp_hangar.domain.errors import HangarError
from mcp_hangar.server.cli.onboarding.adoption import Candidate, is_hangar
from mcp_hangar.server.cli.onboarding.clients import Found, Place, read
from mcp_hangar.server.cli.onboarding.jsonc import NotJson, parse, with_member, without_member

_MARK: Final = ".before-hangar-"
_NEW: Final = "-new"
"""Ends the name of a backup that stands for a file that was not there."""
NAME: Final = "hangar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to one file."""

    path: Path
    backup: Path | None
    """None: there was nothing to do."""
    added: str = ""
    removed: tuple[str, ...] = ()


def entry_for(place: Place, *, url: str, token: bool, command: Sequence[str]) -> dict[str, Any]:
    """What the client needs to reach Hangar. Claude Desktop can only start programs, so it starts one of its own."""
    if place.client == "claude-desktop":
        return {"command": command[0], "args": list(command[1:])}
    entry: dict[str, Any] = {"url": url}
    if place.client in ("vscode", "claude-code"):
        entry = {"type": "http", **entry}
    if token:
        variable = "${HANGAR_TOKEN}" if place.client == "claude-code" else "${env:HANGAR_TOKEN}"
        entry["headers"] = {"Authorization": f"Bearer {variable}"}
    return entry


def connect(place: Place, entry: Mapping[str, Any], taken: Sequence[Found]) -> Change:
    """Add Hangar to the file at `place`, and remove from it the servers in `taken` that stand there."""
    path = place.path.resolve()
    existed = path.exists()
    try:
        before = read(path) if existed else ""
        servers = _servers(before, place)
        text = before
        removed = tuple(
            dict.fromkeys(one.name for one in taken if one.place.path == place.path and one.place.keys == place.keys)
        )
        for name in removed:
            text = without_member(text, place.keys, name)
        if entry and servers.get(NAME) != entry:
            if NAME in servers and not is_hangar(NAME, servers[NAME]):
                raise HangarError("client_config", path=path, detail=f"it has a server called {NAME} that is no Hangar")
            text = with_member(text, place.keys, NAME, dict(entry))
        if text == before:
            return Change(path=place.path, backup=None)
        _check(text, place, entry, removed)
    except (NotJson, UnicodeDecodeError) as error:
        raise HangarError("client_config", path=path, detail=f"it is not JSON: {error}") from None
    except OSError as error:
        raise HangarError("client_config", path=path, detail=error.strerror or str(error)) from None
    try:
        backup = _write(path, text.encode(), before.encode() if existed else None)
    except OSError as error:
        raise HangarError("client_config", path=path, detail=error.strerror or str(error)) from None
    return Change(path=place.path, backup=backup, added=NAME if entry else "", removed=removed)


def taken_over(found: Sequence[Found], candidates: Sequence[Candidate], providers: Mapping[str, Any]) -> list[Found]:
    """The servers in clients that a configuration runs: by what is started or reached, not by what it is called."""
    from mcp_hangar.server.cli.onboarding.references import written

    running = {_launch(provider.get("command"), provider.get("url")) for provider in providers.values()}
    matching = [
        one
        for one in candidates
        if _launch([word.replace("${", "$${") for word in one.command], written(one.url)) in running
    ]
    mine = {id(each) for one in matching for each in one.found}
    return [one for one in found if id(one) in mine]


def _launch(command: Any, url: Any) -> tuple[Any, ...]:
    return (tuple(map(str, command or ())), str(url or ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """One file that Hangar is no longer in."""

    path: Path
    whole: bool
    """Byte for byte as before; else it was changed since, and only what Hangar did was taken back."""


def undo(places: Sequence[Place], *, force: bool) -> list[Restored]:
    """Take Hangar out of every file it was put into. A file that nobody touched since becomes what it was. In one that
    was changed, Hangar's entry goes and the servers come back; with `force` it becomes what it was, too."""
    done: list[Restored] = []
    for path in dict.fromkeys(place.path.resolve() for place in places):
        backups = _backups(path)
        if not backups:
            continue
        now = _digest(path.read_bytes()) if path.exists() else ""
        whole = force or any(_written_digest(one) == now for one in backups)
        try:
            if whole:
                _restore(path, backups, force)
            else:
                _mend(path, backups, [place for place in places if place.path.resolve() == path])
        except (NotJson, UnicodeDecodeError, OSError):
            raise HangarError("client_changed", path=path, backup=backups[-1]) from None
        done.append(Restored(path=path, whole=whole))
    return done


def _restore(path: Path, backups: list[Path], force: bool) -> None:
    now = _digest(path.read_bytes()) if path.exists() else ""
    # Where Hangar wrote several times, each file from before leads to the next.
    while chosen := next((one for one in reversed(backups) if force or _written_digest(one) == now), None):
        if chosen.name.endswith(_NEW):
            path.unlink(missing_ok=True)
            chosen.unlink()
        else:
            chosen.replace(path)
        backups.remove(chosen)
        now = _digest(path.read_bytes()) if path.exists() else ""


def _mend(path: Path, backups: Sequence[Path], places: Sequence[Place]) -> None:
    text = read(path)
    for place in places:
        servers = _servers(text, place)
        if NAME in servers and is_hangar(NAME, servers[NAME]):
            text = without_member(text, place.keys, NAME)
        for backup in reversed(backups):
            for name, entry in reversed(_servers(read(backup), place).items()):
                if name not in _servers(text, place) and not (name == NAME and is_hangar(NAME, entry)):
                    text = with_member(text, place.keys, name, entry)
    _replace(path, text.encode(), path.stat().st_mode & 0o777)
    for backup in backups:
        backup.unlink()


def _backups(path: Path) -> list[Path]:
    found = path.parent.glob(f"{glob.escape(path.name)}{_MARK}*")
    return sorted(found, key=lambda one: one.stat().st_mtime_ns)


def _servers(text: str, place: Place) -> dict[str, Any]:
    value = parse(text) if text.strip("\ufeff \t\r\n") else {}
    for key in place.keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _check(text: str, place: Place, entry: Mapping[str, Any], removed: Sequence[str]) -> None:
    """What is about to be written reads as it should; a defect of ours must not cost a client its configuration."""
    servers = _servers(text, place)
    if (entry and servers.get(NAME) != entry) or any(name in servers for name in removed):
        raise HangarError("client_config", path=place.path, detail="its form is one that Hangar cannot edit")


def _write(path: Path, data: bytes, before: bytes | None) -> Path:
    """Backup first, then the new text, each whole or not at all; the file keeps its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = path.with_name(f"{path.name}{_MARK}{_digest(data)}{_NEW if before is None else ''}")
    mode = path.stat().st_mode & 0o777 if before is not None else 0o600
    _replace(backup, before or b"", mode)
    _replace(path, data, mode)
    return backup


def _replace(path: Path, data: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _written_digest(backup: Path) -> str:
    return backup.name.rpartition(_MARK)[2].removesuffix(_NEW)
