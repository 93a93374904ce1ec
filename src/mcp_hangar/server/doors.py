# SPDX-License-Identifier: MIT
"""Who may knock: Host, Origin and routing headers, checked before anything is read.

A page on another name must not reach a listener on this machine (DNS rebinding), and a header that comes twice means
two things to two readers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import MutableMapping
from typing import Any, Final

from mcp_hangar.domain.errors import RequestError

_ONCE: Final = frozenset(
    {b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id", b"authorization", b"host", b"origin"}
)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")
_MOST_REMEMBERED: Final = 256


class Doors:
    """`port` is the bound one. With a loopback address the loopback names are served; with a wildcard address these and
    any IP literal are, since rebinding needs a name that somebody else can point here."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        allowed_hosts: tuple[str, ...],
        allowed_origins: tuple[str, ...],
    ) -> None:
        self._any_address = host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        names = {*allowed_hosts, f"[{host}]" if ":" in host else host}
        if self._any_address or host in ("127.0.0.1", "::1", "localhost"):
            names |= set(_LOOPBACK)
        self._hosts = {name.lower() for name in names} | {f"{name}:{port}".lower() for name in names}
        self._here = {name for name in self._hosts if _PORT.search(name)}
        self._origins = {origin.lower().rstrip("/") for origin in allowed_origins}
        self._good: set[bytes] = set()

    def check(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> None:
        """Raises `RequestError`: host_refused, origin_refused, header_mismatch."""
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        if len(lines) != len(headers):
            self._refuse_twice(lines)
        host = headers.get(b"host", b"")
        if host not in self._good:
            if not self._serves(host.decode("latin-1").lower()):
                raise RequestError("host_refused")
            if len(self._good) < _MOST_REMEMBERED:
                self._good.add(host)
        origin = headers.get(b"origin")
        if origin is not None and not self._trusts(origin.decode("latin-1").lower()):
            raise RequestError("origin_refused")

    def _refuse_twice(self, lines: list[tuple[bytes, bytes]]) -> None:
        seen: set[bytes] = set()
        for name, _ in lines:
            if name in seen and name in _ONCE:
                raise RequestError("header_mismatch", header=name.decode("latin-1"), detail="it appears more than once")
            seen.add(name)

    def _serves(self, host: str) -> bool:
        if host in self._hosts:
            return True
        if not self._any_address:
            return False
        name = _PORT.sub("", host)
        try:
            ipaddress.IPv6Address(name[1:-1]) if name[:1] + name[-1:] == "[]" else ipaddress.IPv4Address(name)
        except ValueError:
            return False
        return True

    def _trusts(self, origin: str) -> bool:
        if origin in self._origins:
            return True
        scheme, mark, host = origin.partition("://")
        return bool(mark) and scheme in ("http", "https") and host in self._here
