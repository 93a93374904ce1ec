# SPDX-License-Identifier: MIT
"""Who may use the operator plane: whoever has the admin token, or a session token that a one-time code was traded for.

A code may stand in a link, since it works once and only for minutes; a token never does. Only digests are kept, so
that comparing them tells nothing and no dump of memory holds a key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.events import AuthFailed, Event, Severity

CODE_SECONDS: Final = 600.0
SESSION_SECONDS: Final = 12 * 3600.0
MOST_CODES: Final = 16
MOST_SESSIONS: Final = 100
_REFUSALS_EVERY: Final = 1.0


class Code(msgspec.Struct, frozen=True):
    """Works once."""

    code: str
    expires_in: float
    """Seconds."""


class Login(msgspec.Struct, frozen=True):
    """Send the token as `Authorization: Bearer`, or as the first message of the stream. Keep it in `sessionStorage`."""

    token: str
    expires_in: float
    """Seconds."""


class Access:
    def __init__(
        self,
        admin_token: str,
        record: Callable[[Event], None] = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not admin_token:
            raise ValueError("the operator plane needs an admin token")
        self._admin = _digest(admin_token)
        self._record, self._clock = record, clock
        self._codes: dict[bytes, float] = {}
        self._sessions: dict[bytes, float] = {}
        self._refused_at = float("-inf")
        self._refused = 0

    def admits(self, token: str) -> bool:
        return self.is_admin(token) or self._sessions.get(_digest(token), 0.0) > self._clock()

    def is_admin(self, token: str) -> bool:
        return hmac.compare_digest(_digest(token), self._admin)

    def new_code(self) -> Code:
        code = secrets.token_urlsafe(24)
        _remember(self._codes, code, self._clock() + CODE_SECONDS, MOST_CODES)
        return Code(code, CODE_SECONDS)

    def use(self, code: str) -> bool:
        """Whether the code was good; it no longer is."""
        return self._codes.pop(_digest(code), 0.0) > self._clock()

    def trade(self, code: str) -> Login:
        """A session token for a code. Raises `RequestError("unauthorized")`."""
        if not self.use(code):
            raise RequestError("unauthorized", token="a new one-time code: each works once, for ten minutes")
        token = secrets.token_urlsafe(32)
        _remember(self._sessions, token, self._clock() + SESSION_SECONDS, MOST_SESSIONS)
        return Login(token, SESSION_SECONDS)

    def refused(self, door: str, scope: Any) -> RequestError:
        """What whoever was not let in hears. Recorded at most once a second: knocking cannot fill the record."""
        self._refused += 1
        now = self._clock()
        if now - self._refused_at >= _REFUSALS_EVERY:
            client = scope.get("client")
            reason = "no valid admin token" + (f" ({self._refused} times)" if self._refused > 1 else "")
            peer = client[0] if client else ""
            self._record(AuthFailed(at=time.time(), severity=Severity.medium, door=door, peer=peer, reason=reason))
            self._refused_at, self._refused = now, 0
        return RequestError("unauthorized", token="the admin token (in admin.token of state.dir)")


def bearer(headers: list[tuple[bytes, bytes]]) -> str:
    """The token of the one `Authorization` header; empty if there is none, or more than one."""
    found = [value for name, value in headers if name == b"authorization"]
    scheme, _, token = found[0].partition(b" ") if len(found) == 1 else (b"", b"", b"")
    return token.strip().decode("utf-8", "surrogateescape") if scheme.lower() == b"bearer" else ""


def _digest(token: str) -> bytes:
    """Of one length for all, so that comparing tells nothing about the token's."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _remember(table: dict[bytes, float], secret: str, until: float, most: int) -> None:
    if len(table) >= most:
        del table[next(iter(table))]
    table[_digest(secret)] = until
