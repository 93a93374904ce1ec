# SPDX-License-Identifier: MIT
"""The agents' door: MCP over Streamable HTTP, both eras, at `/mcp` and `/mcp/{provider}`. Plain ASGI.

The era is decided per request. Decisions read the body; headers must agree with it. An answer is JSON unless something
has to be said before it (progress, a question); then it is an event stream. A modern client that leaves has cancelled;
a legacy one has not, and may fetch what it missed with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from mcp_hangar.application.listing import Client
from mcp_hangar.application.proxy import Flight
from mcp_hangar.application.sessions import ClientSession, EventStream, Sessions
from mcp_hangar.application.subscriptions import Ear, subscription_meta
from mcp_hangar.domain.call import ANONYMOUS, Caller, CallerType
from mcp_hangar.domain.errors import HangarError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Message, Raw
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    LEGACY_VERSIONS,
    MODERN_VERSION,
    MODERN_VERSIONS,
    NAME_PARAM,
    PROTOCOL_VERSION,
    Era,
)
from mcp_hangar.domain.mcp.headers import decode_value
from mcp_hangar.domain.mcp.request import Request, peek_id, read_request
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.errors import error_member, http_status, tool_refusal, upstream_status
from mcp_hangar.server.mcp_methods import CALLS, Methods, ask_session, cancel, known_in, take_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON: Final = (b"content-type", b"application/json")
_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
KEEPALIVE: Final = 12.0
"""Seconds of silence on an open stream before a comment is sent."""
_RETRY_MS: Final = 1_000
_RESUMABLE: Final = "2025-11-25"
TOKEN_CALLER: Final = Caller(id="token", type=CallerType.token)


class HttpChannel:
    """The way back over one POST: nothing is sent until something must be said before the answer."""

    __slots__ = ("_send", "_session", "ear", "spoken", "stream")

    def __init__(self, send: Send, session: ClientSession | None, ear: Ear | None = None) -> None:
        self._send, self._session = send, session
        self.ear = ear
        self.stream: EventStream | None = None
        self.spoken = False

    async def begin(self) -> None:
        """Turn the answer into an event stream."""
        if self.spoken:
            return
        self.spoken = True
        headers = _STREAM_HEADERS
        if self._session is not None:
            headers = [*headers, (b"mcp-session-id", self._session.id.encode())]
            if self._session.version >= _RESUMABLE:
                self.stream = self._session.open_stream()
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.stream is not None:
            await self._write(b"id: %b\nretry: %d\ndata: \n\n" % (self.stream.event_id(0).encode(), _RETRY_MS))

    async def notify(self, message: bytes) -> None:
        await self.begin()
        await self._event(message)

    async def _event(self, message: bytes, more: bool = True) -> None:
        head = b""
        if self.stream is not None:
            head = b"id: %b\n" % self.stream.append(message).encode()
        await self._write(b"%bevent: message\ndata: %b\n\n" % (head, message), more)

    async def _write(self, data: bytes, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def keep_alive(self) -> None:
        await self.begin()
        await self._write(b":\r\n\r\n")

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        if self._session is None:
            raise RequestError("question_refused", method=method, detail="this client cannot be asked")
        return await ask_session(self._session, method, params, seconds, self.notify)

    async def finish(self, message: bytes, status: int) -> None:
        """The answer; the last thing said."""
        if self.spoken:
            await self._event(message, more=False)
            if self.stream is not None:
                self.stream.finish()
            return
        headers = [_JSON, (b"content-length", b"%d" % len(message))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": message})


class McpEndpoint:
    """`other` answers every path that is not MCP's."""

    def __init__(
        self,
        *,
        methods: Methods,
        sessions: Sessions,
        doors: Doors,
        token: str,
        body_bytes: int,
        depth: int,
        other: App,
    ) -> None:
        self._methods, self._proxy, self._sessions, self._doors = methods, methods.proxy, sessions, doors
        self._token, self._body_bytes, self._depth = token.encode(), body_bytes, depth
        self._caller = TOKEN_CALLER if token else ANONYMOUS
        self._other = other
        self.open_channels: dict[HttpChannel, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] != "http" or not path.startswith("/mcp") or (len(path) > 4 and path[4] != "/"):
            return await self._other(scope, receive, send)
        provider = path[5:]
        headers = dict(scope["headers"])
        body = b""
        era = Era.legacy
        try:
            self._doors.check(scope, headers)
            if self._token:
                self._authenticate(headers)
            if provider and provider not in self._proxy.fleet.providers:
                raise RequestError("not_found", path=path)
            if scope["method"] != "POST":
                return await self._get_or_delete(scope, receive, send, headers)
            body = await self._body(receive, headers)
            request = read_request(body, self._depth)
            if PROTOCOL_VERSION in request.meta or _names_modern(headers.get(b"mcp-protocol-version")):
                era = Era.modern
                self._check_modern(request, headers)
                if not request.id or not request.method:
                    return await _accepted(send)
                client = self._methods.modern_client(request, self._caller, provider, _connection_id(scope))
                session = None
                ear = None
            else:
                session = self._session(request, headers, provider)
                if session is None:
                    return await self._initialize(request, provider, send)
                if not request.id or not request.method:
                    return await self._one_way(request, session, send)
                client = self._methods.client_of(session)
                ear = self._methods.ear(session)
            if not known_in(request.method, era):
                raise RequestError("method_not_found", method=request.method)
            channel = HttpChannel(send, session, ear)
            if request.method in CALLS:
                await self._call(request, client, session, channel, scope, headers)
            elif request.method == "subscriptions/listen":
                await self._listen(request, client, scope, send)
            else:
                result = await self._methods.answer(request, client, session)
                await channel.finish(envelope.result(request.id, result), 200)
        except HangarError as error:
            message = envelope.error(peek_id(body) if body else b"", error_member(error, era))
            await _reply(send, http_status(error, era), message, error)

    async def _call(
        self,
        request: Request,
        client: Client,
        session: ClientSession | None,
        channel: HttpChannel,
        scope: Scope,
        headers: dict[bytes, bytes],
    ) -> None:
        call = self._methods.call_of(request, client, headers.get(b"traceparent"))
        flight = Flight(call, channel)
        leaving = scope["state"].get("leaving")
        if session is None:
            call.mirrored = scope["headers"]
            if leaving is not None:
                leaving[flight] = None
        else:
            session.flights[request.id] = flight
        self.open_channels[channel] = asyncio.get_running_loop().time()
        try:
            answer = await self._proxy.call(call, flight)
            if len(answer.error):
                message = envelope.error(request.id, answer.error)
                status = upstream_status(answer.error, client.era)
            else:
                message = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request.id, answer.result)
                status = 200
        except HangarError as error:
            refusal = tool_refusal(error, client.era) if call.method == "tools/call" else None
            if refusal is not None:
                message, status = envelope.result(request.id, refusal), 200
            else:
                message = envelope.error(request.id, error_member(error, client.era))
                status = http_status(error, client.era)
        finally:
            del self.open_channels[channel]
            if session is not None:
                session.flights.pop(request.id, None)
            elif leaving is not None:
                leaving.pop(flight, None)
        await channel.finish(message, status)

    # -- checks

    def _authenticate(self, headers: dict[bytes, bytes]) -> None:
        given = headers.get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise RequestError("unauthorized", token="the agent token (server.token)")

    async def _body(self, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
        if not headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            raise RequestError("unsupported_media_type")
        accept = headers.get(b"accept", b"")
        if b"*/*" not in accept and (b"application/json" not in accept or b"text/event-stream" not in accept):
            raise RequestError("not_acceptable", needed="application/json and text/event-stream")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) < 16 and int(length) > self._body_bytes:
            raise RequestError("body_too_large", limit=self._body_bytes)
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            if len(body) > self._body_bytes:
                raise RequestError("body_too_large", limit=self._body_bytes)
            return body
        pieces, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError("invalid_request", detail="the connection ended within the body")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._body_bytes:
                raise RequestError("body_too_large", limit=self._body_bytes)
        return b"".join(pieces)

    def _check_modern(self, request: Request, headers: dict[bytes, bytes]) -> None:
        """The modern era's ladder: the body's own envelope, then the headers that mirror it, then the version."""
        meta, method = request.meta, request.method
        if not method:
            raise RequestError("invalid_request", detail="clients of this revision send no responses")
        if not request.id and method.startswith("notifications/"):
            return
        for key in (PROTOCOL_VERSION, CLIENT_CAPABILITIES):
            if key not in meta:
                raise RequestError("invalid_params", method=method, detail=f"_meta lacks {key}")
        version = meta[PROTOCOL_VERSION]
        said = headers.get(b"mcp-protocol-version", b"").strip()
        if version != _MODERN_JSON or said != _MODERN:
            self._refuse_version(envelope.text(version, "\0"), said)
        if bytes(meta[CLIENT_CAPABILITIES])[:1] != b"{":
            raise RequestError("invalid_params", method=method, detail=f"{CLIENT_CAPABILITIES} must be an object")
        if headers.get(b"mcp-method", b"").strip() != method.encode():
            raise RequestError("header_mismatch", header="Mcp-Method", detail=f"the body says {method}")
        key = NAME_PARAM.get(method, "")
        if key and key in request.params:
            name = headers.get(b"mcp-name")
            if name is None or decode_value(name.decode("latin-1").strip()) != envelope.text(request.params[key], "\0"):
                raise RequestError("header_mismatch", header="Mcp-Name", detail=f"it differs from params.{key}")

    def _refuse_version(self, version: str, said: bytes) -> None:
        if version == "\0":
            raise RequestError("invalid_params", method="", detail=f"{PROTOCOL_VERSION} must be a string")
        if said.decode("latin-1") != version:
            raise RequestError("header_mismatch", header="MCP-Protocol-Version", detail=f"the body says {version}")
        if version not in MODERN_VERSIONS:
            raise RequestError("version_unsupported", requested=version, supported=list(MODERN_VERSIONS))

    def _session(self, request: Request, headers: dict[bytes, bytes], provider: str) -> ClientSession | None:
        """The legacy session a request belongs to; None for `initialize`."""
        given = headers.get(b"mcp-session-id")
        if given is None:
            if request.method == "initialize" and request.id:
                return None
            raise RequestError("session_required")
        session = self._sessions.find(given.decode("latin-1"), self._caller)
        if session.scope != provider:
            raise RequestError("unknown_session")
        if request.method == "initialize":
            raise RequestError("invalid_request", detail="the session is initialized already")
        version = headers.get(b"mcp-protocol-version")
        if version is not None and version.decode("latin-1") not in LEGACY_VERSIONS:
            raise RequestError(
                "version_unsupported", requested=version.decode("latin-1"), supported=list(LEGACY_VERSIONS)
            )
        return session

    # -- legacy sessions

    async def _initialize(self, request: Request, provider: str, send: Send) -> None:
        session, result = await self._methods.initialize(request, self._caller, provider, _tell)
        message = envelope.result(request.id, result)
        headers = [_JSON, (b"content-length", b"%d" % len(message)), (b"mcp-session-id", session.id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": message})

    async def _one_way(self, request: Request, session: ClientSession, send: Send) -> None:
        if not request.method:
            take_response(session, request)
        elif request.method == "notifications/cancelled":
            cancel(session, request)
        elif request.method == "notifications/roots/list_changed":
            await self._methods.roots_changed(session)
        await _accepted(send)

    async def _get_or_delete(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        given = headers.get(b"mcp-session-id")
        if (
            scope["method"] not in ("GET", "DELETE")
            or given is None
            or _names_modern(headers.get(b"mcp-protocol-version"))
        ):
            error = RequestError("method_not_allowed", method=scope["method"], path=scope["path"], allowed="POST")
            await _reply(send, 405, envelope.error(b"", error_member(error, Era.legacy)), error)
            return
        session = self._sessions.find(given.decode("latin-1"), self._caller)
        if scope["method"] == "DELETE":
            self._sessions.close(session)
            await _accepted(send, 200)
            return
        if b"text/event-stream" not in headers.get(b"accept", b"") and b"*/*" not in headers.get(b"accept", b""):
            raise RequestError("not_acceptable", needed="text/event-stream")
        await self._stream(session, headers.get(b"last-event-id", b"").decode("latin-1"), scope, send)

    async def _stream(self, session: ClientSession, last: str, scope: Scope, send: Send) -> None:
        """A legacy client listens, or fetches the rest of a stream that broke."""
        found = session.find_stream(last) if last else (session.standalone, session.standalone.last)
        if found is None:
            raise RequestError("invalid_request", detail="Last-Event-ID names no stream that is still kept")
        stream, after = found
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*_STREAM_HEADERS, (b"mcp-session-id", session.id.encode())],
            }
        )
        alone = stream is session.standalone
        session.listening = session.listening or alone
        channel = HttpChannel(send, None)
        channel.spoken = True
        self.open_channels[channel] = asyncio.get_running_loop().time()
        leaving = scope["state"].get("leaving")
        reader = asyncio.current_task()
        if leaving is not None:
            leaving[reader] = None
        try:
            if session.version >= _RESUMABLE:
                await channel._write(b"id: %b\nretry: %d\ndata: \n\n" % (stream.event_id(after).encode(), _RETRY_MS))
            async for id, message in stream.follow(after):
                await channel._write(b"id: %b\nevent: message\ndata: %b\n\n" % (id.encode(), message))
        except asyncio.CancelledError:
            pass  # the client has left
        finally:
            del self.open_channels[channel]
            if leaving is not None:
                leaving.pop(reader, None)
            if alone:
                session.listening = False
        await channel._write(b"", more=False)

    # -- modern subscriptions

    async def _listen(self, request: Request, client: Client, scope: Scope, send: Send) -> None:
        stream = EventStream("l")

        def deliver(method: str, params: dict[str, Json]) -> None:
            stream.append(envelope.notification(method, subscription_meta(request.id, params)))

        ear = Ear(scope=client.scope, prefixed=client.prefixed, methods=set(), deliver=deliver)
        channel = HttpChannel(send, None, ear)
        honoured = await self._methods.listen(request, client, ear, channel)
        leaving = scope["state"].get("leaving")
        reader = asyncio.current_task()
        if leaving is not None:
            leaving[reader] = None
        self.open_channels[channel] = asyncio.get_running_loop().time()
        self._methods.streams.add(stream)
        try:
            acknowledged = subscription_meta(request.id, {"notifications": envelope.encode(honoured)})
            await channel.notify(envelope.notification("notifications/subscriptions/acknowledged", acknowledged))
            async for _, message in stream.follow(0):
                await channel.notify(message)
            end = {"resultType": b'"complete"'}
            await channel.finish(envelope.result(request.id, subscription_meta(request.id, dict(end))), 200)
        except asyncio.CancelledError:
            pass  # the client has left
        finally:
            self._methods.streams.discard(stream)
            del self.open_channels[channel]
            if leaving is not None:
                leaving.pop(reader, None)
            await self._methods.deafen(ear)

    async def keep_alive(self) -> None:
        """Say something on streams, and for calls, that have been silent for a while."""
        now = asyncio.get_running_loop().time()
        for channel, since in list(self.open_channels.items()):
            if now - since >= KEEPALIVE and channel in self.open_channels:
                self.open_channels[channel] = now
                await channel.keep_alive()


_MODERN: Final = MODERN_VERSION.encode()
_MODERN_JSON: Final = Raw(envelope.encode(MODERN_VERSION))


def _names_modern(version: bytes | None) -> bool:
    return version is not None and version.decode("latin-1") not in LEGACY_VERSIONS


def _connection_id(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def _tell(session: ClientSession, message: bytes) -> None:
    session.standalone.append(message)


async def _accepted(send: Send, status: int = 202) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def _reply(send: Send, status: int, message: bytes, error: HangarError) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(message))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 405:
        headers.append((b"allow", b"POST"))
    retry = error.facts.get("retry_after")
    if isinstance(retry, (int, float)):
        headers.append((b"retry-after", b"%d" % max(1, round(retry))))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": message})
