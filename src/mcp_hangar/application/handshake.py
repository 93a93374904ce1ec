# SPDX-License-Identifier: MIT
"""Over a fresh connection, find out which era the provider speaks and open the conversation.

`server/discover` is asked first. Only positive evidence makes a provider modern: a discover result that names a
version we share, or an error that only modern servers know. Everything else means legacy, and `initialize` follows.
Three facts of the field shape this:

- Servers started through a package runner take longer to come up than a probe may wait. `initialize` is then sent
  behind the unanswered probe, and whichever answer is evidence decides; a modern server that was merely slow is
  recognised by its late answer.
- Some legacy servers exit when the first message is not `initialize`. That is told as `DiedOfProbe`, so that the
  caller can launch once more without the probe.
- A server that knows neither `server/discover` nor `initialize` must be modern (no legacy server lacks the latter),
  so the status of an HTTP answer is not needed to tell the two kinds of "method not found" apart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mcp_hangar import __version__
from mcp_hangar.application.ids import ids
from mcp_hangar.application.ports.connection import Connection, Exchange, Outgoing
from mcp_hangar.domain.errors import CallCancelled, HangarError, ProtocolError, ProviderDied, StartFailed, Unsent
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    LEGACY_VERSIONS,
    MODERN_VERSION,
    MODERN_VERSIONS,
    NEWEST_LEGACY,
    PROTOCOL_VERSION,
    SERVER_INFO,
    Era,
)
from mcp_hangar.domain.provider import Protocol, Provider

PATIENCE: Final = 10.0
"""Seconds a probe may stay unanswered before `initialize` is sent behind it; the SDKs use the same."""

_HEADER_MISMATCH: Final = -32020
_CAPABILITY_REQUIRED: Final = -32021
_VERSION_UNSUPPORTED: Final = -32022
_METHOD_NOT_FOUND: Final = -32601

_UNTOLD: Final[dict[str, Any]] = {"tools": {}, "prompts": {}, "resources": {}}
"""Taken for granted of a modern provider that does not answer `server/discover`: its lists will tell."""

_CLIENT_INFO: Final = envelope.encode({"name": "mcp-hangar", "version": __version__})


class DiedOfProbe(ProviderDied):
    """The provider ended while its era was being found out; a legacy one may have taken offence at the probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What the provider said of itself."""

    era: Era
    version: str
    capabilities: dict[str, Any]
    info: dict[str, Any]
    instructions: str = ""


async def greet(
    connection: Connection,
    provider: Provider,
    *,
    known: Era | None,
    capabilities: str,
    deadline: float,
    patience: float = PATIENCE,
) -> Handshake:
    """Open the conversation, until `deadline` on the loop's clock.

    `known` skips the question of the era; a forced `provider.protocol` does too. `capabilities` is the canonical JSON
    of what the client declared, declared on as it is and never more. The connection stays the caller's to close.
    Raises a `HangarError`; a `TransportError` with a `status` passes unchanged, since it decides about the next wire.
    """
    opening = _Opening(connection, provider.name, (capabilities or "{}").encode())
    try:
        async with asyncio.timeout_at(deadline):
            match _expected(provider.protocol, known):
                case Era.modern:
                    return await opening.modern()
                case Era.legacy:
                    return await opening.legacy()
                case None:
                    left = deadline - asyncio.get_running_loop().time()
                    return await opening.either(min(patience, left / 2))
    except TimeoutError:
        raise StartFailed(
            "start_failed",
            provider=provider.name,
            detail="It did not answer the handshake in time.",
            fix=f"Look at `hangar logs {provider.name}`; raise lifecycle.start_timeout if it is only slow.",
        ) from None


def ask_discover(capabilities: bytes = b"{}") -> Outgoing:
    """`server/discover`, as the modern wire wants it; also the cheapest question of that era."""
    id = next(ids)
    meta = b'{"_meta":{"%b":"%b","%b":%b,"%b":%b}}' % (
        PROTOCOL_VERSION.encode(),
        MODERN_VERSION.encode(),
        CLIENT_CAPABILITIES.encode(),
        capabilities,
        CLIENT_INFO.encode(),
        _CLIENT_INFO,
    )
    payload = envelope.request(id, "server/discover", meta)
    return Outgoing(id, "server/discover", payload, b"Mcp-Method: server/discover\r\n", True)


def ask_ping() -> Outgoing:
    """`ping`: the cheapest question of the legacy era."""
    id = next(ids)
    return Outgoing(id, "ping", envelope.request(id, "ping", b"{}"))


async def hear(connection: Connection, exchange: Exchange) -> Message:
    """The response. What the provider says or asks before it goes where unrelated messages go."""
    while not (message := await exchange.next()).is_response:
        connection.listener.on_message(message)
    return message


def _expected(protocol: Protocol, known: Era | None) -> Era | None:
    match protocol:
        case Protocol.modern:
            return Era.modern
        case Protocol.legacy:
            return Era.legacy
        case Protocol.auto:
            return known


class _Refused(Exception):
    """The provider answered a question of the handshake with an error."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{message} ({code})")


