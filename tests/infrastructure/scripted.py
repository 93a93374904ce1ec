# SPDX-License-Identifier: MIT
"""`tests/ports/script.py` behind HTTP: a provider that does as each request tells it, over either HTTP wire."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

from tests.infrastructure.wire import Peer, Wire, serving
from tests.ports.script import Script


class ScriptedHttp:
    """Streamable HTTP: a request is answered on its own stream, what belongs to none goes to the GET stream."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._script = Script(self._apart, self._die)
        self._listener: Peer | None = None
        self._unheard: list[str] = []
        """What was said before somebody listened."""
        self._peers: set[Peer] = set()
        self.dead = asyncio.Event()

    def _apart(self, text: str) -> None:
        self._soon(lambda: self._to_listener(text))

    def _to_listener(self, *texts: str) -> None:
        if self._listener is None:
            self._unheard += texts
            return
        for text in texts:
            self._listener.event(text.encode())

    def _listens(self, peer: Peer) -> None:
        self._listener = peer
        unheard, self._unheard = self._unheard, []
        self._to_listener(*unheard)

    def _die(self, status: int) -> NoReturn:
        self._soon(self.dead.set)
        while True:  # a thread of the dead does nothing more; it is a daemon
            threading.Event().wait()

    def _soon(self, act: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over, and so is the test
            self._loop.call_soon_threadsafe(act)

    async def __call__(self, peer: Peer) -> None:
        self._peers.add(peer)
        try:
            while True:
                request = await peer.request()
                if request.method == "GET":
                    peer.stream()
                    self._listens(peer)
                    await peer.gone()
                    return
                if request.method == "DELETE":
                    peer.answer(b"", "200 OK")
                    continue
                await self._post(peer, request.body.decode())
        finally:
            self._peers.discard(peer)

    async def _post(self, peer: Peer, body: str) -> None:
        begun = False
        done = asyncio.Event()

        def say(text: str) -> None:
            def write() -> None:
                nonlocal begun
                if not begun:
                    begun = True
                    peer.stream()
                peer.event(text.encode(), b"event: message\n")

            self._soon(write)

        thread = self._script.hear(body, say)
        if thread is None:
            peer.answer(b"", "202 Accepted")
            return

        def wait() -> None:
            thread.join()
            self._soon(done.set)

        threading.Thread(target=wait, daemon=True).start()
        await done.wait()
        if begun:
            peer.end()

    def reset(self) -> None:
        for peer in list(self._peers):
            peer.reset()


class ScriptedSse(ScriptedHttp):
    """HTTP+SSE: everything goes to the one stream."""

    async def __call__(self, peer: Peer) -> None:
        self._peers.add(peer)
        try:
            while True:
                request = await peer.request()
                if request.method == "GET":
                    peer.stream()
                    peer.event(b"/messages?session=1", b"event: endpoint\n")
                    self._listens(peer)
                    await peer.gone()
                    return
                self._script.hear(request.body.decode(), self._apart)
                peer.answer(b"Accepted", "202 Accepted", "text/plain")
        finally:
            self._peers.discard(peer)


@contextlib.asynccontextmanager
async def scripted(provider: ScriptedHttp) -> AsyncIterator[Wire]:
    """Serves until it is told to die; then every socket, the listening one too, is closed."""
    async with serving(provider) as wire:

        async def bury() -> None:
            await provider.dead.wait()
            wire.server.close()
            provider.reset()

        task = asyncio.get_running_loop().create_task(bury())
        try:
            yield wire
        finally:
            task.cancel()
            await asyncio.wait([task])
