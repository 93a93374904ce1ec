# SPDX-License-Identifier: MIT
"""One thread for writes that may block (a slow pipe, a full disk, a lock of SQLite), so that the loop never does.

Jobs run one after the other. The thread is a daemon: a write that never comes back must not keep Hangar from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class WriterThread:
    """`run` is for the loop, and callers wait for their job, so the queue is as long as callers are many."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, do: Callable[[], T]) -> T:
        """Does it over there; returns or raises here what it does. Cancelling stops the waiting, not the job."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(do, loop, done).run)
        return await done

    def post(self, do: Callable[[], object], what: str) -> None:
        """Does it over there, some time; nobody waits, so a failure is logged."""

        def work() -> None:
            try:
                do()
            except Exception as error:  # the thread must survive; what was lost is named
                log.error("background_write_failed", what=what, error=repr(error))

        self._jobs.put(work)

    async def close(self, timeout: float = 5.0) -> None:
        """Ends the thread after the jobs that were given to it, but waits no longer than `timeout` seconds."""
        if not self._thread.is_alive():
            return
        try:
            async with asyncio.timeout(timeout):
                await self.run(lambda: None)
        except TimeoutError:
            pass
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class _Job(Generic[T]):
    def __init__(self, do: Callable[[], T], loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]) -> None:
        self.done = done
        self._do = do
        self._loop = loop

    def run(self) -> None:
        try:
            value = self._do()
        except BaseException as error:  # whatever it is, it is for the one who waits
            self._tell(partial(self.done.set_exception, error))
        else:
            self._tell(partial(self.done.set_result, value))

    def _tell(self, settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(lambda: None if self.done.done() else settle())