class _Opening:
    """One handshake under way."""

    def __init__(self, connection: Connection, provider: str, capabilities: bytes) -> None:
        self._connection = connection
        self._provider = provider
        self._capabilities = capabilities

    async def modern(self) -> Handshake:
        answer = await hear(self._connection, await self._discover())
        found = self._read_discover(answer)
        if found is None:
            raise self._unacceptable("It does not answer server/discover as a modern server does")
        return found

    async def legacy(self) -> Handshake:
        try:
            return await self._conclude(await hear(self._connection, await self._initialize()))
        except _Refused as refused:
            raise self._unacceptable(f"It refused initialize: {refused}") from None

    async def either(self, patience: float) -> Handshake:
        try:
            probe = await self._discover()
        except (Unsent, ProviderDied):
            raise
        except HangarError as error:
            _raise_if_final(error)
            return await self.legacy()
        answer = asyncio.create_task(hear(self._connection, probe), name=f"probe of {self._provider}")
        try:
            return await self._decide(answer, patience)
        except (ProviderDied, Unsent) as error:
            raise DiedOfProbe(error.code, **error.facts) from None
        finally:
            probe.fail(CallCancelled("cancelled", detail="The era of the provider is decided."))
            await _ended(answer)

    async def _decide(self, answer: asyncio.Task[Message], patience: float) -> Handshake:
        await asyncio.wait({answer}, timeout=patience)
        if answer.done() and (found := self._evidence(answer)) is not None:
            return found
        exchange = await self._initialize()
        reply = asyncio.create_task(hear(self._connection, exchange), name=f"initialize of {self._provider}")
        try:
            if not answer.done():
                await asyncio.wait({answer, reply}, return_when=asyncio.FIRST_COMPLETED)
                if answer.done() and (found := self._evidence(answer)) is not None:
                    return found
            return await self._conclude(await reply)
        except _Refused as refused:
            return await self._second_thought(refused, answer)
        finally:
            exchange.fail(CallCancelled("cancelled", detail="The handshake is over."))
            await _ended(reply)

    def _evidence(self, answer: asyncio.Task[Message]) -> Handshake | None:
        """What the probe's answer proves; None means legacy. Raises if it proves that there is no common version."""
        try:
            message = answer.result()
        except ProviderDied:
            raise
        except HangarError as error:
            _raise_if_final(error)
            return None
        return self._read_discover(message)

    async def _second_thought(self, refused: _Refused, answer: asyncio.Task[Message]) -> Handshake:
        """`initialize` was refused. If that itself is how modern servers answer it, ask once more."""
        if refused.code not in (_VERSION_UNSUPPORTED, _METHOD_NOT_FOUND):
            raise self._unacceptable(f"It refused initialize: {refused}")
        message = await hear(self._connection, await self._discover()) if answer.done() else await answer
        found = self._read_discover(message)
        if found is not None:
            return found
        if refused.code == _METHOD_NOT_FOUND and _read_error(message)[0] == _METHOD_NOT_FOUND:
            return self._settled(MODERN_VERSION, _UNTOLD, {})
        raise self._unacceptable(f"It refused initialize: {refused}")

    async def _discover(self) -> Exchange:
        self._connection.set_version(MODERN_VERSION)
        return await self._connection.send(ask_discover(self._capabilities))

    async def _initialize(self) -> Exchange:
        # Nothing is negotiated yet, so no wire may name a version.
        self._connection.set_version("")
        id = next(ids)
        params = b'{"protocolVersion":"%b","capabilities":%b,"clientInfo":%b}' % (
            NEWEST_LEGACY.encode(),
            self._capabilities,
            _CLIENT_INFO,
        )
        return await self._connection.send(Outgoing(id, "initialize", envelope.request(id, "initialize", params)))

    async def _conclude(self, message: Message) -> Handshake:
        """From the answer to `initialize` to an open session."""
        code, text, _ = _read_error(message)
        if code is not None:
            raise _Refused(code, text)
        result = _mapping(message.result)
        version = result.get("protocolVersion")
        if version not in LEGACY_VERSIONS:
            raise self._unacceptable(
                f"It answered initialize with protocol version {version!r}; Hangar speaks {', '.join(LEGACY_VERSIONS)}"
            )
        self._connection.set_version(version)
        await self._connection.post(envelope.notification("notifications/initialized"))
        await self._connection.listen()
        return Handshake(
            era=Era.legacy,
            version=version,
            capabilities=_dict(result.get("capabilities")),
            info=_dict(result.get("serverInfo")),
            instructions=_str(result.get("instructions")),
        )

    def _read_discover(self, message: Message) -> Handshake | None:
        """The answer to `server/discover` as evidence of a modern provider; None if it is none."""
        code, _, data = _read_error(message)
        if code in (_HEADER_MISMATCH, _CAPABILITY_REQUIRED):
            return self._settled(MODERN_VERSION, _UNTOLD, {})
        if code == _VERSION_UNSUPPORTED:
            version = self._common(_dict(data).get("supported"))
            return self._settled(version, _UNTOLD, {}) if version else None
        if code is not None:
            return None
        result = _mapping(message.result)
        version = self._common(result.get("supportedVersions"))
        if not version:
            return None
        info = _dict(_dict(result.get("_meta")).get(SERVER_INFO))
        return self._settled(version, _dict(result.get("capabilities")), info, _str(result.get("instructions")))

    def _common(self, offered: object) -> str:
        """The newest modern version in common; empty if a legacy one may be. Raises if there is nothing in common."""
        versions = [each for each in offered if isinstance(each, str)] if isinstance(offered, list) else []
        common = [each for each in versions if each in MODERN_VERSIONS]
        if common:
            return max(common)
        if versions and not any(each in LEGACY_VERSIONS for each in versions):
            spoken = ", ".join((*LEGACY_VERSIONS, *MODERN_VERSIONS))
            listed = ", ".join(versions)[:200]
            raise self._unacceptable(f"It supports only the versions {listed}; Hangar speaks {spoken}")
        return ""

    def _settled(
        self, version: str, capabilities: dict[str, Any], info: dict[str, Any], instructions: str = ""
    ) -> Handshake:
        self._connection.set_version(version)
        return Handshake(
            era=Era.modern, version=version, capabilities=dict(capabilities), info=info, instructions=instructions
        )

    def _unacceptable(self, detail: str) -> ProtocolError:
        return ProtocolError("provider_protocol", provider=self._provider, detail=detail)


def _raise_if_final(error: HangarError) -> None:
    """Credentials that one question was refused for will not do for the next."""
    if error.code == "upstream_auth":
        raise error


async def _ended(task: asyncio.Task[Message]) -> None:
    """Leave no task behind, and no exception that nobody asked for."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _read_error(message: Message) -> tuple[int | None, str, object]:
    """Code, message and data of an error response; the code is None if it is none."""
    if bytes(message.error) in (b"", b"null"):
        return None, "", None
    error = _mapping(message.error)
    code = error.get("code")
    return (code if isinstance(code, int) else 0), _str(error.get("message"))[:200], error.get("data")


def _mapping(raw: msgspec.Raw) -> dict[str, Any]:
    """A JSON object as plain values; what is none is empty, and so proves nothing."""
    try:
        return _dict(envelope.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""
