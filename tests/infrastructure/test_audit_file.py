# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcp_hangar.application.event_codec import Record
from mcp_hangar.infrastructure.audit_file import AuditFile

pytestmark = pytest.mark.anyio


def records(first: int, last: int, size: int = 60) -> list[Record]:
    return [Record(seq, "t", json.dumps({"seq": seq, "x": "y" * size}).encode()) for seq in range(first, last + 1)]


def seqs(*paths: Path) -> list[int]:
    return [json.loads(line)["seq"] for path in paths for line in path.read_text().splitlines()]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def files_in(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def test_lines_are_appended_in_order_to_a_file_only_its_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "deep" / "audit.jsonl"
    for first in (1, 11):
        audit = AuditFile(str(path))
        await audit.see(records(first, first + 4))
        await audit.see(records(first + 5, first + 9))
        await audit.close()
        first += 10
    assert seqs(path)[:10] == list(range(1, 11))
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert path.read_bytes().endswith(b"\n")


async def test_rotation_keeps_whole_lines_the_newest_files_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(str(path), rotate_bytes=1000, rotate_keep=3)
    for first in range(1, 201, 20):
        await audit.see(records(first, first + 19))
    await audit.close()
    files = files_in(tmp_path)
    assert [file.name for file in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"]
    assert max(map(os.path.getsize, files)) <= 1000
    assert all(mode(file) == 0o600 for file in files)
    found = seqs(*(tmp_path / f"audit.jsonl.{number}" for number in (3, 2, 1)), path)
    assert found == list(range(found[0], 201))
    assert len(found) > 20


async def test_a_line_larger_than_the_rotation_size_gets_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(str(path), rotate_bytes=100, rotate_keep=2)
    await audit.see(records(1, 2, size=500))
    await audit.close()
    assert seqs(tmp_path / "audit.jsonl.1", path) == [1, 2]


async def test_without_old_files_to_keep_rotation_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(str(path), rotate_bytes=500, rotate_keep=0)
    await audit.see(records(1, 30))
    await audit.close()
    assert [file.name for file in files_in(tmp_path)] == ["audit.jsonl"]
    assert seqs(path)[-1] == 30


async def test_a_file_moved_by_somebody_else_is_followed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(str(path))
    await audit.see(records(1, 2))
    path.rename(tmp_path / "moved")
    await audit.see(records(3, 4))
    path.unlink()
    await audit.see(records(5, 6))
    await audit.close()
    assert seqs(tmp_path / "moved") == [1, 2]
    assert seqs(path) == [5, 6]


async def test_two_hangars_share_a_file_and_its_rotation_without_losing_a_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    one, two = (AuditFile(str(path), rotate_bytes=2000, rotate_keep=100) for _ in range(2))
    for first in range(1, 100, 2):
        await asyncio.gather(one.see(records(first, first)), two.see(records(1000 + first, 1000 + first)))
    await one.close()
    await two.close()
    files = files_in(tmp_path)
    assert len(files) > 3
    expected = [seq for first in range(1, 100, 2) for seq in (first, 1000 + first)]
    assert sorted(seqs(*files)) == sorted(expected)


def test_a_full_disk_raises_and_afterwards_no_line_is_half_or_twice(tmp_path: Path) -> None:
    """The file size limit of the process plays the full disk: a write is cut short, then refused."""
    script = f"""
import asyncio, json, resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from mcp_hangar.application.event_codec import Record
from mcp_hangar.infrastructure.audit_file import AuditFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def records(first, last):
    return [Record(s, "t", json.dumps({{"seq": s, "x": "y" * 60}}).encode()) for s in range(first, last + 1)]
async def main():
    audit = AuditFile({str(tmp_path / "audit.jsonl")!r})
    await audit.see(records(1, 3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
    failures = 0
    for _ in range(3):
        try:
            await audit.see(records(4, 20))
        except OSError as error:
            failures += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await audit.see(records(4, 20))
    await audit.see(records(21, 22))
    await audit.close()
    print(failures)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"
    assert seqs(tmp_path / "audit.jsonl") == list(range(1, 23))


async def test_a_pipe_that_nobody_reads_blocks_neither_the_loop_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        audit = AuditFile("stdout")
        monkeypatch.undo()
        seen = asyncio.create_task(audit.see(records(1, 3000)))
        for _ in range(50):  # the loop goes on turning
            await asyncio.sleep(0.001)
        assert not seen.done()
        writers = [thread for thread in threading.enumerate() if thread.name == "audit"]
        await audit.close()
        with pytest.raises(BrokenPipeError):
            await seen
        for writer in writers:
            await asyncio.to_thread(writer.join, 20)
            assert not writer.is_alive()
    os.close(reading)


async def test_a_slow_reader_gets_every_line_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 700):
            got.extend(chunk)

    reader = threading.Thread(target=read)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        audit = AuditFile("stderr")
        monkeypatch.undo()
        reader.start()
        await audit.see(records(1, 3000))
        await audit.close()
    await asyncio.to_thread(reader.join)
    os.close(reading)
    assert [json.loads(line)["seq"] for line in got.splitlines()] == list(range(1, 3001))


async def test_a_reader_that_went_away_is_a_failure_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        audit = AuditFile("stdout")
        monkeypatch.undo()
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            await audit.see(records(1, 1))
        await audit.close()


async def test_what_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        AuditFile(str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        AuditFile(str(tmp_path / "file" / "audit.jsonl"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device") as caught:
        AuditFile(str(tmp_path / "pipe"))
    assert caught.value.errno == errno.ENXIO


async def test_a_device_is_neither_rotated_nor_replaced() -> None:
    audit = AuditFile("/dev/null", rotate_bytes=10, rotate_keep=1)
    await audit.see(records(1, 10))
    await audit.close()
    assert not os.access("/dev/null.1", os.F_OK)


def test_the_test_of_the_full_disk_leaves_this_process_unlimited() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
