# SPDX-License-Identifier: MIT
"""The laws of `application/ports/connection.py`, for every wire.

A wire's test module subclasses `ConnectionSuite` and gives it the fixture `connect`: an async callable that returns
a connection to a fresh provider which follows `tests/ports/script.py`, and that takes `message_bytes`. The fixture
closes what it opened. A law that a wire states in its own way is overridden there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_hangar.application.ports.connection import Connection, Exchange, Outgoing
from mcp_hangar.domain.errors import CallCancelled, HangarError, ProtocolError, ProviderDied, TransportError, Unsent
from mcp_hangar.domain.mcp.envelope import Message, encode, notification, request

Connect = Callable[..., Awaitable[Connection]]
Steps = list[dict[str, Any]]

LIMIT = 64 * 1024
PROGRESS = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$id,"progress":1}}'
PATIENCE = 60.0
"""Seconds after which a wait counts as one that never ends. No test asserts how long anything took."""

_ids = itertools.count(1000)


def outgoing(steps: Steps, method: str = "test/steps") -> Outgoing:
    id = next(_ids)
    return Outgoing(id=id, method=method, payload=request(id, method, encode({"steps": steps})))


async def ask(connection: Connection, *steps: dict[str, Any], method: str = "test/steps") -> Exchange:
    return await connection.send(outgoing(list(steps), method))


async def read(exchange: Exchange) -> Message:
    async with asyncio.timeout(PATIENCE):
        return await exchange.next()


async def go(connection: Connection, name: str) -> None:
    await connection.post(notification("test/go", encode({"name": name})))


async def received(connection: Connection) -> list[Any]:
    """All that reached the provider so far."""
    answer = await read(await ask(connection, {"received": True}))
    messages: list[Any] = json.loads(bytes(answer.result))["messages"]
    return messages


def say(method: str, **params: Any) -> dict[str, Any]:
    return {"say": json.dumps({"jsonrpc": "2.0", "method": method, "params": params})}


class Heard:
    """A listener that can be waited for."""

    def __init__(self, connection: Connection) -> None:
        self.messages: list[Message] = []
        self.refused: list[str] = []
        self.closed: list[HangarError] = []
        self._changed = asyncio.Event()
        connection.listener.on_message = lambda message: self._add(self.messages, message)
        connection.listener.on_refused = lambda why: self._add(self.refused, why)
        connection.listener.on_closed = lambda error: self._add(self.closed, error)

    def _add(self, where: list[Any], what: Any) -> None:
        where.append(what)
        self._changed.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not enough():
                self._changed.clear()
                await self._changed.wait()


class ConnectionSuite:
    async def test_an_answer_arrives_as_it_was_spelled(self, connect: Connect) -> None:
        spelled = '{"b":1.0e3,"a":12345678901234567890,"text":"\\u00e9 \\"x\\" ż","deep":[[{}]]}'
        connection = await connect()
        answer = await read(await ask(connection, {"answer": spelled}))
        assert bytes(answer.result).decode() == spelled

    async def test_an_error_arrives_as_it_was_spelled(self, connect: Connect) -> None:
        connection = await connect()
        error = '{"jsonrpc":"2.0","id":$id,"error":{"code":-32000,"message":"no","data":{"x":1.50}}}'
        answer = await read(await ask(connection, {"say": error}))
        assert bytes(answer.error) == b'{"code":-32000,"message":"no","data":{"x":1.50}}'

    async def test_what_is_said_about_a_request_comes_in_order_before_its_response(self, connect: Connect) -> None:
        connection = await connect()
        told = [say("notifications/message", level="info", data=n) for n in range(20)]
        exchange = await ask(connection, *told, {"answer": "{}"})
        got = [await read(exchange) for _ in range(21)]
        assert [json.loads(bytes(message.params))["data"] for message in got[:20]] == list(range(20))
        assert got[20].is_response

    async def test_progress_goes_to_the_request_it_names(self, connect: Connect) -> None:
        connection = await connect()
        other = await ask(connection, {"until": "end"}, {"answer": "{}"})
        exchange = await ask(connection, {"say": PROGRESS}, {"answer": "{}"})
        assert (await read(exchange)).method == "notifications/progress"
        assert (await read(exchange)).is_response
        await go(connection, "end")
        assert (await read(other)).is_response

    async def test_exchanges_may_be_answered_in_any_order(self, connect: Connect) -> None:
        connection = await connect()
        first = await ask(connection, {"until": "first"}, {"answer": '"first"'})
        second = await ask(connection, {"until": "second"}, {"answer": '"second"'})
        await go(connection, "second")
        assert bytes((await read(second)).result) == b'"second"'
        await go(connection, "first")
        assert bytes((await read(first)).result) == b'"first"'

    async def test_a_question_reaches_the_caller_and_its_answer_the_provider(self, connect: Connect) -> None:
        connection = await connect()
        question = '{"jsonrpc":"2.0","id":"q-1","method":"elicitation/create","params":{"message":"?"}}'
        exchange = await ask(connection, {"say": question}, {"until_reply": "q-1"}, {"answer": "$reply"})
        asked = await read(exchange)
        assert (asked.method, bytes(asked.id)) == ("elicitation/create", b'"q-1"')
        await connection.post(b'{"jsonrpc":"2.0","id":"q-1","result":{"action":"accept"}}')
        assert json.loads(bytes((await read(exchange)).result))["result"] == {"action": "accept"}

    async def test_an_answer_with_an_unknown_id_is_counted_told_and_dropped(self, connect: Connect) -> None:
        connection = await connect()
        heard = Heard(connection)
        wrong = '{"jsonrpc":"2.0","id":"$id","result":"a string is not a number"}'
        stranger = '{"jsonrpc":"2.0","id":7,"result":"nobody asked"}'
        exchange = await ask(connection, {"say": wrong}, {"say": stranger}, {"answer": '"right"'})
        assert bytes((await read(exchange)).result) == b'"right"'
        assert connection.refused == 2
        assert len(heard.refused) == 2

    async def test_what_belongs_to_no_request_goes_to_the_listener_in_order(self, connect: Connect) -> None:
        connection = await connect()
        heard = Heard(connection)
        await connection.listen()
        methods = ["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/x"]
        apart = [{"apart": json.dumps({"jsonrpc": "2.0", "method": method})} for method in methods]
        assert (await read(await ask(connection, *apart, {"answer": "{}"}))).is_response
        await heard.until(lambda: len(heard.messages) == 3)
        assert [message.method for message in heard.messages] == methods

    async def test_unread_messages_wait_for_their_reader(self, connect: Connect) -> None:
        connection = await connect()
        slow = await ask(connection, {"say": PROGRESS}, {"answer": '"late"'})
        assert (await read(await ask(connection, {"answer": "{}"}))).is_response
        assert (await read(slow)).method == "notifications/progress"
        assert bytes((await read(slow)).result) == b'"late"'

    async def test_a_reader_that_gives_up_loses_nothing(self, connect: Connect) -> None:
        connection = await connect()
        exchange = await ask(connection, {"until": "go"}, {"answer": '"kept"'})
        reader = asyncio.create_task(exchange.next())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await go(connection, "go")
        assert bytes((await read(exchange)).result) == b'"kept"'

    async def test_a_failed_exchange_raises_at_once_and_the_connection_lives(self, connect: Connect) -> None:
        connection = await connect()
        exchange = await ask(connection, {"until": "never"}, {"answer": "{}"})
        reader = asyncio.create_task(exchange.next())
        await asyncio.sleep(0)
        exchange.fail(CallCancelled("cancelled", detail="the client left"))
        exchange.fail(CallCancelled("cancelled", detail="twice"))
        with pytest.raises(CallCancelled) as raised:
            await asyncio.wait_for(reader, PATIENCE)
        assert raised.value.facts["detail"] == "the client left"
        assert (await read(await ask(connection, {"answer": "{}"}))).is_response

    async def test_failing_an_answered_exchange_still_raises(self, connect: Connect) -> None:
        connection = await connect()
        exchange = await ask(connection, {"answer": "{}"})
        assert (await read(await ask(connection, {"answer": "{}"}))).is_response
        exchange.fail(CallCancelled("cancelled", detail="unread"))
        with pytest.raises(CallCancelled):
            await read(exchange)

    async def test_a_message_up_to_the_limit_passes(self, connect: Connect) -> None:
        connection = await connect(message_bytes=LIMIT)
        answer = await read(await ask(connection, {"big": LIMIT - 100}))
        assert len(answer.result) > LIMIT - 100

    async def test_a_message_over_the_limit_is_refused_and_the_connection_lives(self, connect: Connect) -> None:
        connection = await connect(message_bytes=LIMIT)
        exchange = await ask(connection, {"big": 3 * LIMIT})
        with pytest.raises(ProtocolError) as raised:
            await read(exchange)
        assert raised.value.code == "message_too_large"
        assert raised.value.facts["limit"] == LIMIT
        assert (await read(await ask(connection, {"answer": "{}"}))).is_response

    async def test_a_provider_that_dies_fails_every_open_exchange(self, connect: Connect) -> None:
        connection = await connect()
        heard = Heard(connection)
        waiting = [await ask(connection, {"until": "never"}) for _ in range(3)]
        waiting.append(await ask(connection, {"die": 3}))
        for exchange in waiting:
            with pytest.raises((ProviderDied, TransportError)):
                await read(exchange)
        await heard.until(lambda: bool(heard.closed))
        with pytest.raises(Unsent):
            await ask(connection, {"answer": "{}"})
        assert len(heard.closed) == 1

    async def test_close_fails_what_is_open_and_may_be_repeated(self, connect: Connect) -> None:
        connection = await connect()
        heard = Heard(connection)
        exchange = await ask(connection, {"until": "never"})
        await asyncio.wait_for(connection.close(), PATIENCE)
        with pytest.raises((ProviderDied, TransportError)):
            await read(exchange)
        with pytest.raises(Unsent):
            await ask(connection, {"answer": "{}"})
        await asyncio.wait_for(connection.close(), PATIENCE)
        assert not heard.closed, "whoever closes need not be told"
