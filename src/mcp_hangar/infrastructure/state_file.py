# SPDX-License-Identifier: MIT
"""What a restart must not forget: secrets made at the first start, providers that an operator stopped, catalogues.

`state.dir` (0700) holds `state.db` (SQLite), and its id once more in `state.id`: a database that is missing, empty,
corrupt or another one's is refused and never replaced in silence, for what it held would be lifted by that. Writes
run on one thread and are acknowledged after their commit. Several Hangars may share the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mcp_hangar.domain.errors import Unavailable
from mcp_hangar.infrastructure.writer_thread import WriterThread

CATALOGUES: Final = 1000
CATALOGUE_BYTES: Final = 32 * 1024 * 1024
"""Both bound the catalogue cache; the oldest go first."""
_APPLICATION_ID: Final = 0x48414E47
_VERSION: Final = 1
_TABLES: Final = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE identity (id TEXT NOT NULL);
CREATE TABLE held (provider TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE catalogue (
    declaration TEXT NOT NULL, capabilities TEXT NOT NULL, content BLOB NOT NULL, kept REAL NOT NULL,
    PRIMARY KEY (declaration, capabilities)
) WITHOUT ROWID;
"""


class StateFile:
    """Opened once at start, in `__init__`, which blocks for a few file operations and raises
    `Unavailable("state_refused")`. Everything after that is off the loop."""

    admin_token: str
    hash_key: bytes
    """For the keyed hash of arguments, unless the configuration gives one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._database = directory / "state.db"
        self._id = directory / "state.id"
        try:
            _make_private(directory)
            with _locked(directory):
                self._check_or_create()
                self.admin_token = _secret(directory / "admin.token", lambda: secrets.token_urlsafe(32))
                self.hash_key = _secret(directory / "audit.key", lambda: secrets.token_hex(32)).encode()
        except OSError as error:
            detail = f"{error.filename or directory}: {error.strerror}"
            fix = "Give it to the user that Hangar runs as, free space on its disk, or set state.dir to another folder."
            raise refused(directory, detail, fix) from None
        # From here on used on the writer thread only.
        self._connection = self._connect(self._database)
        rows = self._connection.execute("SELECT declaration, capabilities, content FROM catalogue").fetchall()
        self._catalogues = {(declaration, capabilities): bytes(content) for declaration, capabilities, content in rows}
        self._thread = WriterThread("state")

    async def close(self) -> None:
        await self._thread.run(self._connection.close)
        await self._thread.close()

    # -- held providers -----------------------------------------------------------------------------------------------

    async def held(self) -> frozenset[str]:
        """Providers that an operator stopped; they stay so until they are started by one."""
        rows = await self._thread.run(lambda: self._connection.execute("SELECT provider FROM held").fetchall())
        return frozenset(row[0] for row in rows)

    async def hold(self, provider: str) -> None:
        """Returns once it is on the disk."""
        await self._write("INSERT OR IGNORE INTO held VALUES (?, ?)", provider, time.time())

    async def release(self, provider: str) -> None:
        await self._write("DELETE FROM held WHERE provider = ?", provider)

    # -- catalogues ---------------------------------------------------------------------------------------------------

    def get(self, declaration: str, capabilities: str) -> bytes | None:
        """What was kept for a provider's declaration (its digest) and a capabilities key. Read at start: no waiting."""
        return self._catalogues.get((declaration, capabilities))

    def put(self, declaration: str, capabilities: str, data: bytes) -> None:
        """Kept soon; a catalogue that is lost in between is only asked for again."""
        if len(data) > CATALOGUE_BYTES // 4:
            return
        self._catalogues[declaration, capabilities] = data
        self._thread.post(lambda: self._keep(declaration, capabilities, data), "catalogue")

    def _keep(self, declaration: str, capabilities: str, content: bytes) -> None:
        with self._connection as connection:
            connection.execute(
                "INSERT OR REPLACE INTO catalogue VALUES (?, ?, ?, ?)",
                (declaration, capabilities, content, time.time()),
            )
            gone = connection.execute(
                "DELETE FROM catalogue WHERE (declaration, capabilities) IN (SELECT declaration, capabilities FROM ("
                " SELECT declaration, capabilities, row_number() OVER newest AS number,"
                " sum(length(content)) OVER newest AS size FROM catalogue WINDOW newest AS (ORDER BY kept DESC))"
                " WHERE number > ? OR size > ?) RETURNING declaration, capabilities",
                (CATALOGUES, CATALOGUE_BYTES),
            ).fetchall()
        for key in gone:
            self._catalogues.pop(key, None)

    async def _write(self, statement: str, *values: object) -> None:
        def write() -> None:
            with self._connection as connection:
                connection.execute(statement, values)

        await self._thread.run(write)

    # -- opening ------------------------------------------------------------------------------------------------------

    def _check_or_create(self) -> None:
        new_id = self._id.with_suffix(".id.new")
        new_database = self._database.with_suffix(".db.new")
        if not self._id.exists() and not self._database.exists():
            for left in (new_database, new_id):  # of a first start that did not come to its end
                left.unlink(missing_ok=True)
            self._create(new_database, new_id)
        if new_id.exists() and self._database.exists() and not self._id.exists():
            # A first start ended between the two; the id in the database below tells whether they belong together.
            new_id.rename(self._id)
            _sync(self.directory)
        self._check()

    def _create(self, database: Path, identity: Path) -> None:
        name = uuid.uuid4().hex
        _write_private(identity, name + "\n")
        _write_private(database, "")
        connection = self._connect(database)
        with contextlib.closing(connection), connection:
            connection.executescript(_TABLES)
            connection.execute("INSERT INTO identity VALUES (?)", (name,))
        database.rename(self._database)
        _sync(self.directory)

    def _check(self) -> None:
        if not self._id.exists():
            raise self._refused("state.db is there, but state.id, which names it, is missing")
        if not self._database.exists():
            raise self._refused("state.db is missing, though state.id says that there was one")
        if self._database.stat().st_size == 0:
            raise self._refused("state.db is empty")
        try:
            with contextlib.closing(self._connect(self._database)) as connection:
                application, version = (
                    connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
                )
                if application != _APPLICATION_ID:
                    raise self._refused("state.db is not Hangar's")
                if version != _VERSION:
                    raise self._refused(f"state.db has version {version}, this Hangar knows {_VERSION}")
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise self._refused(f"state.db is corrupt ({verdict})")
                found = connection.execute("SELECT id FROM identity").fetchone()
        except sqlite3.Error as error:
            raise self._refused(f"state.db cannot be read ({error})") from None
        if found is None or found[0] != self._id.read_text("utf-8", "replace").strip():
            raise self._refused("state.db is not the one that state.id names")

    def _refused(self, detail: str) -> Unavailable:
        fix = (
            f"Restore state.db and state.id together from a backup. If what they held may be forgotten (providers that "
            f"were stopped, cached catalogues), remove {self._database} and {self._id} and start again."
        )
        return refused(self.directory, detail, fix)

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=10.0, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def refused(directory: Path, detail: str, fix: str) -> Unavailable:
    return Unavailable("state_refused", directory=directory, detail=detail, fix=fix)


def _make_private(directory: Path) -> None:
    """Creates it for its owner only. One that exists and others may write to is refused, for they could replace it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = directory.stat()
    mode = stat.S_IMODE(status.st_mode)
    if (
        status.st_uid == os.geteuid()
        and mode & 0o077
        and ((directory / "state.id").exists() or not any(directory.iterdir()))
    ):
        directory.chmod(0o700)
    elif mode & 0o002:
        raise refused(
            directory, "everybody may write to it", f"Run `chmod 700 {directory}`, or set state.dir elsewhere."
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two first starts at once make one state. Locks the folder itself, so that no file is left over."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _secret(path: Path, make: Callable[[], str]) -> str:
    """Reads a secret, or makes it at the first start. One that others may read is no secret any more."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            fix = f"Remove {path}, so that a new one is made; or `chmod 600` it, if nobody else can have read it."
            raise refused(path.parent, f"{path.name} is readable by others", fix)
        value = path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        value = make()
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        _write_private(fresh, value + "\n")
        fresh.rename(path)
        _sync(path.parent)
    if len(value) < 16 or not value.isprintable():
        raise refused(path.parent, f"{path.name} holds no usable secret", f"Remove {path}, so that a new one is made.")
    return value


def _write_private(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
