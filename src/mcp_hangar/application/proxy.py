# SPDX-License-Identifier: MIT
"""The call path: locate, decide, ready, forward, record. One coroutine; every door ends here.

The straight line is `Proxy.call`. What only some calls need (a cold start, a provider that asks back, an answer on
the way) stands below it and costs the others nothing: no bus, no task, no thread and no lock per warm call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from mcp_hangar.application.catalogue import Catalogue, ask
from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.fleet import Fleet
from mcp_hangar.application.flight import Answer, Flight, Own
from mcp_hangar.application.ids import ids, new_call_id
from mcp_hangar.application.instances import Instance, InstanceKey, Instances
from mcp_hangar.application.ports.connection import Outgoing
from mcp_hangar.application.questions import MOST_ROUNDS, Parked, Questions
from mcp_hangar.application.recording import admitted, denied, failed, refused_upstream
from mcp_hangar.application.seal import Seal
from mcp_hangar.domain.call import Call, CallerType
from mcp_hangar.domain.contracts.policy import PolicyDecision
from mcp_hangar.domain.errors import (
    CallCancelled,
    CallTimeout,
    Denied,
    HangarError,
    ProtocolError,
    RequestError,
    SessionExpired,
    Unavailable,
)
from mcp_hangar.domain.events import CallAdmitted, CallCompleted
from mcp_hangar.domain.mcp import bridge, envelope
from mcp_hangar.domain.mcp.catalogue import PROMPTS, TOOLS, Item
from mcp_hangar.domain.mcp.envelope import Json, Message
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.mcp.headers import check_params, param_lines
from mcp_hangar.domain.mcp.tasks import ALL_METHODS, rename_tasks
from mcp_hangar.domain.policy import decide, glob_matcher
from mcp_hangar.domain.provider import Limits, Mode, Provider, Sharing, SubprocessLaunch

log = structlog.get_logger(__name__)

_TOOLS: Final = TOOLS.method
_SUBSCRIBING: Final = frozenset({"resources/subscribe", "resources/unsubscribe"})
_MOST_MET: Final = 10_000
_TYPES: Final = {each: each.value for each in CallerType}
_ERAS: Final = {each: each.value for each in Era}
"""Looked up: `value` of an enumeration is a call into Python."""


class Way:
    """What `Proxy._prepare` found for a call that is not plain and warm."""

    __slots__ = ("instance", "item", "lines", "perform")

    def __init__(self, instance: Instance | None = None, item: Item | None = None, lines: bytes = b"") -> None:
        self.instance, self.item, self.lines = instance, item, lines
        self.perform: Callable[[], Awaitable[Answer]] | None = None
        """Instead of a plain request: Hangar's own tools, subscriptions, continuing a parked call."""


