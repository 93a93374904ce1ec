# SPDX-License-Identifier: MIT
"""What a provider asks of a client in the middle of a call: elicitation, sampling, roots.

A question is a call on its way back: judged, recorded, and put only to the client whose call is open, if it declared
the capability. A legacy client is asked on its event stream. A modern one gets `input_required`, and the provider's
call stays *parked* (its exchange open) until the client repeats the request with the answers; what it must send back
is sealed and bound to it. Questions that a legacy provider asks in one burst are gathered into one answer.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog

from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.flight import Flight
from mcp_hangar.application.ids import new_call_id
from mcp_hangar.application.instances import Instance
from mcp_hangar.application.ports.connection import Exchange
from mcp_hangar.application.recording import admitted, completed, denied, failed
from mcp_hangar.application.seal import Seal
from mcp_hangar.domain.call import NO_CAPABILITIES, Call, Caller, CallerType, Session
from mcp_hangar.domain.contracts.policy import PolicyDecision
from mcp_hangar.domain.errors import CallCancelled, CallTimeout, Denied, HangarError, RequestError
from mcp_hangar.domain.mcp import bridge, envelope
from mcp_hangar.domain.mcp.bridge import QUESTIONS
from mcp_hangar.domain.mcp.envelope import Json, Message, Raw
from mcp_hangar.domain.mcp.eras import Era

log = structlog.get_logger(__name__)

GATHER: Final = 0.05
"""Seconds without another question after which a burst is taken for whole."""
PATIENCE: Final = 600.0
"""Seconds a question may wait for its answer: people are behind some of them."""
MOST_ROUNDS: Final = 20
"""How often one call may ask for input before it is taken for a loop."""
_PARKED, _STATE = "parked", "state"

Decide = Callable[[Call], PolicyDecision | None]


class Asked:
    """One question under way: the call that records it, and what the provider sent (its id is needed to answer)."""

    __slots__ = ("call", "message", "started")

    def __init__(self, call: Call, message: Message) -> None:
        self.call, self.message, self.started = call, message, time.time()


class Parked:
    """A provider's call that waits for a modern client to come back with answers."""

    __slots__ = ("asked", "exchange", "expires", "id", "instance", "method", "name", "rounds", "unread")

    def __init__(self, call: Call, instance: Instance, exchange: Exchange, unread: asyncio.Task[Message]) -> None:
        self.id = uuid.uuid4().hex
        self.method, self.name = call.method, call.name
        self.instance, self.exchange, self.unread = instance, exchange, unread
        self.asked: dict[str, Asked] = {}
        self.expires = 0.0


