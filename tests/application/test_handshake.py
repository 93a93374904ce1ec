# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_hangar import __version__
from mcp_hangar.application.handshake import DiedOfProbe, Handshake, greet
from mcp_hangar.domain.errors import HangarError, ProtocolError, StartFailed, TransportError
from mcp_hangar.domain.mcp.envelope import Message
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    LEGACY_VERSIONS,
    MODERN_VERSION,
    NEWEST_LEGACY,
    PROTOCOL_VERSION,
    Era,
)
from mcp_hangar.domain.provider import Protocol
from tests.fakes import INFO, FakeConnection, Server, a_provider

pytestmark = pytest.mark.anyio

CAPABILITIES = '{"elicitation":{"form":{}},"roots":{}}'


def connect(server: Server) -> FakeConnection:
    return FakeConnection("time", server, "stdio")


async def shake(
    connection: FakeConnection,
    *,
    known: Era | None = None,
    protocol: Protocol = Protocol.auto,
    capabilities: str = CAPABILITIES,
    seconds: float = 5.0,
    patience: float = 10.0,
) -> Handshake:
    deadline = asyncio.get_running_loop().time() + seconds
    return await greet(
        connection,
        a_provider(protocol=protocol),
        known=known,
        capabilities=capabilities,
        deadline=deadline,
        patience=patience,
    )


async def test_a_modern_provider_is_recognised_by_its_answer_to_discover() -> None:
    connection = connect(Server(Era.modern))
    assert await shake(connection) == Handshake(
        era=Era.modern, version=MODERN_VERSION, capabilities={"tools": {}}, info=INFO, instructions="Be kind."
    )
    assert connection.methods == ["server/discover"]
    assert connection.headers == [b"Mcp-Method: server/discover\r\n"]
    assert connection.at == [MODERN_VERSION]
    assert connection.posted == []
    assert connection.listening == 0


async def test_the_probe_declares_what_the_client_declared_and_no_more() -> None:
    connection = connect(Server(Era.modern))
    await shake(connection)
    assert connection.sent[0]["params"] == {
        "_meta": {
            PROTOCOL_VERSION: MODERN_VERSION,
            CLIENT_CAPABILITIES: json.loads(CAPABILITIES),
            CLIENT_INFO: {"name": "mcp-hangar", "version": __version__},
        }
    }


async def test_a_legacy_provider_is_initialized_and_listened_to() -> None:
    connection = connect(Server(Era.legacy))
    assert await shake(connection) == Handshake(
        era=Era.legacy, version=NEWEST_LEGACY, capabilities={"tools": {}}, info=INFO, instructions="Be kind."
    )
    assert connection.methods == ["server/discover", "initialize"]
    assert connection.sent[1]["params"] == {
        "protocolVersion": NEWEST_LEGACY,
        "capabilities": json.loads(CAPABILITIES),
        "clientInfo": {"name": "mcp-hangar", "version": __version__},
    }
    assert connection.posted == [{"jsonrpc": "2.0", "method": "notifications/initialized"}]
    assert connection.listening == 1


async def test_no_version_is_named_before_one_is_negotiated() -> None:
    connection = connect(Server(Era.legacy))
    await shake(connection)
    assert connection.at == [MODERN_VERSION, ""]
    assert connection.versions[-1] == NEWEST_LEGACY


async def test_no_capabilities_are_declared_as_none() -> None:
    connection = connect(Server(Era.legacy))
    await shake(connection, capabilities="")
    assert connection.sent[1]["params"]["capabilities"] == {}


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_every_known_legacy_version_is_accepted(version: str) -> None:
    connection = connect(Server(Era.legacy, version=version))
    assert (await shake(connection)).version == version
    assert connection.versions[-1] == version


@pytest.mark.parametrize("version", ["1999-01-01", MODERN_VERSION, "", 7, None])
async def test_an_unknown_version_is_refused_and_not_initialized(version: Any) -> None:
    connection = connect(Server(Era.legacy, version=version))
    with pytest.raises(ProtocolError) as raised:
        await shake(connection)
    assert "protocol version" in raised.value.why
    assert connection.posted == []


