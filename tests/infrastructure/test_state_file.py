# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_hangar.domain.errors import Unavailable
from mcp_hangar.infrastructure import state_file
from mcp_hangar.infrastructure.state_file import StateFile

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[StateFile]:
    state = StateFile(directory)
    try:
        yield state
    finally:
        await state.close()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


async def test_a_first_start_makes_everything_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "hangar"
    async with opened(directory) as state:
        assert len(state.admin_token) >= 32
        assert len(state.hash_key) == 64
    assert names(directory) == {"state.db", "state.id", "admin.token", "audit.key"}
    assert mode(directory) == 0o700
    assert {mode(directory / name) for name in names(directory)} == {0o600}


async def test_a_second_start_finds_what_the_first_left(tmp_path: Path) -> None:
    async with opened(tmp_path / "s") as first:
        await first.hold("time")
        await first.hold("git")
        await first.hold("git")
        await first.release("time")
        first.put("digest", "{}", b'{"tools":[]}')
        token, key = first.admin_token, first.hash_key
    async with opened(tmp_path / "s") as second:
        assert await second.held() == {"git"}
        assert second.get("digest", "{}") == b'{"tools":[]}'
        assert second.get("digest", '{"roots":{}}') is None
        assert (second.admin_token, second.hash_key) == (token, key)


async def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    script = """
import asyncio, os, signal, sys
from pathlib import Path
from mcp_hangar.infrastructure.state_file import StateFile
async def main():
    await StateFile(Path(sys.argv[1])).hold("git")
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path / "s"))
    assert await process.wait() == -9
    async with opened(tmp_path / "s") as state:
        assert await state.held() == {"git"}


def _other(directory: Path) -> None:
    asyncio.run(_make(directory.parent / "other"))
    (directory / "state.db").write_bytes((directory.parent / "other" / "state.db").read_bytes())


async def _make(directory: Path) -> None:
    async with opened(directory):
        pass


def _foreign(directory: Path) -> None:
    (directory / "state.db").unlink()
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")


def _newer(directory: Path) -> None:
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection, connection:
        connection.execute("PRAGMA user_version = 99")


def _scribbled(directory: Path) -> None:
    data = bytearray((directory / "state.db").read_bytes())
    data[4096 : 4096 + 2000] = b"\xff" * 2000
    (directory / "state.db").write_bytes(bytes(data))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: (path / "state.db").unlink(), "state.db is missing"),
    "empty": (lambda path: (path / "state.db").write_bytes(b""), "state.db is empty"),
    "cut": (lambda path: os.truncate(path / "state.db", 5000), ""),
    "no database": (lambda path: (path / "state.db").write_bytes(b"hello" * 1000), "cannot be read"),
    "scribbled over": (_scribbled, ""),
    "another one": (_other, "not the one that state.id names"),
    "not ours": (_foreign, "not Hangar's"),
    "newer": (_newer, "version 99"),
    "nameless": (lambda path: (path / "state.id").unlink(), "state.id, which names it, is missing"),
    "misnamed": (lambda path: (path / "state.id").write_text("x"), "not the one that state.id names"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused_and_never_replaced(damage: str, tmp_path: Path) -> None:
    directory = tmp_path / "s"
    asyncio.run(_make(directory))
    harm, says = DAMAGE[damage]
    harm(directory)
    before = contents(directory)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            StateFile(directory)
        assert caught.value.code == "state_refused"
        assert says in caught.value.what
        assert str(directory / "state.db") in caught.value.fix
    assert contents(directory) == before


async def test_a_first_start_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    async with opened(directory) as state:
        await state.hold("git")
    # As if it had ended between the two renames.
    (directory / "state.id").rename(directory / "state.id.new")
    async with opened(directory) as state:
        assert await state.held() == {"git"}
    assert "state.id.new" not in names(directory)
    # As if it had ended before both.
    (directory / "state.id").rename(directory / "state.id.new")
    (directory / "state.db").rename(directory / "state.db.new")
    async with opened(directory) as state:
        assert await state.held() == frozenset()


async def test_simultaneous_first_starts_agree_on_one_state(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from mcp_hangar.infrastructure.state_file import StateFile
async def main():
    state = StateFile(Path(sys.argv[1]))
    await state.hold(sys.argv[2])
    print(state.admin_token, state.hash_key.decode())
    await state.close()
asyncio.run(main())
"""
    arguments = [sys.executable, "-c", script, str(tmp_path / "s")]
    processes = [
        await asyncio.create_subprocess_exec(*arguments, f"p{number}", stdout=subprocess.PIPE) for number in range(4)
    ]
    answers = [(await process.communicate())[0] for process in processes]
    assert len(set(answers)) == 1
    assert answers[0]
    async with opened(tmp_path / "s") as state:
        assert await state.held() == {"p0", "p1", "p2", "p3"}


async def test_the_catalogue_cache_keeps_the_newest_within_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "CATALOGUES", 5)
    monkeypatch.setattr(state_file, "CATALOGUE_BYTES", 4000)
    async with opened(tmp_path / "s") as state:
        for number in range(10):
            state.put(f"d{number}", "{}", b"small")
        await state.held()  # the thread has come this far
        assert [state.get(f"d{number}", "{}") is not None for number in range(10)] == [False] * 5 + [True] * 5
        for number in range(10, 16):
            state.put(f"d{number}", "{}", b"x" * 1000)
        state.put("huge", "{}", b"x" * 1001)
        await state.held()
    async with opened(tmp_path / "s") as state:
        assert [number for number in range(16) if state.get(f"d{number}", "{}") is not None] == [12, 13, 14, 15]
        assert state.get("huge", "{}") is None


@pytest.mark.parametrize("name", ["admin.token", "audit.key"])
def test_a_secret_that_others_could_read_or_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    asyncio.run(_make(tmp_path / "s"))
    path = tmp_path / "s" / name
    path.chmod(0o644)
    with pytest.raises(Unavailable, match="readable by others"):
        StateFile(tmp_path / "s")
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(Unavailable, match="no usable secret"):
        StateFile(tmp_path / "s")


def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "something").write_text("")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(Unavailable, match="everybody may write"):
        StateFile(tmp_path / "open")
    assert names(tmp_path / "open") == {"something"}


def test_a_folder_that_cannot_be_made_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file") as caught:
        StateFile(tmp_path / "file" / "state")
    assert caught.value.code == "state_refused"
