# SPDX-License-Identifier: MIT
"""The agents' door on stdin and stdout (`hangar serve --stdio`): nothing but MCP on stdout, ever.

The client's first request decides the era. It is one conversation: one legacy session, or a modern client whose
requests each say who they are. Requests run side by side; answers go out as they come.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import structlog

from mcp_hangar.application.flight import Flight
from mcp_hangar.application.listing import Client
from mcp_hangar.application.sessions import ClientSession, EventStream
from mcp_hangar.application.subscriptions import Ear, subscription_meta
from mcp_hangar.domain.call import Caller, CallerType
from mcp_hangar.domain.errors import Denied, HangarError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Message
from mcp_hangar.domain.mcp.eras import (
    BATCHING_VERSION,
    CLIENT_CAPABILITIES,
    MODERN_VERSIONS,
    PROTOCOL_VERSION,
    Era,
)
from mcp_hangar.domain.mcp.request import Request, peek_id, read_request
from mcp_hangar.server.asking import ask_session, cancel, take_response
from mcp_hangar.server.errors import defect, error_member, tool_refusal
from mcp_hangar.server.mcp_methods import LEGACY_CALLS, MODERN_CALLS, Methods, known_in

log = structlog.get_logger(__name__)

CONVERSATION: Final = "stdio"
_CHUNK: Final = 256 * 1024
MOST_AT_ONCE: Final = 1_024
"""Requests under way at once; further ones are refused. To read no further would hold up the answers to questions and
the cancellations that could end them."""


class StdioChannel:
    def __init__(self, door: StdioDoor, ear: Ear | None) -> None:
        self._door = door
        self.ear = ear

    async def notify(self, message: bytes) -> None:
        await self._door.write(message)

    async def ask(self, method: str, params: Json, seconds: float) -> Message:
        if self._door.session is None:
            raise RequestError("question_refused", method=method, detail="this client cannot be asked")
        return await ask_session(self._door.session, method, params, seconds, self.notify)


class StdioDoor:
    def __init__(self, methods: Methods, *, body_bytes: int, depth: int, batch: int) -> None:
        self._methods, self._body_bytes, self._depth, self._batch_limit = methods, body_bytes, depth, batch
        self._caller = Caller(id="stdio", type=CallerType.anonymous)
        self.session: ClientSession | None = None
        self._flights: dict[bytes, Flight] = {}
        self._listening: dict[bytes, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, stdin: int, stdout: int) -> None:
        """Until the client closes stdin, or Hangar stops; what is under way then is cancelled."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=self._body_bytes + 1)
        incoming, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(stdin, "rb", 0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(stdout, "wb", 0)
        )
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        try:
            async for line in self._lines(reader):
                self._spawn(self._handle(line))
                await asyncio.sleep(0)  # in order, up to its first wait
            for each in list(self._listening.values()):  # where Hangar stops, they end by themselves and say so
                each.cancel()
        finally:
            for flight in list(self._flights.values()):
                flight.cancel("The client has gone.")
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            incoming.close()
            transport.close()

    async def _lines(self, reader: asyncio.StreamReader) -> Any:
        """Lines up to the bound; a longer one is skipped whole and answered with an error."""
        pieces: list[bytes] = []
        size, skipping = 0, False
        while chunk := await reader.read(_CHUNK):
            *whole, rest = chunk.split(b"\n")
            for part in whole:
                if skipping or size + len(part) > self._body_bytes:
                    error = RequestError("body_too_large", limit=self._body_bytes)
                    await self.write(envelope.error(b"", error_member(error, Era.legacy)))
                else:
                    line = b"".join([*pieces, part]).strip()
                    if line:
                        yield line
                pieces, size, skipping = [], 0, False
            size += len(rest)
            if size > self._body_bytes:
                pieces, skipping = [], True
            elif not skipping:
                pieces.append(rest)

    async def write(self, message: bytes) -> None:
        assert self._writer is not None
        if self._writer.is_closing():
            return  # the client has gone
        self._writer.write(message.replace(b"\n", b" ") + b"\n")
        try:
            await self._writer.drain()
        except ConnectionError:
            return  # the client has gone; the loop over its lines ends by itself

    async def _handle(self, line: bytes) -> None:
        answer = await (self._batch(line) if line.startswith(b"[") else self._respond(line))
        if answer:
            await self.write(answer)

    async def _batch(self, line: bytes) -> bytes:
        """A JSON-RPC batch, of revision 2025-03-26 alone: each message takes the way it would take by itself."""
        try:
            if self.session is None or self.session.version != BATCHING_VERSION:
                raise RequestError("batch_unsupported")
            raws = envelope.batch(line, self._batch_limit)
        except RequestError as error:
            return envelope.error(b"", error_member(error, Era.legacy))
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(self._respond(bytes(raw)), name="batch part") for raw in raws]
        answers = [part.result() for part in parts if part.result()]
        return b"[%b]" % b",".join(answers) if answers else b""

    async def _respond(self, line: bytes) -> bytes:
        """The answer to one message; empty if it needs none."""
        era = Era.legacy if self.session is not None else Era.modern
        try:
            request = read_request(line, self._depth)
            if not request.method:
                if self.session is not None:
                    take_response(self.session, request)
                return b""
            if not request.id:
                await self._notified(request)
                return b""
            if PROTOCOL_VERSION in request.meta or (self.session is None and request.method != "initialize"):
                era = Era.modern
                client = self._modern(request)
            elif self.session is None:
                era = Era.legacy
                self.session, result = await self._methods.initialize(request, self._caller, "", self._tell)
                self.session.listening = self
                return envelope.result(request.id, result)
            else:
                era = Era.legacy
                client = self._methods.client_of(self.session)
            if era is Era.legacy and request.method == "initialize":
                raise RequestError("invalid_request", detail="the session is initialized already")
            if not known_in(request.method, era):
                raise RequestError("method_not_found", method=request.method)
            if self._under_way >= MOST_AT_ONCE:
                raise Denied("limit", limit="requests under way on stdio", value=MOST_AT_ONCE, retry_after=1)
            self._under_way += 1
            try:
                return await self._answer(request, client)
            finally:
                self._under_way -= 1
        except HangarError as error:
            return envelope.error(peek_id(line), error_member(error, era))
        except Exception as error:
            return envelope.error(peek_id(line), error_member(defect(error), era))

    def _modern(self, request: Request) -> Client:
        for key in (PROTOCOL_VERSION, CLIENT_CAPABILITIES):
            if key not in request.meta:
                raise RequestError("invalid_params", method=request.method, detail=f"_meta lacks {key}")
        version = envelope.text(request.meta[PROTOCOL_VERSION])
        if version not in MODERN_VERSIONS:
            raise RequestError("version_unsupported", requested=version, supported=list(MODERN_VERSIONS))
        if bytes(request.meta[CLIENT_CAPABILITIES])[:1] != b"{":
            raise RequestError(
                "invalid_params", method=request.method, detail=f"{CLIENT_CAPABILITIES} must be an object"
            )
        return self._methods.modern_client(request, self._caller, "", CONVERSATION)

    async def _answer(self, request: Request, client: Client) -> bytes:
        legacy = client.era is Era.legacy
        if request.method == "subscriptions/listen":
            return await self._listen(request, client)
        if request.method not in (LEGACY_CALLS if legacy else MODERN_CALLS):
            result = await self._methods.answer(request, client, self.session if legacy else None)
            return envelope.result(request.id, result)
        ear = self._methods.ear(self.session) if legacy and self.session is not None else None
        call = self._methods.call_of(request, client, "")
        flight = Flight(call, StdioChannel(self, ear))
        self._flights[request.id] = flight
        if legacy and self.session is not None:
            self.session.flights[request.id] = flight
        try:
            answer = await self._methods.proxy.call(call, flight)
            message = (
                envelope.error(request.id, answer.error)
                if len(answer.error)
                else envelope.result(request.id, answer.result)
            )
        except HangarError as error:
            refusal = tool_refusal(error, client.era) if call.method == "tools/call" else None
            message = (
                envelope.result(request.id, refusal)
                if refusal is not None
                else envelope.error(request.id, error_member(error, client.era))
            )
        finally:
            for flights in (self._flights, self.session.flights if self.session is not None else {}):
                if flights.get(request.id) is flight:
                    del flights[request.id]
        return b"" if flight.unwanted else message

    async def _listen(self, request: Request, client: Client) -> bytes:
        """Until the client cancels it, which is not answered, or Hangar stops, which is."""
        task = asyncio.current_task()
        assert task is not None
        stream = EventStream("l")

        def deliver(method: str, params: dict[str, Json]) -> None:
            stream.append(envelope.notification(method, subscription_meta(request.id, params)))

        ear = Ear(scope="", prefixed=client.prefixed, methods=set(), deliver=deliver)
        self._listening[request.id] = task
        self._methods.streams.add(stream)
        try:
            honoured = await self._methods.listen(request, client, ear, StdioChannel(self, ear))
            acknowledged = subscription_meta(request.id, {"notifications": envelope.encode(honoured)})
            await self.write(envelope.notification("notifications/subscriptions/acknowledged", acknowledged))
            async for _, message in stream.follow(0):
                await self.write(message)
        except asyncio.CancelledError:
            return b""
        finally:
            self._methods.streams.discard(stream)
            self._listening.pop(request.id, None)
            await self._methods.deafen(ear)
        return envelope.result(request.id, subscription_meta(request.id, {"resultType": b'"complete"'}))

    async def _notified(self, request: Request) -> None:
        id = bytes(request.params.get("requestId", b""))
        if request.method == "notifications/cancelled":
            if id in self._listening:
                self._listening[id].cancel()
            elif id in self._flights:
                self._flights[id].unwanted = True
                self._flights[id].cancel("The client cancelled it.")
            elif self.session is not None:
                cancel(self.session, request)
        elif request.method == "notifications/roots/list_changed" and self.session is not None:
            await self._methods.roots_changed(self.session)

    def _tell(self, session: ClientSession, message: bytes) -> None:
        self._spawn(self.write(message))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