class Questions:
    def __init__(self, *, seal: Seal, log: EventLog, decide: Decide, limit: int) -> None:
        self._seal, self._log, self._decide, self._limit = seal, log, decide, limit
        self._parked: OrderedDict[str, Parked] = OrderedDict()

    # -- the conversation inside a call

    async def converse(
        self, call: Call, flight: Flight, instance: Instance, exchange: Exchange, message: Message
    ) -> Message:
        """Relay and ask until the provider answers. A modern client that is asked gets `input_required` instead."""
        asked: dict[str, Asked] = {}
        why = CallCancelled("cancelled", detail="The call it belongs to is over.")
        try:
            while message.method:
                if message.is_request:
                    question = await self._judged(call, instance, message)
                    if question is not None and call.era is Era.modern:
                        asked[f"q{len(asked) + 1}"] = question
                    elif question is not None:
                        self._ask_aside(call, flight, instance, question)
                else:
                    await relay(call, flight, message)
                if not asked:
                    message = await exchange.next()
                    continue
                if flight.unread is None:
                    flight.unread = asyncio.create_task(exchange.next(), name=f"unread {call.id}")
                done, _ = await asyncio.wait({flight.unread}, timeout=GATHER)
                if not done:
                    parked, asked = asked, {}
                    return self._park(call, flight, instance, exchange, parked)
                unread, flight.unread = flight.unread, None
                message = unread.result()
            why = CallCancelled("cancelled", detail="The provider answered without waiting.")
            return message
        finally:
            for each in asked.values():
                self._ended(each, why)

    async def _judged(self, call: Call, instance: Instance, message: Message) -> Asked | None:
        """The question, admitted; or None, and the provider has been told why not."""
        question = Asked(_back_call(call, instance, message.method, message.params), message)
        refusal = self._refusal(call, question.call)
        if refusal is None:
            self._admit(question, call)
            return question
        self._deny(question.call, refusal)
        await self._tell(instance, message, -32601 if message.method not in QUESTIONS else -32600, refusal.what)
        return None

    def _refusal(self, call: Call, question: Call) -> HangarError | None:
        capability = QUESTIONS.get(question.method)
        if capability is None:
            return Denied("question_refused", method=question.method, detail="Hangar relays no such request")
        if not call.capabilities.has(capability):
            return Denied("question_refused", method=question.method, detail=f"the client did not declare {capability}")
        decision = self._decide(question)
        if decision is not None:
            return Denied(
                "denied", name=question.method, policy=decision.policy, reason=decision.reason, way_out=decision.way_out
            )
        return None

    def _ask_aside(self, call: Call, flight: Flight, instance: Instance, question: Asked) -> None:
        """Ask a legacy client; other messages of the call go on meanwhile."""
        if flight.tasks is None:
            flight.tasks = set()
        flight.deadline = time.monotonic() + PATIENCE
        task = asyncio.create_task(self._ask(flight, instance, question), name=f"question {question.call.id}")
        flight.tasks.add(task)
        task.add_done_callback(flight.tasks.discard)

    async def _ask(self, flight: Flight, instance: Instance, question: Asked) -> None:
        try:
            message = await flight.channel.ask(question.message.method, question.message.params or b"{}", PATIENCE)
            await instance.connection.post(_response(question.message.id, message))
            self._ended(question, None)
        except HangarError as error:
            self._ended(question, error)
            await self._tell(instance, question.message, error.row.rpc, error.what)
        except asyncio.CancelledError:
            self._ended(question, CallCancelled("cancelled", detail="The call it belongs to is over."))
            raise
        finally:
            if flight.tasks is None or len(flight.tasks) <= 1:  # no other question is open
                flight.deadline = time.monotonic() + instance.provider.limits.call_timeout

    async def _tell(self, instance: Instance, message: Message, code: int, what: str) -> None:
        """Answer a provider's question with an error; one that has gone needs none."""
        try:
            await instance.connection.post(envelope.error(message.id, envelope.error_value(code, what)))
        except HangarError as error:
            log.info("refusal_not_told", provider=instance.provider.name, method=message.method, error=error.what)

    async def stray(self, call: Call, flight: Flight, instance: Instance, message: Message) -> None:
        """A question that the wire related to no call, put to the only client that can be meant (legacy clients)."""
        question = await self._judged(call, instance, message)
        if question is not None:
            self._ask_aside(call, flight, instance, question)

    async def refuse(self, instance: Instance, message: Message, detail: str) -> None:
        """No client can be meant: the provider is told, and it is recorded."""
        error = Denied("question_refused", method=message.method, detail=detail)
        call = Call(
            id=new_call_id(),
            method=message.method,
            provider=instance.provider.name,
            name=message.method,
            caller=_provider_caller(instance),
            session=Session(id=""),
            era=instance.era,
            capabilities=NO_CAPABILITIES,
            params={},
            meta={},
        )
        self._deny(call, error)
        await self._tell(instance, message, -32600, error.what)

    # -- parked calls

    def _park(
        self, call: Call, flight: Flight, instance: Instance, exchange: Exchange, asked: dict[str, Asked]
    ) -> Message:
        if len(self._parked) >= self._limit:
            for question in asked.values():
                self._ended(question, CallCancelled("cancelled", detail="Too many calls wait for input."))
            raise Denied("limit", limit="server.limits.parked", value=self._limit, retry_after=30)
        assert flight.unread is not None
        parked = Parked(call, instance, exchange, flight.unread)
        parked.asked = asked
        self._keep(parked)
        flight.exchange = flight.unread = None
        return self._required(call, parked)

    def _keep(self, parked: Parked) -> None:
        parked.expires = time.monotonic() + PATIENCE
        self._parked[parked.id] = parked
        parked.instance.pinned += 1

    def _required(self, call: Call, parked: Parked) -> Message:
        requests = {
            key: {"method": question.message.method, "params": question.message.params or Raw(b"{}")}
            for key, question in parked.asked.items()
        }
        state = self._seal.close(_PARKED, _owner(call), [parked.id], PATIENCE)
        value = {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        return Message(result=Raw(envelope.encode(value)))

    def parked(self, call: Call) -> Parked | None:
        """The parked call that this request continues; None if the state is a modern provider's own (unsealed into
        `call.params`). Raises `RequestError("invalid_request_state")`."""
        token = envelope.text(call.params.get("requestState"))
        state = self._seal.open(_STATE, _owner(call), token)
        if state is not None:
            if state[0]:
                call.params["requestState"] = Raw(envelope.encode(state[1]))
            else:
                del call.params["requestState"]
            return None
        opened = self._seal.open(_PARKED, _owner(call), token)
        parked = self._parked.get(opened[0]) if opened else None
        if parked is None:
            raise RequestError("invalid_request_state", detail="it is unknown, expired, altered, or another caller's")
        envelope.members(call.params.get("inputResponses", b"{}"), "inputResponses")
        return parked

    async def resume(self, call: Call, flight: Flight, parked: Parked) -> Message:
        """Pass the client's answers on; what the provider says next. If answers are missing, the rest is asked for
        again. The call has been admitted: it can be ended like any other."""
        if self._parked.pop(parked.id, None) is None:
            raise RequestError("invalid_request_state", detail="it has been used, or has expired")
        parked.instance.pinned -= 1
        flight.exchange, flight.unread = parked.exchange, parked.unread
        responses = envelope.members(call.params.get("inputResponses", b"{}"), "inputResponses")
        why = CallCancelled("cancelled", detail="The call it belongs to is over.")
        try:
            for key in [key for key in parked.asked if key in responses]:
                await parked.instance.connection.post(envelope.result(parked.asked[key].message.id, responses[key]))
                self._ended(parked.asked.pop(key), None)
        except BaseException:
            for question in parked.asked.values():
                self._ended(question, why)
            raise
        if parked.asked:
            flight.exchange = flight.unread = None
            self._keep(parked)
            return self._required(call, parked)
        message = await parked.unread
        flight.unread = None
        return message

    def sweep(self) -> None:
        """End the parked calls whose client never came back."""
        now = time.monotonic()
        for parked in list(self._parked.values()):
            if parked.expires > now:
                break
            self._drop(
                parked,
                CallTimeout("timeout", name=parked.name, provider=parked.instance.provider.name, seconds=PATIENCE),
            )

    def close(self) -> None:
        for parked in list(self._parked.values()):
            self._drop(parked, CallCancelled("cancelled", detail="Hangar is stopping."))

    def gone(self, instance: Instance) -> None:
        for parked in [parked for parked in self._parked.values() if parked.instance is instance]:
            self._drop(parked, CallCancelled("cancelled", detail="The provider ended."))

    def _drop(self, parked: Parked, error: HangarError) -> None:
        self._parked.pop(parked.id, None)
        parked.instance.pinned -= 1
        for question in parked.asked.values():
            self._ended(question, error)
        parked.exchange.fail(error)
        parked.unread.cancel()

    # -- modern providers

    def sealed(self, call: Call, instance: Instance, result: Json) -> bytes:
        """A modern provider's `input_required` for a modern client: questions judged and recorded, state sealed."""
        parts: dict[str, Json] = dict(envelope.members(result, "the result"))
        for method, params in _requests(parts).values():
            question = Asked(_back_call(call, instance, method, params), Message(method=method))
            refusal = self._refusal(call, question.call)
            if refusal is not None:
                self._deny(question.call, refusal)
                raise refusal
            self._admit(question, call)
            self._ended(question, None)  # handed over; the answers come with a call of their own
        has_state = "requestState" in parts
        state = envelope.text(parts.get("requestState"))
        token = self._seal.close(_STATE, _owner(call), ["1" if has_state else "", state], PATIENCE)
        parts["requestState"] = envelope.encode(token)
        return envelope.join(parts.items())

    async def gather(self, call: Call, flight: Flight, instance: Instance, result: Json) -> dict[str, Raw]:
        """A modern provider asks a legacy client: put the questions to it; the members to repeat the request with."""
        parts: dict[str, Json] = dict(envelope.members(result, "the result"))
        requests = _requests(parts)
        flight.deadline = time.monotonic() + PATIENCE
        asking = [
            asyncio.ensure_future(self._ask_for(call, flight, instance, method, params))
            for method, params in requests.values()
        ]
        try:
            answers = await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
        flight.deadline = time.monotonic() + instance.provider.limits.call_timeout
        again: dict[str, Raw] = {}
        if requests:
            again["inputResponses"] = Raw(envelope.join(list(zip(requests, answers, strict=True))))
        if "requestState" in parts:
            again["requestState"] = Raw(bytes(parts["requestState"]))
        return again

    async def _ask_for(self, call: Call, flight: Flight, instance: Instance, method: str, params: Json) -> Json:
        question = Asked(_back_call(call, instance, method, params), Message(method=method))
        refusal = self._refusal(call, question.call)
        if refusal is not None:
            self._deny(question.call, refusal)
            raise refusal
        self._admit(question, call)
        try:
            message = await flight.channel.ask(method, params, PATIENCE)
        except HangarError as error:
            self._ended(question, error)
            raise
        except asyncio.CancelledError:
            self._ended(question, CallCancelled("cancelled", detail="The call it belongs to is over."))
            raise
        if len(message.error):
            refused = RequestError("question_refused", method=method, detail="the client answered with an error")
            self._ended(question, refused)
            raise refused
        self._ended(question, None)
        return message.result

    # -- the record

    def _admit(self, question: Asked, parent: Call) -> None:
        self._log.append(admitted(question.call, question.started, parent.id))

    def _ended(self, question: Asked, error: HangarError | None) -> None:
        if error is None:
            self._log.append(completed(question.call, question.started))
        else:
            self._log.append(failed(question.call, question.started, error))

    def _deny(self, call: Call, error: HangarError) -> None:
        self._log.append(denied(call, error, str(error.facts.get("policy", ""))))


async def relay(call: Call, flight: Flight, message: Message) -> None:
    """A notification of the provider inside a call. Only progress and log messages pass; the rest has other ways."""
    if message.method == "notifications/progress":
        try:
            progress = bridge.progress_back(call, message.params)
        except RequestError as error:
            log.info("progress_dropped", provider=call.provider, error=error.what)
            return
        if progress is not None:
            await flight.channel.notify(progress)
    elif message.method == "notifications/message":
        if call.era is Era.modern and not call.log_level:
            return
        if not call.log_level or _passes(call, message):
            await flight.channel.notify(envelope.notification(message.method, message.params))


def _passes(call: Call, message: Message) -> bool:
    try:
        return bridge.log_passes(message.params, call.log_level)
    except RequestError as error:
        log.info("log_message_dropped", provider=call.provider, error=error.what)
        return False


def _owner(call: Call) -> str:
    return f"{call.caller.id}\0{call.provider}\0{call.method}\0{call.name}"


def _provider_caller(instance: Instance) -> Caller:
    return Caller(id=f"provider:{instance.provider.name}", type=CallerType.provider)


def _back_call(call: Call, instance: Instance, method: str, params: Json) -> Call:
    return Call(
        id=new_call_id(),
        method=method,
        provider=instance.provider.name,
        name=call.name,
        caller=_provider_caller(instance),
        session=call.session,
        era=call.era,
        capabilities=call.capabilities,
        params={"request": Raw(bytes(params) or b"{}")},
        meta={},
        trace=call.trace,
    )


def _response(id: Json, message: Message) -> bytes:
    return envelope.error(id, message.error) if len(message.error) else envelope.result(id, message.result)


def _requests(parts: dict[str, Json]) -> dict[str, tuple[str, Json]]:
    found: dict[str, tuple[str, Json]] = {}
    if "inputRequests" in parts and bytes(parts["inputRequests"]) != b"null":
        for key, raw in envelope.members(parts["inputRequests"], "inputRequests").items():
            request: dict[str, Any] = dict(envelope.members(raw, "an input request"))
            found[key] = (envelope.text(request.get("method")), request.get("params", b"{}"))
    return found