class Proxy:
    """`fleet` is replaced whole on reload; a call reads it once."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        instances: Instances,
        catalogue: Catalogue,
        questions: Questions,
        seal: Seal,
        log: EventLog,
        own: dict[str, Own],
        subscribe: Callable[[Call, Flight, Instance], Awaitable[Answer]],
    ) -> None:
        self.fleet = fleet
        self.in_flight: dict[int, Flight] = {}
        self.stopping = False
        self._instances, self._warm = instances, instances.warm
        self._catalogue, self._offers = catalogue, catalogue.offers
        self.questions = questions
        self._seal = seal
        self._log = log
        self._own = own
        self._subscribe = subscribe
        self._levels: dict[str, str] = {}
        self._met: dict[tuple[str, str, str, str], Instance] = {}
        """Which instance served such a call last; good only while it is the one in `warm`."""
        self._again = {name: glob_matcher(each.tools.idempotent) for name, each in fleet.providers.items()}

    async def call(self, call: Call, flight: Flight) -> Answer:
        """One call, from the door's parse to its answer. Raises a `HangarError` for everything but an answer."""
        record, fleet = self._log, self.fleet

        # 1 locate
        target = fleet.providers.get(call.provider)
        if target is None:
            raise self._unknown(call)

        # 2 decide
        decision = decide(call, target, fleet.judges)
        if decision is not None:
            raise self._denied(call, decision)
        if record.full or self.stopping:
            raise self._refused(call)

        # 3 ready: a plain tool call to a warm instance goes straight on
        whose = (target.name, call.caller.id, call.capabilities.key, call.conversation)
        instance = self._met.get(whose)
        if instance is not None and self._warm.get(instance.key) is not instance:
            instance = None
        offer = None if instance is None else self._offers.get(instance.id)
        item = offer.items[_TOOLS].get(call.name) if offer is not None and call.method == "tools/call" else None
        way = None
        if instance is None or item is None or item.headers or call.log_level or "requestState" in call.params:
            way = await self._prepare(call, flight, target, fleet)
            instance, item = way.instance, way.item
            if instance is not None:
                if len(self._met) >= _MOST_MET:  # connections of modern clients come and go
                    self._met.clear()
                self._met[whose] = instance
        if instance is not None and instance.in_flight >= target.limits.concurrency:
            raise self._busy(call, target)

        started = time.time()
        record.append(
            CallAdmitted(
                at=started,
                provider=call.provider,
                method=call.method,
                name=call.name,
                call_id=call.id,
                session_id=call.session.id,
                session_source=call.session.source,
                caller=call.caller.id,
                caller_type=_TYPES[call.caller.type],
                tenant=call.caller.tenant,
                trace_id=call.trace[3:35],
                client=call.client,
                era=_ERAS[call.era],
                arguments=call.params.get("arguments", b""),
            )
        )
        number = flight.number = next(ids)
        flight.instance = instance
        flight.deadline = time.monotonic() + target.limits.call_timeout
        self.in_flight[number] = flight
        if instance is not None:
            instance.in_flight += 1

        # 4 forward
        answer: Answer | None = None
        try:
            if way is not None and flight.error is not None:  # while it was being prepared
                raise flight.error
            if way is not None and way.perform is not None:
                answer = await flight.wait(way.perform())
            elif instance is None:
                raise ProtocolError("internal", reference=call.id)
            else:
                payload, lines = bridge.request_out(call, instance.era, number)
                if way is not None:
                    lines += way.lines
                flight.exchange = await instance.connection.send(
                    Outgoing(number, call.method, payload, lines, instance.era is Era.modern)
                )
                if flight.error is not None:  # while it was being written
                    flight.exchange.fail(flight.error)
                message = await flight.exchange.next()
                if message.method or len(message.error):
                    answer = await self._roundabout(call, flight, instance, message)
                else:
                    result, outcome, special = bridge.result_back(call, instance.era, message.result, instance.info)
                    answer = Answer(result, b"", outcome)
                    if special:
                        answer = await self._special(call, flight, instance, answer, message.result)
        except HangarError as error:
            await self._failed(call, flight, target, error, started)
        except asyncio.CancelledError:
            flight.cancel("Whoever waited for it has gone, or Hangar is stopping.")
            assert flight.error is not None
            self._record_failure(call, flight.error, started)
            raise
        except Exception as defect:
            log.exception("call_failed_inside", reference=call.id, method=call.method, provider=call.provider)
            broken = ProtocolError("internal", reference=call.id)
            flight.fail(broken)
            self._record_failure(call, broken, started)
            raise broken from defect
        finally:
            self.in_flight.pop(number, None)
            if instance is not None:
                instance.in_flight -= 1
                instance.last_used = time.monotonic()
            if flight.tasks or flight.unread is not None:
                flight.let_go()
        if answer is None:  # once more, now that nothing of the first attempt is held
            call.retried, call.id, flight.exchange = True, new_call_id(), None
            return await self.call(call, flight)

        # 5 record
        if instance is not None:
            instance.last_heard = instance.last_used
        if len(answer.error):
            record.append(refused_upstream(call, started, answer.error))
            return answer
        ended = time.time()
        record.append(
            CallCompleted(
                at=ended,
                provider=call.provider,
                method=call.method,
                name=call.name,
                call_id=call.id,
                session_id=call.session.id,
                caller=call.caller.id,
                tenant=call.caller.tenant,
                trace_id=call.trace[3:35],
                outcome=answer.outcome,
                seconds=ended - started,
                result_bytes=len(answer.result),
            )
        )
        return answer

    # -- refusals

    def _unknown(self, call: Call) -> HangarError:
        return self._record_denial(call, unknown(call), "")

    def _denied(self, call: Call, decision: PolicyDecision) -> HangarError:
        error: HangarError
        if decision.hidden:
            error = unknown(call)
        else:
            error = Denied(
                "denied", name=call.name, policy=decision.policy, reason=decision.reason, way_out=decision.way_out
            )
        return self._record_denial(call, error, decision.policy, decision.reason)

    def _refused(self, call: Call) -> HangarError:
        if self.stopping:
            return self._record_denial(call, Unavailable("stopping"), "hangar")
        return self._record_denial(
            call, Unavailable("record_unavailable", detail=self._log.detail), "events.on_overflow"
        )

    def _busy(self, call: Call, target: Provider) -> HangarError:
        error = Denied(
            "limit",
            limit=f"limits.concurrency of provider {target.name}",
            value=target.limits.concurrency,
            retry_after=1,
        )
        return self._record_denial(call, error, f"providers.{target.name}.limits.concurrency")

    def _record_denial(self, call: Call, error: HangarError, policy: str, reason: str = "") -> HangarError:
        self._log.append(denied(call, error, policy, reason))
        return error

    # -- what only some calls need

    async def _prepare(self, call: Call, flight: Flight, target: Provider, fleet: Fleet) -> Way:
        """Whatever it takes until the call can be forwarded. What it raises is recorded here: nothing was sent."""
        try:
            return await self._find_way(call, flight, target, fleet)
        except HangarError as error:
            if isinstance(error, (Denied, RequestError)):
                raise self._record_denial(call, error, str(error.facts.get("policy", ""))) from None
            started = time.time()
            self._log.append(admitted(call, started))
            self._record_failure(call, error, started)
            raise

    async def _find_way(self, call: Call, flight: Flight, target: Provider, fleet: Fleet) -> Way:
        if call.provider == OWN.name:
            own = self._own.get(call.name) if call.method == "tools/call" else None
            if own is None:
                raise unknown(call)
            way = Way()
            way.perform = lambda: own(call, flight)
            return way
        if "requestState" in call.params and call.era is Era.modern and not call.retried:
            parked = self.questions.parked(call)
            if parked is not None:
                return self._continued(call, flight, parked)
        key = self._instances.key(target, call.caller.id, call.capabilities.key, call.conversation)
        instance = self._warm.get(key)
        if instance is None:
            instance = await self._start(call, flight, target)
            if self.fleet is not fleet or self.stopping:
                self._judge_again(call)
                fleet = self.fleet
        if call.task:
            self._judge_task(call, target, fleet)
        item = await self._item(call, instance)
        way = Way(instance, item)
        if item is not None and item.headers:
            arguments = envelope.read_strictly(call.params.get("arguments", b"{}"), "arguments")
            if call.mirrored is not None:
                check_params(item.headers, arguments, call.mirrored)
            way.lines = param_lines(item.headers, arguments)
        if call.log_level and instance.era is Era.legacy:
            await self._set_level(call, instance, target)
        if call.method in _SUBSCRIBING:
            ready = instance
            way.perform = lambda: self._subscribe(call, flight, ready)
        if self.fleet is not fleet:  # a fresh look at the catalogue made the call wait, too
            self._judge_again(call)
        return way

    async def _start(self, call: Call, flight: Flight, target: Provider) -> Instance:
        key = self._instances.key(target, call.caller.id, call.capabilities.key, call.conversation)
        deadline = asyncio.get_running_loop().time() + max(target.lifecycle.start_timeout, target.limits.call_timeout)
        return await flight.wait(self._ready(target, key, deadline))

    async def _ready(self, target: Provider, key: InstanceKey, deadline: float) -> Instance:
        instance = await self._instances.ready(target, key, deadline)
        await self._catalogue.load(instance)
        return instance

    def _judge_task(self, call: Call, target: Provider, fleet: Fleet) -> None:
        """What follows up on a task is judged as the call that began it: its result arrives here."""
        began = msgspec.structs.replace(call, method="tools/call", name=call.task)
        if decide(began, target, fleet.judges) is not None:
            raise unknown(call)

    def _judge_again(self, call: Call) -> None:
        """The call had to wait, and what governs it changed meanwhile."""
        target = self.fleet.providers.get(call.provider)
        if target is None:
            raise unknown(call)
        if self.stopping:
            raise Unavailable("stopping")
        decision = decide(call, target, self.fleet.judges)
        if decision is not None:
            raise (
                unknown(call)
                if decision.hidden
                else Denied(
                    "denied", name=call.name, policy=decision.policy, reason=decision.reason, way_out=decision.way_out
                )
            )

    async def _item(self, call: Call, instance: Instance) -> Item | None:
        """Raises unless the provider offers what the call names, after at most one fresh look."""
        offer = await self._catalogue.load(instance)
        for look in range(2):
            if call.method == "tools/call":
                found = offer.of(TOOLS).get(call.name)
                if found is not None:
                    return found
            elif call.method == "prompts/get":
                found = offer.of(PROMPTS).get(call.name)
                if found is not None:
                    return found
            elif call.method == "completion/complete":
                if call.name in offer.of(PROMPTS) or offer.knows_resource(call.name) or offer.has_template(call.name):
                    return None
            elif call.method.startswith("resources/"):
                if offer.knows_resource(call.name):
                    return None
            else:
                return None
            if not look:
                offer = await self._catalogue.refresh(instance)
        raise unknown(call)

    async def _set_level(self, call: Call, instance: Instance, target: Provider) -> None:
        """A legacy provider's log level is its session's: set only where the session is one client's."""
        if self._levels.get(instance.id) == call.log_level or "logging" not in instance.capabilities:
            return
        if target.sharing is not Sharing.shared:
            self._levels[instance.id] = call.log_level
            await ask(instance, "logging/setLevel", {"level": call.log_level}, target.limits.call_timeout)

    def _continued(self, call: Call, flight: Flight, parked: Parked) -> Way:
        way = Way(parked.instance)

        async def go_on() -> Answer:
            message = await self.questions.resume(call, flight, parked)
            return await self._roundabout(call, flight, parked.instance, message)

        way.perform = go_on
        return way

    async def _roundabout(self, call: Call, flight: Flight, instance: Instance, message: Message) -> Answer:
        """Anything but a plain result came: notifications and questions first, or an error."""
        if message.method and flight.exchange is not None:
            message = await self.questions.converse(call, flight, instance, flight.exchange, message)
        if len(message.error):
            return Answer(b"", bridge.error_back(call, message.error))
        result, outcome, special = bridge.result_back(call, instance.era, message.result, instance.info)
        answer = Answer(result, b"", outcome)
        return await self._special(call, flight, instance, answer, message.result) if special else answer

    async def _special(self, call: Call, flight: Flight, instance: Instance, answer: Answer, result: Json) -> Answer:
        """Results that hand out resources, or ask for input."""
        offer = self._offers.get(instance.id)
        if answer.outcome != "input_required":
            if offer is not None:
                for uri in bridge.linked_uris(result):
                    offer.remember(uri)
            if answer.outcome == "task" or "task" in call.params or call.task:
                return Answer(rename_tasks(answer.result, self.task_namer(call)), b"", answer.outcome)
            return answer
        if instance.era is Era.legacy:  # a parked call's; made by us
            return answer
        if call.era is Era.modern:
            return Answer(self.questions.sealed(call, instance, result), b"", "input_required")
        for _ in range(MOST_ROUNDS):
            again = await flight.wait(self.questions.gather(call, flight, instance, result))
            number = next(ids)
            call.params = {**call.params, **again}
            payload, lines = bridge.request_out(call, instance.era, number)
            flight.exchange = await instance.connection.send(Outgoing(number, call.method, payload, lines, True))
            if flight.error is not None:
                flight.exchange.fail(flight.error)
            message = await flight.exchange.next()
            if message.method:
                message = await self.questions.converse(call, flight, instance, flight.exchange, message)
            if len(message.error):
                return Answer(b"", bridge.error_back(call, message.error))
            shaped, outcome, _ = bridge.result_back(call, instance.era, message.result, instance.info)
            if outcome != "input_required":
                return Answer(shaped, b"", outcome)
            result = message.result
        raise ProtocolError(
            "provider_protocol", provider=call.provider, detail=f"It asked for input more than {MOST_ROUNDS} times."
        )

    def task_namer(self, call: Call) -> Callable[[str], str]:
        """From a provider's task ids to what this caller knows them by."""
        tool = call.task or call.name
        return lambda id: self._seal.name("task", call.caller.id, [call.provider, id, tool])

    async def _failed(self, call: Call, flight: Flight, target: Provider, error: HangarError, started: float) -> None:
        """The forward failed. Raises, unless the call may be sent again: once, and only if it surely did not run or
        the operator marked the tool."""
        instance = flight.instance
        if flight.exchange is not None:
            flight.exchange.fail(error)
        self._record_failure(call, error, started)
        marked = call.method == "tools/call" and self._again[target.name].match(call.name) is not None
        lost = not isinstance(error, (CallTimeout, CallCancelled, Denied, RequestError))
        if isinstance(error, SessionExpired) and instance is not None:
            await self._renewed(instance)
        if not (error.retryable or (marked and lost)) or flight.error is not None or instance is None or call.retried:
            raise error

    async def _renewed(self, instance: Instance) -> None:
        try:
            await self._instances.renew(instance)
        except HangarError:
            return  # told to the next call, which starts it with a fresh look

    def _record_failure(self, call: Call, error: HangarError, started: float) -> None:
        self._log.append(failed(call, started, error))

    def sweep(self) -> None:
        """End the calls whose deadline has passed. One sweep for all, instead of a timer for each."""
        now = time.monotonic()
        for flight in [flight for flight in self.in_flight.values() if flight.deadline <= now]:
            provider = flight.instance.provider if flight.instance is not None else OWN
            seconds = provider.limits.call_timeout
            flight.fail(CallTimeout("timeout", name=flight.call.name, provider=provider.name, seconds=seconds))

    def gone(self, instance: Instance) -> None:
        self._levels.pop(instance.id, None)
        self._met = {whose: each for whose, each in self._met.items() if each is not instance}


OWN: Final = Provider(
    name="hangar",
    mode=Mode.subprocess,
    launch=SubprocessLaunch(command=()),
    sharing=Sharing.shared,
    limits=Limits(call_timeout=3600),
)
"""Hangar itself, as the target of calls to its own tools. Never launched. What they call has deadlines of its own."""


_TASK_CODES: Final = dict.fromkeys(ALL_METHODS, "unknown_task")


def unknown(call: Call) -> RequestError:
    """How the unknown is answered; also what a caller may not know of."""
    code = {"tools/call": "unknown_tool", "prompts/get": "unknown_prompt", **_TASK_CODES}.get(
        call.method, "unknown_resource"
    )
    return RequestError(code, name=call.shown or call.name)
