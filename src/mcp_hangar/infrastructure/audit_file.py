# SPDX-License-Identifier: MIT
"""Subscriber: the audit trail as JSON lines, to stdout, stderr or a file that is rotated by size.

A line is written whole or not at all: what a full disk or a slow pipe cut short is completed first when it takes
bytes again. A failure is raised, so that the event log refuses calls rather than lose their record. Writes happen on
a thread of their own, since a pipe that nobody reads, or a disk, may block for as long as it likes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mcp_hangar.application.event_codec import Record
from mcp_hangar.infrastructure.writer_thread import WriterThread

_CHUNK: Final = 1024 * 1024


class AuditFile:
    """`sink` is `stdout`, `stderr` or a path. A file is rotated at `rotate_bytes` (0: never), keeping `rotate_keep` old
    ones."""

    name = "audit"
    effects_outside = True

    def __init__(self, sink: str, *, rotate_bytes: int = 0, rotate_keep: int = 5) -> None:
        """Raises `OSError` if the file cannot be opened, so that Hangar does not start without its record."""
        self.sink = sink
        self._path: Path | None = None
        self._rotate_bytes = rotate_bytes
        self._rotate_keep = rotate_keep
        self._rest = b""  # of a line that was begun
        self._begun = 0  # seq of the newest record whose line was begun
        # Closing it interrupts a wait for a pipe that nobody reads.
        self._stop_reading, self._stop = os.pipe()
        try:
            if sink in ("stdout", "stderr"):
                self._fd = os.dup((sys.stdout if sink == "stdout" else sys.stderr).fileno())
                self._size = 0
            else:
                self._path = Path(sink).expanduser()
                self._open()
        except BaseException:
            os.close(self._stop_reading)
            os.close(self._stop)
            raise
        self._thread = WriterThread("audit")

    async def see(self, records: Sequence[Record]) -> None:
        await self._thread.run(lambda: self._write(records))

    async def close(self) -> None:
        os.close(self._stop)
        await self._thread.run(self._end)
        await self._thread.close()

    # -- on the thread ------------------------------------------------------------------------------------------------

    def _write(self, records: Sequence[Record]) -> None:
        """What was seen before (the same records come again after a failure) is not written twice."""
        self._finish_line()
        if self._path is not None:
            self._follow()
        fresh = records if records[0].seq > self._begun else [each for each in records if each.seq > self._begun]
        while fresh:
            lines = b"\n".join([record.data for record in fresh]) + b"\n"
            taken = len(fresh) if self._fits(lines) else self._room(fresh)
            if taken == 0:
                self._rotate()
                taken = self._room(fresh) or 1  # a line larger than a whole file gets one of its own
            if taken < len(fresh):
                lines = b"\n".join([record.data for record in fresh[:taken]]) + b"\n"
            self._put(lines, fresh[:taken])
            fresh = fresh[taken:]

    def _fits(self, lines: bytes) -> bool:
        return self._path is None or not self._rotate_bytes or self._size + len(lines) <= self._rotate_bytes

    def _room(self, records: Sequence[Record]) -> int:
        """How many of the records the file takes before it is to be rotated."""
        size = self._size
        for count, record in enumerate(records):
            size += len(record.data) + 1
            if size > self._rotate_bytes:
                return count
        return len(records)

    def _put(self, lines: bytes, records: Sequence[Record]) -> None:
        written = 0
        try:
            while written < len(lines):
                written += self._some(lines[written : written + _CHUNK])
        finally:
            if written == len(lines):
                self._begun = records[-1].seq
            elif written:
                done = 0
                for record in records:
                    if done >= written:
                        break
                    done += len(record.data) + 1
                    self._begun = record.seq
                self._rest = lines[written:done]

    def _finish_line(self) -> None:
        while self._rest:
            self._rest = self._rest[self._some(self._rest) :]

    def _some(self, data: bytes) -> int:
        """Writes some of it, when it can be written without blocking."""
        if self._regular:
            count = os.write(self._fd, data)
        else:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.register(self._stop_reading, select.POLLIN)
            ready = dict(poll.poll())
            if self._fd not in ready:
                raise BrokenPipeError(f"{self.sink} took nothing more before Hangar stopped")
            # A pipe that is ready takes this much for certain; more could block.
            count = os.write(self._fd, data[: select.PIPE_BUF])
        self._size += count
        return count

    @property
    def _regular(self) -> bool:
        return self._path is not None and stat.S_ISREG(self._mode)

    _mode = 0

    def _open(self) -> None:
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Without O_NONBLOCK a named pipe would hold us until somebody reads it; with it, that is an error at start.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self._path, flags, 0o600)
        status = os.fstat(fd)
        self._fd, self._mode, self._size = fd, status.st_mode, status.st_size

    def _follow(self) -> None:
        """If the file was moved or removed (by another Hangar, or logrotate), goes on in the one of that name."""
        assert self._path is not None
        if not self._regular:
            return
        ours = os.fstat(self._fd)
        try:
            named = self._path.stat()
        except FileNotFoundError:
            named = None
        if named is None or (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            old = self._fd
            self._open()
            os.close(old)
        else:
            self._size = ours.st_size

    def _rotate(self) -> None:
        """`audit.jsonl` -> `audit.jsonl.1` -> … Several Hangars may share the file: one rotates, the others follow."""
        assert self._path is not None
        if not self._regular:
            return
        os.fsync(self._fd)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            before = self._fd
            self._follow()
            if self._fd == before and self._size:
                for number in range(self._rotate_keep - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        self._numbered(number).replace(self._numbered(number + 1))
                if self._rotate_keep:
                    self._path.replace(self._numbered(1))
                else:
                    self._path.unlink()
                self._open()
                os.close(before)
            os.fsync(directory)
        finally:
            os.close(directory)

    def _numbered(self, number: int) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{number}")

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            if self._regular:
                os.fsync(self._fd)
        os.close(self._fd)
        os.close(self._stop_reading)
