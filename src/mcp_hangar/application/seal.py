# SPDX-License-Identifier: MIT
"""What Hangar hands to clients and wants back unchanged: request states, cursors, task ids.

Sealed (AES-GCM), so that nobody reads or alters them, bound to who may use them, and dated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12
_contents = msgspec.json.Decoder(list[str])


class Seal:
    """`key`: 32 bytes. `now`: Unix time in seconds."""

    def __init__(self, key: bytes, now: Callable[[], float]) -> None:
        self._key = hashlib.blake2b(b"nonce", key=key, digest_size=32).digest()
        self._cipher = AESGCM(key)
        self._now = now

    def name(self, purpose: str, owner: str, contents: list[str]) -> str:
        """A lasting token that is the same each time: the nonce is drawn from what is sealed."""
        plain = msgspec.json.encode(["0.0", *contents])
        bound = self._bound(purpose, owner)
        nonce = hashlib.blake2b(b"%d\0%b%b" % (len(bound), bound, plain), key=self._key, digest_size=_NONCE).digest()
        return self._text(nonce + self._cipher.encrypt(nonce, plain, bound))

    def close(self, purpose: str, owner: str, contents: list[str], seconds: float = 0.0) -> str:
        """A token for `owner` that says `contents`; valid for `seconds` (0: as long as the key)."""
        expires = self._now() + seconds if seconds else 0.0
        plain = msgspec.json.encode([repr(expires), *contents])
        nonce = os.urandom(_NONCE)
        return self._text(nonce + self._cipher.encrypt(nonce, plain, self._bound(purpose, owner)))

    def open(self, purpose: str, owner: str, token: str) -> list[str] | None:
        """The contents; None if the token is forged, expired, for something else, or somebody else's."""
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            if self._text(sealed) != token:  # base64 has many spellings; a token has one
                return None
            plain = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._bound(purpose, owner))
            expires, *contents = _contents.decode(plain)
        except (InvalidTag, binascii.Error, ValueError, UnicodeEncodeError, msgspec.DecodeError):
            return None
        if float(expires) and float(expires) < self._now():
            return None
        return contents

    @staticmethod
    def _text(sealed: bytes) -> str:
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    @staticmethod
    def _bound(purpose: str, owner: str) -> bytes:
        return f"{purpose}\0{owner}".encode()
