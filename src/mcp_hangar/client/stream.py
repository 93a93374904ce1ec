# SPDX-License-Identifier: MIT
"""The live stream as an iterator: it connects, subscribes, and after a break goes on from the last cursor by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Final, cast

from mcp_hangar.client.shapes import Event

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_WAIT: Final = (0.1, 5.0)
_OPEN_TIMEOUT: Final = 10.0
_LAST_WORD: Final = frozenset({4400, 4401, 4429})
"""Close codes after which trying again is no use."""
_SILENT: Final = "stream_silent"
"""Somebody was slow, and it is tried again."""
_MOST_MESSAGE: Final = 16 * 1024 * 1024

Connect = Callable[[], "AbstractContextManager[ClientConnection]"]


class Stream(Iterator[Event]):
    """Events, oldest first, until it is closed. `cursor` is that of the last one that was handed out.

    What is no longer kept is told by an event of type `gap`, with `first` and `last`.
    """

    def __init__(
        self,
        connect: Connect,
        token: str,
        *,
        families: Sequence[str],
        providers: Sequence[str],
        severity: str,
        after: str,
        patience: float,
        refused: Callable[[dict[str, Any]], Exception],
        unreachable: Callable[[str], Exception],
    ) -> None:
        """`patience`: for how long a broken connection is tried again; 0: not at all."""
        self.cursor = after
        self._connect, self._token = connect, token
        self._wanted = {"families": list(families), "providers": list(providers), "severity": severity}
        self._patience = patience
        self._refused, self._unreachable = refused, unreachable
        self._connection: ClientConnection | None = None
        self._opened = ExitStack()
        self._ready: list[tuple[Event, str]] = []
        self._closed = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """May be called from another thread, or from within the loop over the events."""
        self._closed = True
        self._opened.close()

    def __next__(self) -> Event:
        while not self._ready:
            if self._closed:
                raise StopIteration
            self._take()
        event, cursor = self._ready.pop(0)
        self.cursor = cursor
        return event

    def open(self) -> None:
        """Connect and subscribe now; what happens from here on is told. Without it the first event asked for does."""
        if self._connection is None:
            self._reach()

    def _take(self) -> None:
        from websockets.exceptions import ConnectionClosed

        self.open()
        if self._connection is None:  # closed meanwhile
            return
        try:
            self._hear(json.loads(self._connection.recv()))
        except ConnectionClosed as error:
            self._connection = None
            if self._closed:
                return
            code = error.rcvd.code if error.rcvd else 1006
            if code in _LAST_WORD or not self._patience:
                raise self._unreachable(f"the stream was closed ({code} {error.rcvd and error.rcvd.reason})") from None

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "events":
                # Within a batch the cursor is that of each event, so that whoever stops between two misses none.
                events = cast("list[Event]", message["events"])
                self._ready += [(event, f"{event.get('epoch')}:{event.get('seq')}") for event in events[:-1]]
                self._ready.append((events[-1], message["cursor"]))
            case "gap":
                self._ready.append((cast("Event", message), message["last"]))
            case "progress":
                self.cursor = message["cursor"]
            case "error":
                self._connection = None
                if message["problem"]["code"] != _SILENT:
                    raise self._refused(message["problem"])

    def _reach(self) -> None:
        from websockets.exceptions import InvalidStatus, WebSocketException

        until = time.monotonic() + self._patience
        wait = _WAIT[0]
        while not self._closed:
            try:
                self._connection = self._subscribed()
                break
            except (OSError, WebSocketException, TimeoutError) as error:
                if time.monotonic() + wait > until or isinstance(error, InvalidStatus):
                    raise self._unreachable(str(error) or type(error).__name__) from None
                time.sleep(wait)
                wait = min(2 * wait, _WAIT[1])
        if self._closed:  # by another thread
            self._opened.close()

    def _subscribed(self) -> ClientConnection:
        self._opened.close()
        connection = self._opened.enter_context(self._connect())
        try:
            connection.send(json.dumps({"type": "authenticate", "token": self._token}))
            self._expect(connection, "welcome")
            connection.send(json.dumps({"type": "subscribe", **self._wanted, "after": self.cursor}))
            told = self._expect(connection, "subscribed")
            self.cursor = self.cursor or told["cursor"]
        except BaseException:
            self._opened.close()
            raise
        return connection

    def _expect(self, connection: ClientConnection, kind: str) -> dict[str, Any]:
        message = cast("dict[str, Any]", json.loads(connection.recv(timeout=_OPEN_TIMEOUT)))
        if message["type"] == "error":
            if message["problem"]["code"] == _SILENT:
                raise TimeoutError(message["problem"]["title"])
            raise self._refused(message["problem"])
        if message["type"] != kind:
            raise self._unreachable(f"it answered {message['type']} where {kind} was due")
        return message


def connect(url: str, socket: str) -> AbstractContextManager[ClientConnection]:
    """To the stream of the Hangar at `url`, or at a Unix socket. No proxy: the token is for Hangar alone."""
    from websockets.sync.client import connect as dial
    from websockets.sync.client import unix_connect

    if socket:
        return unix_connect(
            socket,
            "ws://localhost/api/v1/stream",
            compression=None,
            open_timeout=_OPEN_TIMEOUT,
            max_size=_MOST_MESSAGE,
        )
    where = url.replace("http", "ws", 1) + "/api/v1/stream"
    return dial(where, compression=None, open_timeout=_OPEN_TIMEOUT, max_size=_MOST_MESSAGE, proxy=None)