@pytest.mark.parametrize("known", [None, Era.legacy])
async def test_a_forced_or_known_legacy_provider_is_not_probed(known: Era | None) -> None:
    connection = connect(Server(Era.legacy))
    protocol = Protocol.auto if known else Protocol.legacy
    assert (await shake(connection, known=known, protocol=protocol)).era is Era.legacy
    assert connection.methods == ["initialize"]


async def test_a_provider_forced_to_be_modern_is_never_initialized() -> None:
    connection = connect(Server(Era.legacy))
    with pytest.raises(ProtocolError):
        await shake(connection, protocol=Protocol.modern)
    assert connection.methods == ["server/discover"]


async def test_a_known_modern_provider_that_turned_legacy_is_a_failure_to_look_into() -> None:
    with pytest.raises(ProtocolError):
        await shake(connect(Server(Era.legacy)), known=Era.modern)


@pytest.mark.parametrize("code", [-32020, -32021])
async def test_an_error_that_only_modern_servers_know_means_modern(code: int) -> None:
    connection = connect(Server(Era.modern, refused={"server/discover": (code, None)}))
    found = await shake(connection)
    assert (found.era, found.version) == (Era.modern, MODERN_VERSION)
    assert "tools" in found.capabilities


@pytest.mark.parametrize("code", [-32000, -32600, -32601, -32602, 0, 400])
async def test_any_other_error_means_legacy(code: int) -> None:
    connection = connect(Server(Era.legacy, refused={"server/discover": (code, None)}))
    assert (await shake(connection)).era is Era.legacy


@pytest.mark.parametrize(
    "result", [{}, [], None, "yes", {"supportedVersions": "2026-07-28"}, {"supportedVersions": []}]
)
async def test_an_answer_that_proves_nothing_means_legacy(result: Any) -> None:
    connection = connect(Server(Era.legacy, results={"server/discover": result}))
    assert (await shake(connection)).era is Era.legacy


async def test_a_provider_that_discovers_but_offers_only_legacy_versions_is_legacy() -> None:
    result = {"supportedVersions": [NEWEST_LEGACY], "capabilities": {}}
    assert (await shake(connect(Server(Era.legacy, results={"server/discover": result})))).era is Era.legacy


async def test_a_version_error_that_names_only_legacy_versions_means_legacy() -> None:
    data = {"supported": [NEWEST_LEGACY], "requested": MODERN_VERSION}
    assert (await shake(connect(Server(Era.legacy, refused={"server/discover": (-32022, data)})))).era is Era.legacy


async def test_without_a_version_in_common_both_sides_are_named() -> None:
    data = {"supported": ["2031-01-01"], "requested": MODERN_VERSION}
    connection = connect(Server(Era.modern, refused={"server/discover": (-32022, data)}))
    with pytest.raises(ProtocolError) as raised:
        await shake(connection)
    assert "2031-01-01" in raised.value.why
    assert MODERN_VERSION in raised.value.why
    assert connection.methods == ["server/discover"]


async def test_a_provider_that_knows_neither_question_is_modern() -> None:
    connection = connect(Server(Era.modern, refused={"server/discover": (-32601, None)}))
    assert (await shake(connection)).era is Era.modern
    assert connection.versions[-1] == MODERN_VERSION


async def test_a_provider_that_leaves_the_probe_unanswered_is_legacy() -> None:
    connection = connect(Server(Era.legacy, silent={"server/discover"}))
    assert (await shake(connection, patience=0.001)).era is Era.legacy
    probe = next(iter(connection.exchanges.values()))
    assert probe.over, "nothing stays open"


async def test_a_modern_provider_that_starts_slowly_is_recognised_by_its_late_answer() -> None:
    connection = connect(Server(Era.modern, silent={"server/discover", "initialize"}))
    greeting = asyncio.create_task(shake(connection, patience=0.001))
    await connection.asked["initialize"].wait()
    connection.answer_last("server/discover")
    assert (await greeting).era is Era.modern
    assert connection.versions[-1] == MODERN_VERSION
    assert connection.posted == []
    assert all(exchange.over for exchange in connection.exchanges.values())


