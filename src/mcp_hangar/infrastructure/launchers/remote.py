# SPDX-License-Identifier: MIT
"""Reach a provider over HTTP. Nothing is run here; "launching" is finding out whether somebody answers.

All connections of one provider share its sockets and its token, since both carry Hangar's own credentials only;
sessions are told apart by the protocol above. Both go when the last connection closes.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final

from mcp_hangar.application.ports.connection import Connection
from mcp_hangar.domain.errors import HangarError, StartFailed, Unsent
from mcp_hangar.domain.provider import Provider, RemoteLaunch
from mcp_hangar.infrastructure.transports.dial import Endpoint, parse_endpoint, trust
from mcp_hangar.infrastructure.transports.http1 import SOCKETS, HttpClient
from mcp_hangar.infrastructure.transports.legacy_sse import LegacySseConnection
from mcp_hangar.infrastructure.transports.streamable_http import StreamableHttpConnection

if TYPE_CHECKING:  # imported only where OAuth is configured
    from mcp_hangar.infrastructure.oauth import TokenSource

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset(
    (
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    )
)
"""Header fields that the wire needs for itself."""


class _Shared:
    """What the connections of one provider have in common, and how many they are."""

    def __init__(self, launch: RemoteLaunch, client: HttpClient, tokens: TokenSource | None) -> None:
        self.launch = launch
        self.client = client
        self.tokens = tokens
        self.users = 0


class RemoteLauncher:
    """The `Launcher` port for mode `remote`."""

    def __init__(self) -> None:
        self._trust: dict[str, ssl.SSLContext] = {}
        self._shared: dict[str, _Shared] = {}
        self._connections: set[StreamableHttpConnection | LegacySseConnection] = set()

    def wires(self, provider: Provider) -> tuple[str, ...]:
        transport = _launch(provider).transport
        return ("streamable_http", "legacy_sse") if transport == "auto" else (transport,)

    async def launch(self, provider: Provider, instance: str, wire: str) -> Connection:
        launch = _launch(provider)
        endpoint = _endpoint(provider.name, launch)
        headers = _headers(provider.name, launch, endpoint)
        shared = await self._share(provider, launch, endpoint)
        connection: StreamableHttpConnection | LegacySseConnection
        make = StreamableHttpConnection if wire == "streamable_http" else LegacySseConnection
        connection = make(
            provider.name,
            shared.client,
            message_bytes=provider.limits.message_bytes,
            headers=headers,
            tokens=shared.tokens,
            release=partial(self._release, shared),
        )
        self._connections.add(connection)
        try:
            if isinstance(connection, LegacySseConnection):
                await connection.open(launch.connect_timeout)
            else:
                shared.client.give_back(await shared.client.acquire())
        except Unsent as error:
            await connection.close()
            raise _failed(provider.name, str(error.facts["detail"]), str(error.facts.get("fix", error.fix))) from None
        except HangarError as error:
            await connection.close()
            raise _failed(provider.name, f"{error.what} {error.why}", error.fix) from None
        except BaseException:
            await connection.close()
            raise
        return connection

    def logs(self, provider: str) -> list[str]:
        return []

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))

    async def _share(self, provider: Provider, launch: RemoteLaunch, endpoint: Endpoint) -> _Shared:
        shared = self._current(provider.name, launch)
        if shared is None:
            tls = await self._context(provider.name, launch) if endpoint.scheme == "https" else None
            proxy = _proxy(provider.name, launch)
            tokens = await self._tokens(provider.name, launch)
            client = HttpClient(
                provider.name,
                endpoint,
                tls=tls,
                proxy=proxy,
                connect_timeout=launch.connect_timeout,
                first_byte_timeout=launch.first_byte_timeout,
                # Calls are bounded by `limits`; the sockets only have to suffice, for streams that listen, too.
                sockets=SOCKETS + provider.limits.concurrency * provider.limits.instances,
            )
            # No await from here to the end: two launches at once must agree on one.
            # A changed declaration gets sockets of its own; the old ones go with their last user.
            shared = self._current(provider.name, launch) or _Shared(launch, client, tokens)
            self._shared[provider.name] = shared
        shared.users += 1
        return shared

    def _current(self, provider: str, launch: RemoteLaunch) -> _Shared | None:
        shared = self._shared.get(provider)
        return shared if shared is not None and shared.launch == launch else None

    async def _release(self, shared: _Shared) -> None:
        self._connections = {each for each in self._connections if not each.closed}
        shared.users -= 1
        if shared.users:
            return
        if self._shared.get(shared.client.provider) is shared:
            del self._shared[shared.client.provider]
        shared.client.close()
        if shared.tokens is not None:
            await shared.tokens.close()

    async def _context(self, provider: str, launch: RemoteLaunch) -> ssl.SSLContext:
        context = self._trust.get(launch.ca_file)
        if context is None:
            try:
                context = await asyncio.to_thread(trust, launch.ca_file)
            except OSError as error:
                reason = "no PEM certificates in it" if isinstance(error, ssl.SSLError) else error.strerror
                detail = f"The ca_file {launch.ca_file} cannot be used: {reason}."
                raise _failed(provider, detail, "Give a readable PEM file with certificates.") from None
            self._trust[launch.ca_file] = context
        return context

    async def _tokens(self, provider: str, launch: RemoteLaunch) -> TokenSource | None:
        if launch.auth is None:
            return None
        from mcp_hangar.infrastructure.oauth import TokenSource

        tls = await self._context(provider, launch)
        return TokenSource(provider, launch.auth, tls=tls, proxy=launch.proxy)


def _launch(provider: Provider) -> RemoteLaunch:
    if not isinstance(provider.launch, RemoteLaunch):
        raise TypeError(f"{provider.name} is not a remote provider")
    return provider.launch


def _endpoint(provider: str, launch: RemoteLaunch) -> Endpoint:
    try:
        return parse_endpoint(launch.url)
    except ValueError as error:
        raise _failed(provider, f"Its url cannot be used: {error}.", "Correct url in hangar.yaml.") from None


def _proxy(provider: str, launch: RemoteLaunch) -> Endpoint | None:
    if not launch.proxy:
        return None
    try:
        proxy = parse_endpoint(launch.proxy)
        if proxy.scheme != "http":
            raise ValueError("only proxies reached over http:// are supported")
    except ValueError as error:
        detail = f"Its proxy cannot be used: {error}.".replace("the URL", "the address")
        raise _failed(provider, detail, "Set proxy to http://HOST:PORT.") from None
    return proxy


def _headers(provider: str, launch: RemoteLaunch, endpoint: Endpoint) -> dict[str, str]:
    headers = dict(launch.headers)
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            detail = f"The header {name!r} is not a valid name, or its value holds characters a header must not."
            raise _failed(provider, detail, "Correct headers in hangar.yaml; mind line ends in secret files.")
        if name.lower() in _OURS:
            raise _failed(provider, f"The header {name} is set by Hangar itself.", "Remove it from headers.")
    given = any(name.lower() == "authorization" for name in headers)
    if given + bool(endpoint.authorization) + (launch.auth is not None) > 1:
        detail = "More than one of auth, headers.Authorization and a user in the url say how to sign in."
        raise _failed(provider, detail, "Keep one of them.")
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization
    return headers


def _failed(provider: str, detail: str, fix: str) -> StartFailed:
    return StartFailed("start_failed", provider=provider, detail=detail, fix=fix)
