# SPDX-License-Identifier: MIT
"""How systems like this one failed: who may come in, and whose credentials go where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from tests.house import House, house, remote_provider, subprocess_provider
from tests.journeys.doors import refusal_to_start
from tests.journeys.upstream import Upstream, recording
from tests.journeys.wire import ModernWire, client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ERAS = ["legacy", "modern"]
NEVER_STARTED = subprocess_provider(["false"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Upstream]]:
    """A Hangar with tokens on both planes, in front of a provider that records what reaches it."""
    folder = tmp_path_factory.mktemp("guarded")
    with recording("modern") as upstream:
        provider = remote_provider(upstream.url, headers={"Authorization": "Bearer hangars-own-credential"})
        server = {"token": "the-agents-token-0123456789", "admin_token": "the-admins-token-0123456789"}
        with house(folder, {"up": provider}, server=server) as opened:
            yield opened, upstream


AGENT = "Bearer the-agents-token-0123456789"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer the-agents-token-012345678"},
        {"authorization": "Basic dGhlLWFnZW50cy10b2tlbi0wMTIzNDU2Nzg5"},
        {"authorization": "the-agents-token-0123456789"},
        {"x-authorization": AGENT},
    ],
)
async def test_pitfall_03_without_the_token_no_door_of_the_agents_opens(
    guarded: tuple[House, Upstream], given: dict[str, str]
) -> None:
    hangar, upstream = guarded
    before = len(upstream.called("echo"))
    async with ModernWire(hangar.url) as wire, httpx.AsyncClient(headers=given) as http:
        for path in (hangar.url, hangar.door("up"), hangar.door("no-such-provider")):
            for method, params in (("tools/list", {}), ("tools/call", {"name": "up__echo", "arguments": {}})):
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": wire._dress(dict(params))}
                answer = await http.post(path, json=body, headers=wire._head(method, dict(params)))
                assert answer.status_code == 401, (path, method)
                assert "www-authenticate" in answer.headers
            assert (await http.get(path, headers={"accept": "text/event-stream"})).status_code == 401
            assert (await http.delete(path, headers={"mcp-session-id": "x"})).status_code == 401
    assert len(upstream.called("echo")) == before


def test_pitfall_03_a_listener_for_everybody_without_a_token_is_refused(tmp_path: Path) -> None:
    said = refusal_to_start(tmp_path, {"time": NEVER_STARTED}, server={"listen": "0.0.0.0:0"})
    assert "server.token" in said


async def test_pitfall_15_the_agents_token_opens_nothing_of_the_operators(guarded: tuple[House, Upstream]) -> None:
    hangar, _ = guarded
    root = f"http://127.0.0.1:{hangar.port}"
    async with httpx.AsyncClient(base_url=root, headers={"authorization": AGENT}) as http:
        for path in ("/api/v1/providers", "/api/v1/status", "/api/v1/events", "/api/v1/calls", "/api/v1/openapi.json"):
            assert (await http.get(path)).status_code in (401, 403), path
        for path in ("/api/v1/providers/up/stop", "/api/v1/call"):
            assert (await http.post(path, json={"provider": "up", "tool": "echo"})).status_code in (401, 403), path
    async with ModernWire(hangar.url, headers={"authorization": AGENT}) as wire:
        for tool in ("hangar_stop", "hangar_start"):
            assert tool not in await wire.tools()
            assert "error" in (await wire.call(tool, {"provider": "up"})).message
        assert (await wire.call("up__echo")).text == "{}"


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_pitfall_18_the_credential_is_found_in_any_case(
    guarded: tuple[House, Upstream], name: str, scheme: str
) -> None:
    hangar, _ = guarded
    async with ModernWire(hangar.url) as wire:
        request = wire.raw("tools/list", {}, 1)
        line = f"{name}: {scheme} the-agents-token-0123456789\r\n".encode()
        async with await anyio.connect_tcp("127.0.0.1", hangar.port) as stream:
            await stream.send(request.replace(b"\r\n", b"\r\n" + line, 1))
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")


async def test_pitfall_18_a_forged_host_is_turned_away(guarded: tuple[House, Upstream]) -> None:
    hangar, _ = guarded
    async with ModernWire(hangar.url, headers={"authorization": AGENT, "host": "evil.example"}) as wire:
        answer = await wire.ask("tools/list")
    assert answer.status == 421
    assert "evil.example" not in json.dumps(answer.message)


async def test_pitfall_20_a_redirect_to_another_place_is_not_followed(tmp_path: Path) -> None:
    with recording("modern") as target, recording("modern") as upstream:
        provider = remote_provider(upstream.url, headers={"Authorization": "Bearer secret-of-the-first"})
        with house(tmp_path, {"up": provider}) as hangar:
            async with ModernWire(hangar.url) as wire:
                assert (await wire.call("up__echo")).text == "{}"
                upstream.redirect = target.url
                answer = (await wire.call("up__echo")).message
                assert "error" in answer or answer["result"]["isError"]
        assert target.seen == []


@pytest.mark.parametrize("era", ERAS)
async def test_pitfall_21_the_callers_token_and_headers_never_go_upstream(
    guarded: tuple[House, Upstream], era: str
) -> None:
    hangar, upstream = guarded
    mine = {"authorization": AGENT, "cookie": "session=mine", "x-api-key": "mine-too", "x-forwarded-for": "10.9.8.7"}
    async with client(era, hangar.url, headers=mine) as wire:
        assert (await wire.call("up__echo", {"x": 1})).text == '{"x": 1}'
    for seen in upstream.seen:
        assert seen.header("authorization") == "Bearer hangars-own-credential"
        everything = json.dumps(seen.headers) + seen.body.decode()
        for secret in ("the-agents-token", "session=mine", "mine-too", "10.9.8.7"):
            assert secret not in everything
