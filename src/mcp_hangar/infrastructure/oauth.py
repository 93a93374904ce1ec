# SPDX-License-Identifier: MIT
"""Tokens for remote providers: OAuth 2 client credentials (RFC 6749 4.4) with `resource` (RFC 8707).

Authlib speaks the protocol; here is only when to ask: once for all who wait, again shortly before expiry, and once
more when a token was refused. Hangar's own credentials and nobody else's: a caller's token never passes. What the
token endpoint says in words is not repeated, since it may repeat what it was sent.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from math import inf
from time import monotonic
from typing import Any, Final

from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from mcp_hangar.domain.errors import Unsent
from mcp_hangar.domain.provider import ClientCredentials

# Authlib builds on httpx2 or httpx, whichever is there; its errors have to be of the same family.
_http: Any = sys.modules[
    next(base for base in AsyncOAuth2Client.__mro__ if base.__name__ == "AsyncClient").__module__.partition(".")[0]
]
_EARLY: Final = 30.0
"""Seconds before expiry from which a token is no longer used."""
_ASSUMED: Final = 300.0
"""What a token without `expires_in` is good for."""
_TIMEOUT: Final = 15.0


class TokenSource:
    """One provider's access token."""

    def __init__(
        self, provider: str, credentials: ClientCredentials, *, tls: ssl.SSLContext | None = None, proxy: str = ""
    ) -> None:
        self.expires = -inf
        """On the monotonic clock."""
        self._provider = provider
        self._credentials = credentials
        self._value = ""
        self._fetching: asyncio.Task[str] | None = None
        self._client = AsyncOAuth2Client(
            client_id=credentials.client_id,
            client_secret=credentials.client_secret,
            scope=credentials.scope or None,
            verify=tls if tls is not None else True,
            proxy=proxy or None,
            trust_env=False,
            timeout=_TIMEOUT,
        )

    async def fresh(self) -> str:
        """A token that is not about to expire. Raises `Unsent`."""
        if monotonic() < self.expires:
            return self._value
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), name=f"oauth {self._provider}")
            self._fetching.add_done_callback(self._fetched)
        fetching = self._fetching
        try:
            # Whoever goes away while waiting must not take the others' token along.
            return await asyncio.shield(fetching)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if fetching.cancelled() and waiter is not None and not waiter.cancelling():
                raise self._refused("Hangar closed the connection while it fetched a token.") from None
            raise

    async def renew(self, refused: str) -> str:
        """A token other than the one that was refused, unless another caller has fetched it already."""
        if refused == self._value:
            self.expires = -inf
        return await self.fresh()

    async def close(self) -> None:
        fetching = self._fetching
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait([fetching])
        await self._client.aclose()

    def _fetched(self, task: asyncio.Task[str]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # those who wait have it; if all left, nobody asks

    async def _fetch(self) -> str:
        more: dict[str, Any] = {"resource": self._credentials.resource} if self._credentials.resource else {}
        try:
            token = await self._client.fetch_token(self._credentials.token_url, grant_type="client_credentials", **more)
        except OAuthError as error:
            raise self._refused(f"The token endpoint refused the client credentials ({_plain(error.error)}).") from None
        except (_http.HTTPError, _http.InvalidURL) as error:
            raise self._refused(f"The token endpoint could not be asked ({type(error).__name__}).") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._refused("The token endpoint answered what is not an OAuth token response.") from None
        value = token.get("access_token") if isinstance(token, dict) else None
        kind = str(token.get("token_type", "")) if isinstance(token, dict) else ""
        if not isinstance(value, str) or not value or not all("!" <= character <= "~" for character in value):
            raise self._refused("The token endpoint answered without a usable access_token.")
        if kind.lower() != "bearer":
            raise self._refused(f"The token endpoint gave a token of type {_plain(kind)}; Hangar needs a bearer token.")
        lasts = token.get("expires_in")
        seconds = float(lasts) if isinstance(lasts, int | float) and lasts > 0 else _ASSUMED
        # Short-lived tokens are used for most of their life all the same.
        self.expires = monotonic() + max(seconds - _EARLY, seconds * 0.5)
        self._value = value
        return value

    def _refused(self, detail: str) -> Unsent:
        return Unsent("upstream_auth", provider=self._provider, detail=detail)


def _plain(text: object) -> str:
    """An error code as RFC 6749 allows it, or nothing that could hold a secret."""
    word = str(text)
    return word if len(word) <= 40 and word.replace("_", "").isalpha() else "no reason given"
