# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import pytest

from mcp_hangar.application.ports.connection import Outgoing
from mcp_hangar.domain.errors import HangarError, TransportError, Unsent
from mcp_hangar.domain.mcp.envelope import notification, request
from mcp_hangar.domain.provider import ClientCredentials
from mcp_hangar.infrastructure.oauth import TokenSource
from mcp_hangar.infrastructure.transports.dial import parse_endpoint
from mcp_hangar.infrastructure.transports.http1 import HttpClient
from mcp_hangar.infrastructure.transports.legacy_sse import LegacySseConnection
from mcp_hangar.infrastructure.transports.streamable_http import StreamableHttpConnection
from tests.infrastructure.wire import PATIENCE, Peer, Wire, result, serving, until

pytestmark = pytest.mark.anyio

SECRET = "correct-horse"


class Issuer:
    """A token endpoint that counts, beside an MCP endpoint that takes only the tokens it calls good."""

    def __init__(self, **answer: object) -> None:
        self.answer = answer
        self.status = "200 OK"
        self.issued = 0
        self.good: set[str] = set()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, peer: Peer) -> None:
        while True:
            seen = await peer.request()
            if seen.target == "/token":
                await self.go.wait()
                self.issued += 1
                token = f"t-{self.issued}"
                self.good.add(token)
                told = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, **self.answer}
                peer.answer(
                    json.dumps({key: value for key, value in told.items() if value is not None}).encode(), self.status
                )
            elif seen.fields.get("authorization", "").removeprefix("Bearer ") not in self.good:
                peer.answer(b"", "401 Unauthorized", more='WWW-Authenticate: Bearer error="invalid_token"\r\n')
            elif seen.method == "GET":
                peer.stream()
                peer.event(b"/messages", b"event: endpoint\n")
                self.stream = peer
                await peer.gone()
                return
            elif b'"id"' not in seen.body:
                peer.answer(b"", "202 Accepted")
            elif seen.target == "/messages":
                peer.answer(b"", "202 Accepted")
                self.stream.event(result(seen))
            else:
                peer.answer(result(seen))


def credentials(wire: Wire, **more: str) -> ClientCredentials:
    return ClientCredentials(token_url=f"{wire.origin}/token", client_id="me", client_secret=SECRET, **more)


@contextlib.asynccontextmanager
async def tokens_from(issuer: Issuer, **more: str) -> AsyncIterator[tuple[Wire, TokenSource]]:
    async with serving(issuer) as wire:
        tokens = TokenSource("time", credentials(wire, **more))
        try:
            yield wire, tokens
        finally:
            await tokens.close()


@contextlib.asynccontextmanager
async def calling(issuer: Issuer) -> AsyncIterator[tuple[Wire, StreamableHttpConnection]]:
    async with tokens_from(issuer) as (wire, tokens):
        client = HttpClient("time", parse_endpoint(wire.url))

        async def release() -> None:
            client.close()

        connection = StreamableHttpConnection(
            "time", client, message_bytes=100_000, headers={}, tokens=tokens, release=release
        )
        try:
            yield wire, connection
        finally:
            await connection.close()


async def call(connection: StreamableHttpConnection | LegacySseConnection, id: int = 1) -> bytes:
    async with asyncio.timeout(PATIENCE):
        exchange = await connection.send(Outgoing(id=id, method="x", payload=request(id, "x", b"{}")))
        return bytes((await exchange.next()).result)


async def test_the_token_request_is_that_of_client_credentials_with_a_resource() -> None:
    async with tokens_from(Issuer(), scope="a b", resource="https://mcp.example/mcp") as (wire, tokens):
        assert await tokens.fresh() == "t-1"
        (asked,) = wire.requests
        assert parse_qs(asked.body.decode()) == {
            "grant_type": ["client_credentials"],
            "scope": ["a b"],
            "resource": ["https://mcp.example/mcp"],
        }
        assert asked.fields["authorization"] == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


async def test_many_who_wait_ask_once_and_one_who_leaves_takes_nothing_along() -> None:
    issuer = Issuer()
    issuer.go.clear()
    async with tokens_from(issuer) as (wire, tokens):
        waiting = [asyncio.create_task(tokens.fresh()) for _ in range(20)]
        await until(lambda: len(wire.requests) == 1)
        waiting[0].cancel()
        issuer.go.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert set(map(str, outcomes[1:])) == {"t-1"}
        assert await tokens.fresh() == "t-1"
        assert issuer.issued == 1


async def test_a_token_is_asked_for_again_shortly_before_it_expires() -> None:
    issuer = Issuer(expires_in=3600)
    async with tokens_from(issuer) as (_, tokens):
        await tokens.fresh()
        tokens.expires -= 3560
        assert await tokens.fresh() == "t-1"
        tokens.expires -= 20
        assert await tokens.fresh() == "t-2"


@pytest.mark.parametrize("lasts", [None, 0, -5, "", 0.4])
async def test_a_token_without_a_usable_lifetime_is_used_for_a_while(lasts: object) -> None:
    issuer = Issuer(expires_in=lasts)
    async with tokens_from(issuer) as (_, tokens):
        assert [await tokens.fresh(), await tokens.fresh()] == ["t-1", "t-1"]