async def test_a_modern_provider_that_refuses_the_initialize_behind_its_probe_is_heard_out() -> None:
    server = Server(Era.modern, silent={"server/discover"}, refused={"initialize": (-32022, None)})
    connection = connect(server)
    greeting = asyncio.create_task(shake(connection, patience=0.001))
    await connection.asked["initialize"].wait()
    connection.answer_last("server/discover")
    assert (await greeting).era is Era.modern


async def test_a_refused_initialize_is_told_with_its_reason() -> None:
    connection = connect(Server(Era.legacy, refused={"initialize": (-32603, None)}))
    with pytest.raises(ProtocolError) as raised:
        await shake(connection)
    assert "refused initialize: refused (-32603)" in raised.value.why


@pytest.mark.parametrize("silent", ["server/discover", "initialize"])
async def test_the_handshake_ends_with_its_deadline(silent: str) -> None:
    connection = connect(Server(Era.legacy, silent={silent, "initialize"}))
    with pytest.raises(StartFailed) as raised:
        await shake(connection, seconds=0.05)
    assert "in time" in raised.value.why
    assert not [task for task in asyncio.all_tasks() if task.get_name().endswith("of time")]


@pytest.mark.parametrize("deadly", ["server/discover", "initialize"])
async def test_a_provider_that_exits_during_the_probing_is_told_apart(deadly: str) -> None:
    with pytest.raises(DiedOfProbe):
        await shake(connect(Server(Era.legacy, deadly={deadly})))


async def test_an_http_status_that_refuses_initialize_passes_unchanged() -> None:
    error = TransportError("upstream_status", provider="time", status=405, detail="It says nothing further.")
    connection = connect(Server(Era.legacy, failing={"server/discover": error, "initialize": error}))
    with pytest.raises(TransportError) as raised:
        await shake(connection)
    assert raised.value.facts["status"] == 405
    assert connection.methods == ["server/discover", "initialize"]


async def test_refused_credentials_are_not_tried_a_second_time() -> None:
    error = TransportError("upstream_auth", provider="time", status=401, detail="No.")
    connection = connect(Server(Era.legacy, failing={"server/discover": error}))
    with pytest.raises(HangarError) as raised:
        await shake(connection)
    assert raised.value.code == "upstream_auth"
    assert connection.methods == ["server/discover"]


async def test_what_the_provider_says_before_it_answers_is_passed_on() -> None:
    connection = connect(Server(Era.legacy, silent={"initialize"}))
    heard: list[Message] = []
    connection.listener.on_message = heard.append
    greeting = asyncio.create_task(shake(connection, known=Era.legacy))
    await connection.asked["initialize"].wait()
    exchange = next(iter(connection.exchanges.values()))
    exchange.put(Message(method="notifications/message"))
    connection.answer_last("initialize")
    await greeting
    assert [message.method for message in heard] == ["notifications/message"]


async def test_a_cancelled_handshake_leaves_no_task_behind() -> None:
    connection = connect(Server(Era.legacy, silent={"server/discover"}))
    greeting = asyncio.create_task(shake(connection))
    await connection.asked["server/discover"].wait()
    greeting.cancel()
    await asyncio.wait({greeting})
    assert all(exchange.over for exchange in connection.exchanges.values())
    assert not [task for task in asyncio.all_tasks() if task.get_name().endswith("of time")]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(
    ["supportedVersions", "capabilities", "protocolVersion", "serverInfo", "_meta", "instructions"]
)
results = anything | st.dictionaries(members, anything, max_size=6)


@given(discovered=results, initialized=results)
@settings(max_examples=150, deadline=None)
def test_whatever_a_provider_answers_is_a_handshake_or_a_typed_error(discovered: Any, initialized: Any) -> None:
    async def scenario() -> None:
        server = Server(results={"server/discover": discovered, "initialize": initialized})
        with suppress(ProtocolError):
            found = await shake(connect(server))
            assert isinstance(found.capabilities, dict)
            assert isinstance(found.info, dict)
            assert isinstance(found.instructions, str)

    asyncio.run(scenario())
