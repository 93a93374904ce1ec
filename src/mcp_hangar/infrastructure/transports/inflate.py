# SPDX-License-Identifier: MIT
"""Compressed bodies that nobody asked for, undone without giving them more room than plain ones have."""

from __future__ import annotations

import zlib
from typing import Final

from mcp_hangar.domain.errors import ProtocolError

_INFLATE_STEP: Final = 64 * 1024


class Inflate:
    """A `Content-Encoding` nobody asked for, undone in bounded steps. Raises `zlib.error` on junk."""

    __slots__ = ("_full", "_rest", "_started", "_stream", "_zlib_or_raw")

    def __init__(self, encoding: bytes) -> None:
        """Raises `ValueError` for what is neither gzip nor deflate."""
        name = encoding.strip().lower()
        if name not in (b"gzip", b"x-gzip", b"deflate"):
            raise ValueError
        self._zlib_or_raw = name == b"deflate"
        self._stream = zlib.decompressobj(zlib.MAX_WBITS if self._zlib_or_raw else zlib.MAX_WBITS | 16)
        self._rest = b""
        self._full = False
        self._started = False

    @property
    def finished(self) -> bool:
        return self._stream.eof

    def feed(self, data: bytes) -> None:
        self._rest += data

    def read(self, most: int = _INFLATE_STEP) -> bytes:
        """At most so many bytes more; empty: feed it first."""
        # A step that came out full may have left output inside zlib though all input is consumed.
        if self._stream.eof or not (self._rest or self._full):
            return b""
        if not self._started and self._zlib_or_raw and self._rest[0] & 0x0F != 8:
            # Half the world says "deflate" and means it without the zlib header.
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._started = True
        found = self._stream.decompress(self._rest, most)
        self._rest = self._stream.unconsumed_tail
        self._full = len(found) == most
        return found


def decoded(body: bytes, encoding: bytes, limit: int, provider: str) -> bytes:
    """The body without its content encoding. Raises `ProtocolError`."""
    if not encoding or encoding.lower() == b"identity":
        return body
    try:
        inflate = Inflate(encoding)
        inflate.feed(body)
        found = inflate.read(limit + 1)
        if len(found) > limit:
            raise ProtocolError("message_too_large", provider=provider, limit=limit)
        if not inflate.finished:
            raise zlib.error
    except (ValueError, zlib.error):
        name = encoding[:40].decode("latin-1")
        raise ProtocolError(
            "provider_protocol", provider=provider, detail=f"HTTP: it sent a body that is not proper {name!r}."
        ) from None
    return found
