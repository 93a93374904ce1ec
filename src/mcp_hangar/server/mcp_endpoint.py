# SPDX-License-Identifier: MIT
"""The agents' door: MCP over Streamable HTTP, both eras, at `/mcp` and `/mcp/{provider}`. Plain ASGI.

The era is decided per request. Decisions read the body; headers must agree with it. An answer is JSON unless something
has to be said before it (progress, a question); then it is an event stream. A modern client that leaves has cancelled;
a legacy one has not, and may fetch what it missed with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from time import monotonic
from typing import Any, Final

from mcp_hangar.application.flight import Answer, Flight
from mcp_hangar.application.listing import Client
from mcp_hangar.application.sessions import ClientSession, EventStream, Sessions
from mcp_hangar.application.subscriptions import Ear, subscription_meta
from mcp_hangar.domain.call import ANONYMOUS, Caller, CallerType
from mcp_hangar.domain.errors import CallCancelled, HangarError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Raw
from mcp_hangar.domain.mcp.eras import (
    BATCHING_VERSION,
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    HANGAR_SESSION,
    LOG_LEVEL,
    MODERN_VERSION,
    MODERN_VERSIONS,
    NAME_PARAM,
    PROTOCOL_VERSION,
    Era,
)
from mcp_hangar.domain.mcp.request import Request, peek_id, read_request
from mcp_hangar.server.asgi import App, Receive, Scope, Send, accept
from mcp_hangar.server.asking import cancel, take_response
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.errors import defect, error_member, http_status, tool_refusal, upstream_status
from mcp_hangar.server.http_channel import (
    ANSWER,
    JSON,
    RESUMABLE,
    RETRY_MS,
    STREAM_HEADERS,
    BatchPart,
    Farewell,
    HttpChannel,
)
from mcp_hangar.server.http_head import Head, Heads
from mcp_hangar.server.mcp_methods import LEGACY_CALLS, MODERN_CALLS, Methods, known_in

KEEPALIVE: Final = 12.0
"""Seconds of silence on an open stream before a comment is sent."""
_MOST_CLIENTS: Final = 64
TOKEN_CALLER: Final = Caller(id="token", type=CallerType.token)


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
        batch: int,
        other: App,
    ) -> None:
        self._methods, self._proxy, self._sessions = methods, methods.proxy, sessions
        self._body_bytes, self._depth, self._batch_limit = body_bytes, depth, batch
        self._caller = TOKEN_CALLER if token else ANONYMOUS
        self._other = other
        self._heads = Heads(doors, token=token, body_bytes=body_bytes)
        self.known = self._heads.known
        self.open_channels: dict[HttpChannel | BatchPart, float] = {}
        self._commenting: dict[HttpChannel | BatchPart, asyncio.Task[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request as ASGI has it. If its head turns out plain, the next one like it takes the lane."""
        path = scope["path"]
        if scope["type"] != "http" or not path.startswith("/mcp") or (len(path) > 4 and path[4] != "/"):
            await self._other(scope, receive, send)
            return
        body, state = b"", scope["state"]
        try:
            head = self._heads.read(scope)
            if head.error is not None:
                raise head.error
            if scope["method"] != "POST":
                if path[5:] and path[5:] not in self._proxy.fleet.providers:
                    raise RequestError("not_found", path=path)
                await self._get_or_delete(scope, send, head)
                return
            if head.refused is not None:
                raise head.refused
            message = await receive()
            body = message.get("body", b"")
            if message.get("more_body") or len(body) > self._body_bytes:
                body = await self._rest(message, receive)
        except HangarError as error:
            await self._refuse(error, Era.legacy, None, body, HttpChannel(send))
        except Exception as error:
            await self._refuse(defect(error), Era.legacy, None, body, HttpChannel(send))
        else:
            self._heads.remember(state.pop("head", b""), scope, head)
            await self.take(head, path[5:], body, state, send, None)

    async def take(
        self,
        head: Head,
        provider: str,
        body: bytes,
        state: dict[str, Any],
        send: Send,
        write: Callable[[bytes], None] | None,
    ) -> None:
        """One POST. A straight line for a modern client's call; what other requests need is below. `write`: the
        connection itself, where one JSON message may be written to it as it is."""
        era = Era.legacy
        request: Request | None = None
        channel = HttpChannel(send, write)
        try:
            if provider and provider not in self._proxy.fleet.providers:
                raise RequestError("not_found", path=f"/mcp/{provider}")
            if body.startswith(b"["):
                await self._batch(body, provider, head, send)
                return
            request = read_request(body, self._depth)
            meta = request.meta
            if PROTOCOL_VERSION not in meta and not head.modern:
                await self._legacy(request, provider, head, channel, send)
                return
            era = Era.modern
            if (
                meta.get(PROTOCOL_VERSION) != _MODERN_JSON
                or head.version != MODERN_VERSION
                or head.method != request.method
                or head.name != request.name
                or CLIENT_CAPABILITIES not in meta
                or not request.id
            ):
                self._disagree(request, head)
                await accept(send)
                return
            client = state["clients"].get((request.usual, provider)) or self._client(request, provider, state)
            if request.method not in MODERN_CALLS:
                await self._answer(request, client, state, channel)
                return
            call = self._methods.call_of(request, client, head.trace)
            call.mirrored = head.lines
            flight = Flight(call, channel)
            client.seen[0] = self.open_channels[channel] = monotonic()
            state["leaving"][flight] = None
            try:
                answer = await self._proxy.call(call, flight)
            finally:
                del self.open_channels[channel]
                state["leaving"].pop(flight, None)
            if channel.spoken or len(answer.error):
                await self._finish(request, channel, answer, era)
                return
            text = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request.id, answer.result)
            if write is not None:
                write(ANSWER % (len(text), text))
                return
            headers = [JSON, (b"content-length", b"%d" % len(text))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": text})
        except HangarError as error:
            await self._refuse(error, era, request, body, channel)
        except Exception as error:
            await self._refuse(defect(error), era, request, body, channel)

    async def _finish(self, request: Request, channel: HttpChannel | BatchPart, answer: Answer, era: Era) -> None:
        if len(answer.error):
            message = envelope.error(request.id, answer.error)
            await channel.finish(message, upstream_status(answer.error, era))
        else:
            await channel.finish(envelope.result(request.id, answer.result), 200)

    async def _refuse(
        self, error: HangarError, era: Era, request: Request | None, body: bytes, channel: HttpChannel | BatchPart
    ) -> None:
        id = request.id if request is not None else peek_id(body)
        refusal = tool_refusal(error, era) if request is not None and request.method == "tools/call" else None
        if refusal is not None:
            await channel.finish(envelope.result(id, refusal), 200)
            return
        await channel.finish(envelope.error(id, error_member(error, era)), http_status(error, era), error)

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        """A body that came in pieces, or one that is too large."""
        pieces: list[bytes] = [message.get("body", b"")]
        size = len(pieces[0])
        while message.get("more_body") and size <= self._body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError("invalid_request", detail="the connection ended within the body")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
        if size > self._body_bytes:
            raise RequestError("body_too_large", limit=self._body_bytes)
        return b"".join(pieces)

    # -- modern clients

    def _disagree(self, request: Request, head: Head) -> None:
        """Say what is wrong with a modern envelope, in the order the protocol has it. A notification is let pass."""
        meta, method = request.meta, request.method
        if not method:
            raise RequestError("invalid_request", detail="clients of this revision send no responses")
        if not request.id and method.startswith("notifications/"):
            return
        for key in (PROTOCOL_VERSION, CLIENT_CAPABILITIES):
            if key not in meta:
                raise RequestError("invalid_params", method=method, detail=f"_meta lacks {key}")
        version = envelope.text(meta[PROTOCOL_VERSION], "\0")
        if version == "\0":
            raise RequestError("invalid_params", method=method, detail=f"{PROTOCOL_VERSION} must be a string")
        if head.version != version:
            raise RequestError("header_mismatch", header="MCP-Protocol-Version", detail=f"the body says {version}")
        if head.method != method:
            raise RequestError("header_mismatch", header="Mcp-Method", detail=f"the body says {method}")
        if method in NAME_PARAM and (not head.named or head.name != request.name):
            raise RequestError(
                "header_mismatch", header="Mcp-Name", detail=f"it differs from params.{NAME_PARAM[method]}"
            )
        if version not in MODERN_VERSIONS:
            raise RequestError("version_unsupported", requested=version, supported=list(MODERN_VERSIONS))
        if not request.id:
            raise RequestError("invalid_request", detail="a request needs an id")
        raise RequestError("header_mismatch", header="Mcp-Name", detail=f"{method} names nothing")

    def _client(self, request: Request, provider: str, state: dict[str, Any]) -> Client:
        """Who asks; kept for the connection, unless the request itself says more."""
        meta = request.meta
        if bytes(meta[CLIENT_CAPABILITIES])[:1] != b"{":
            raise RequestError(
                "invalid_params", method=request.method, detail=f"{CLIENT_CAPABILITIES} must be an object"
            )
        clients = state["clients"]
        says_more = LOG_LEVEL in meta or HANGAR_SESSION in meta
        key = (bytes(meta[CLIENT_CAPABILITIES]), bytes(meta.get(CLIENT_INFO, b"")), provider)
        client: Client | None = None if says_more else clients.get(key)
        if client is None:
            client = self._methods.modern_client(request, self._caller, provider, state["peer"])
            if not clients:  # a connection's first: what upstream keeps for it ends with it
                state["leaving"][Farewell(self._methods.forget, client.conversation)] = None
        if not says_more and len(clients) < _MOST_CLIENTS:
            clients[key] = client
            if request.usual:
                clients[request.usual, provider] = client
        return client

    async def _answer(self, request: Request, client: Client, state: dict[str, Any], channel: HttpChannel) -> None:
        """Methods that are no call."""
        if request.method == "subscriptions/listen":
            await self._listen(request, client, state, channel)
            return
        if not known_in(request.method, client.era):
            raise RequestError("method_not_found", method=request.method)
        result = await self._methods.answer(request, client, None)
        await channel.finish(envelope.result(request.id, result), 200)

    # -- legacy clients

    async def _legacy(self, request: Request, provider: str, head: Head, channel: HttpChannel, send: Send) -> None:
        session = self._session(request, head.fields, provider)
        if session is None:
            await self._initialize(request, provider, send)
            return
        if not request.id or not request.method:
            await self._one_way(request, session)
            await accept(send)
            return
        channel.session, channel.ear = session, self._methods.ear(session)
        await self._ask(request, session, head.trace, channel)

    async def _ask(
        self, request: Request, session: ClientSession, trace: str, channel: HttpChannel | BatchPart
    ) -> None:
        """One request of a legacy session; its answer goes to the channel, whatever it is."""
        try:
            if not known_in(request.method, Era.legacy):
                raise RequestError("method_not_found", method=request.method)
            client = self._methods.client_of(session)
            if request.method not in LEGACY_CALLS:
                result = await self._methods.answer(request, client, session)
                await channel.finish(envelope.result(request.id, result), 200)
                return
            call = self._methods.call_of(request, client, trace)
            flight = session.flights[request.id] = Flight(call, channel)
            self.open_channels[channel] = monotonic()
            try:
                answer = await self._proxy.call(call, flight)
            except CallCancelled:
                if not flight.unwanted:
                    raise
                await channel.forget()
                return
            finally:
                del self.open_channels[channel]
                if session.flights.get(request.id) is flight:
                    del session.flights[request.id]
            await self._finish(request, channel, answer, Era.legacy)
        except HangarError as error:
            await self._refuse(error, Era.legacy, request, b"", channel)
        except Exception as error:
            await self._refuse(defect(error), Era.legacy, request, b"", channel)

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
        return session

    async def _batch(self, body: bytes, provider: str, head: Head, send: Send) -> None:
        """A JSON-RPC batch, of revision 2025-03-26 alone: each message takes the way it would take by itself."""
        given = head.fields.get(b"mcp-session-id", b"").decode("latin-1")
        session = self._sessions.find(given, self._caller) if given else None
        if session is None or session.version != BATCHING_VERSION or session.scope != provider:
            raise RequestError("batch_unsupported")
        raws = envelope.batch(body, self._batch_limit)
        outer = HttpChannel(send, session=session, ear=self._methods.ear(session))
        parts = [part for raw in raws if (part := await self._part(bytes(raw), session, outer)) is not None]
        if not parts:
            await accept(send)
            return
        async with asyncio.TaskGroup() as group:
            for part in parts:
                if part.request is not None:
                    group.create_task(self._ask(part.request, session, head.trace, part), name="batch part")
        answers = [part.message for part in parts if part.message]
        if answers:
            await outer.finish(b"[%b]" % b",".join(answers), 200)
        else:
            await outer.forget()

    async def _part(self, message: bytes, session: ClientSession, outer: HttpChannel) -> BatchPart | None:
        """One message of a batch, to be answered or (unreadable) answered already; None if it needs no answer."""
        try:
            request = read_request(message, self._depth)
            if request.method == "initialize":
                raise RequestError("invalid_request", detail="initialize cannot be part of a batch")
        except RequestError as error:
            refusal = envelope.error(peek_id(message), error_member(error, Era.legacy))
            return BatchPart(outer, None, outer.ear, refusal)
        if request.id and request.method:
            return BatchPart(outer, request, outer.ear)
        await self._one_way(request, session)
        return None

    async def _initialize(self, request: Request, provider: str, send: Send) -> None:
        session, result = await self._methods.initialize(request, self._caller, provider, _tell)
        message = envelope.result(request.id, result)
        headers = [JSON, (b"content-length", b"%d" % len(message)), (b"mcp-session-id", session.id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": message})

    async def _one_way(self, request: Request, session: ClientSession) -> None:
        if not request.method:
            take_response(session, request)
        elif request.method == "notifications/cancelled":
            cancel(session, request)
        elif request.method == "notifications/roots/list_changed":
            await self._methods.roots_changed(session)

    async def _get_or_delete(self, scope: Scope, send: Send, head: Head) -> None:
        headers = head.fields
        given = headers.get(b"mcp-session-id")
        if scope["method"] not in ("GET", "DELETE") or given is None or head.modern:
            raise RequestError("method_not_allowed", method=scope["method"], path=scope["path"], allowed="POST")
        session = self._sessions.find(given.decode("latin-1"), self._caller)
        if session.scope != scope["path"][5:]:
            raise RequestError("unknown_session")
        if scope["method"] == "DELETE":
            self._sessions.close(session)
            await accept(send, 200)
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
                "headers": [*STREAM_HEADERS, (b"mcp-session-id", session.id.encode())],
            }
        )
        alone = stream is session.standalone
        mine = object()
        if alone:
            session.listening = mine
        channel = HttpChannel(send, spoken=True)
        self.open_channels[channel] = monotonic()
        leaving = scope["state"]["leaving"]
        reader = asyncio.current_task()
        leaving[reader] = None
        try:
            if session.version >= RESUMABLE:
                await channel._write(b"id: %b\nretry: %d\ndata: \n\n" % (stream.event_id(after).encode(), RETRY_MS))
            async for id, message in stream.follow(after):
                await channel._write(b"id: %b\nevent: message\ndata: %b\n\n" % (id.encode(), message))
        except asyncio.CancelledError:
            pass  # the client has left
        finally:
            del self.open_channels[channel]
            leaving.pop(reader, None)
            if session.listening is mine:  # else a newer reader has taken over
                session.listening = None
        await channel._write(b"", more=False)

    # -- modern subscriptions

    async def _listen(self, request: Request, client: Client, state: dict[str, Any], channel: HttpChannel) -> None:
        stream = EventStream("l")

        def deliver(method: str, params: dict[str, Json]) -> None:
            stream.append(envelope.notification(method, subscription_meta(request.id, params)))

        ear = Ear(scope=client.scope, prefixed=client.prefixed, methods=set(), deliver=deliver)
        channel.ear = ear
        leaving = state["leaving"]
        reader = asyncio.current_task()
        leaving[reader] = None
        self.open_channels[channel] = monotonic()
        self._methods.streams.add(stream)
        try:
            honoured = await self._methods.listen(request, client, ear, channel)
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
            leaving.pop(reader, None)
            await self._methods.deafen(ear)

    def keep_alive(self) -> None:
        """Say something on streams, and for calls, that have been silent for a while. A client that does not read
        keeps no other waiting."""
        now = monotonic()
        for channel, since in self.open_channels.items():
            if now - since >= KEEPALIVE and channel not in self._commenting:
                self.open_channels[channel] = now
                self._commenting[channel] = asyncio.create_task(self._comment(channel), name="keep-alive comment")

    async def _comment(self, channel: HttpChannel | BatchPart) -> None:
        try:
            await channel.keep_alive()
        finally:
            del self._commenting[channel]


_MODERN_JSON: Final = Raw(envelope.encode(MODERN_VERSION))


def _tell(session: ClientSession, message: bytes) -> None:
    session.standalone.append(message)