async def test_a_refused_token_is_renewed_once_for_all_who_met_the_refusal() -> None:
    async with tokens_from(Issuer()) as (_, tokens):
        old = await tokens.fresh()
        assert list(await asyncio.gather(tokens.renew(old), tokens.renew(old), tokens.renew(old))) == ["t-2"] * 3
        assert await tokens.renew(old) == "t-2"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("401 No", {"error": "invalid_client", "error_description": f"{SECRET} is wrong"}),
        ("400 No", {"error": f"{SECRET}"}),
        ("400 No", {"error": {"a": [SECRET]}}),
        ("200 OK", {"access_token": None}),
        ("200 OK", {"access_token": f"{SECRET}\r\nX: y"}),
        ("200 OK", {"access_token": [SECRET]}),
        ("200 OK", {"token_type": "mac"}),
        ("200 OK", {"token_type": None}),
        ("200 OK", {"expires_in": "soon"}),
        ("500 Oops", {}),
    ],
)
async def test_what_goes_wrong_is_told_without_the_secret(status: str, answer: dict[str, object]) -> None:
    issuer = Issuer(**answer)
    issuer.status = status
    async with tokens_from(issuer) as (_, tokens):
        with pytest.raises(Unsent) as raised:
            await tokens.fresh()
        error = raised.value
        assert error.code == "upstream_auth"
        assert SECRET not in f"{error} {error.why} {error.fix} {error.data} {tokens!r} {error.__cause__!r}"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"null"])
async def test_a_token_endpoint_that_is_none_is_told(body: bytes) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(body)

    async with serving(handler) as wire:
        tokens = TokenSource("time", credentials(wire))
        with pytest.raises(Unsent):
            await tokens.fresh()
        await tokens.close()


async def test_a_token_endpoint_that_cannot_be_reached_is_told_and_asked_again_next_time() -> None:
    issuer = Issuer()
    async with serving(issuer) as wire:
        gone = ClientCredentials(token_url="http://127.0.0.1:1/token", client_id="me", client_secret=SECRET)
        tokens = TokenSource("time", gone)
        for _ in range(2):
            with pytest.raises(Unsent):
                await tokens.fresh()
        await tokens.close()
        assert wire.requests == []


async def test_a_redirect_of_the_token_endpoint_is_not_followed_with_the_secret() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.answer(b"", "307 Over there", more="Location: /elsewhere\r\n")
        await peer.gone()

    async with serving(handler) as wire:
        tokens = TokenSource("time", credentials(wire))
        with pytest.raises(Unsent):
            await tokens.fresh()
        await tokens.close()
        assert len(wire.requests) == 1


async def test_closing_while_a_token_is_fetched_leaves_nothing() -> None:
    issuer = Issuer()
    issuer.go.clear()
    async with serving(issuer) as wire:
        tokens = TokenSource("time", credentials(wire))
        waiting = asyncio.create_task(tokens.fresh())
        await until(lambda: len(wire.requests) == 1)
        await tokens.close()
        # Who waited was not cancelled and must not look as if.
        with pytest.raises(Unsent):
            await waiting
        issuer.go.set()
        await until(lambda: wire.open == 0)


async def test_calls_carry_the_token_and_a_warm_one_asks_for_none() -> None:
    issuer = Issuer()
    async with calling(issuer) as (wire, connection):
        for id in range(3):
            assert await call(connection, id) == b'{"ok":true}'
        assert issuer.issued == 1
        assert [seen.target for seen in wire.requests] == ["/token", "/mcp", "/mcp", "/mcp"]


async def test_a_call_refused_for_its_token_is_sent_once_more_with_a_new_one() -> None:
    issuer = Issuer()
    async with calling(issuer) as (_, connection):
        await call(connection)
        issuer.good.clear()
        assert await call(connection) == b'{"ok":true}'
        issuer.good.clear()
        await connection.post(notification("notifications/initialized"))
        assert issuer.issued == 3


async def test_a_server_that_refuses_every_token_is_asked_twice() -> None:
    issuer = Issuer()
    async with calling(issuer) as (wire, connection):

        class Nothing(set[str]):
            def __contains__(self, token: object) -> bool:
                return False

        issuer.good = Nothing()
        with pytest.raises(TransportError) as raised:
            await call(connection)
        assert (raised.value.code, raised.value.facts["status"]) == ("upstream_auth", 401)
        assert "invalid_token" in raised.value.why
        assert [seen.target for seen in wire.requests] == ["/token", "/mcp", "/token", "/mcp"]


async def test_a_call_fails_where_no_new_token_is_to_be_had() -> None:
    issuer = Issuer()
    async with calling(issuer) as (_, connection):
        await call(connection)
        issuer.good.clear()
        issuer.answer = {"error": "invalid_client"}
        issuer.status = "401 No"
        with pytest.raises(HangarError) as raised:
            await call(connection)
        assert raised.value.code == "upstream_auth"
        with pytest.raises(HangarError):
            await connection.post(notification("notifications/initialized"))


async def test_http_with_sse_renews_its_token_too() -> None:
    issuer = Issuer()
    async with tokens_from(issuer) as (wire, tokens):
        client = HttpClient("time", parse_endpoint(wire.url))

        async def release() -> None:
            client.close()

        connection = LegacySseConnection(
            "time", client, message_bytes=100_000, headers={}, tokens=tokens, release=release
        )
        await tokens.fresh()
        issuer.good.clear()
        await connection.open(PATIENCE)
        assert await call(connection) == b'{"ok":true}'
        issuer.good.clear()
        assert await call(connection) == b'{"ok":true}'
        issuer.good.clear()
        await connection.post(notification("notifications/initialized"))
        assert issuer.issued == 4
        await connection.close()


def test_authlib_is_not_imported_where_no_provider_asks_for_it() -> None:
    loading = "import sys, mcp_hangar.infrastructure.launchers.remote"
    code = f"{loading}; sys.exit(bool({{'authlib', 'httpx', 'httpx2'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE).returncode == 0
