# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.application.ports.connection import Connection, Outgoing
from mcp_hangar.domain.errors import SessionExpired, StartFailed, Unsent
from mcp_hangar.domain.mcp.envelope import Message, encode, notification, request
from mcp_hangar.domain.provider import ClientCredentials, Limits, Mode, Provider, RemoteLaunch, Sharing
from mcp_hangar.infrastructure.launchers.remote import RemoteLauncher
from mcp_hangar.infrastructure.transports.dial import parse_endpoint
from tests.certificates import Authority, authority_in
from tests.conftest import Node
from tests.infrastructure.wire import PATIENCE, Peer, Wire, result, serving, until
from tests.ports.connection_suite import Heard
from tests.processes import closed_port, free_port, plain_environment, running

pytestmark = pytest.mark.anyio

DAY = datetime.timedelta(days=1)


def provider(url: str, *, message_bytes: int = 16 * 1024 * 1024, **launch: Any) -> Provider:
    return Provider(
        name="time",
        mode=Mode.remote,
        launch=RemoteLaunch(url=url, connect_timeout=launch.pop("connect_timeout", 10.0), **launch),
        sharing=Sharing.shared,
        limits=Limits(message_bytes=message_bytes),
    )


@pytest.fixture
async def launcher() -> AsyncIterator[RemoteLauncher]:
    launcher = RemoteLauncher()
    yield launcher
    await asyncio.wait_for(launcher.close(), PATIENCE)


async def echoing(peer: Peer) -> None:
    while True:
        peer.answer(result(await peer.request()))


async def test_as_many_calls_are_under_way_as_the_limit_allows(launcher: RemoteLauncher) -> None:
    """Sockets are never what bounds them: all these are open before the first is answered."""
    many = 300
    arrived = asyncio.Event()

    async def handler(peer: Peer) -> None:
        asked = await peer.request()
        if len(wire.requests) == many:
            arrived.set()
        await arrived.wait()
        peer.answer(result(asked))
        await peer.gone()

    async with serving(handler) as wire:
        limited = dataclasses.replace(provider(wire.url), limits=Limits(concurrency=many, instances=1))
        connection = await launcher.launch(limited, "time-1", "streamable_http")
        answers = await asyncio.gather(*(call(connection, id=id) for id in range(many)))
        assert len(answers) == many
        await connection.close()


async def call(connection: Connection, method: str = "ping", params: bytes = b"{}", id: int = 1) -> Message:
    async with asyncio.timeout(PATIENCE):
        exchange = await connection.send(Outgoing(id=id, method=method, payload=request(id, method, params)))
        message = await exchange.next()
        while not message.is_response:
            message = await exchange.next()
        return message


async def refused(launcher: RemoteLauncher, provider: Provider, wire: str = "streamable_http") -> StartFailed:
    with pytest.raises(StartFailed) as raised:
        await asyncio.wait_for(launcher.launch(provider, "time-1", wire), PATIENCE)
    assert raised.value.retryable
    return raised.value


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority_in(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_provider_over_tls_is_reached_and_its_socket_used_again(
    launcher: RemoteLauncher, authority: Authority, name: str
) -> None:
    async with serving(echoing, authority.context(name)) as wire:
        connection = await launcher.launch(
            provider(f"https://{name}:{wire.port}/mcp", ca_file=authority.file), "time-1", "streamable_http"
        )
        for id in range(3):
            assert len((await call(connection, id=id)).result)
        assert wire.connections == 1
        await connection.close()
        await until(lambda: wire.open == 0)


async def test_what_is_wrong_with_a_certificate_is_told(launcher: RemoteLauncher, authority: Authority) -> None:
    cases = [
        (authority.context("localhost", expired=True), "has expired"),
        (authority.context("other.example"), "is for another name"),
        (authority.context("localhost", alone=True), "self-signed"),
    ]
    for context, told in cases:
        async with serving(echoing, context) as wire:
            error = await refused(launcher, provider(f"https://localhost:{wire.port}/mcp", ca_file=authority.file))
            assert told in error.why
            assert wire.requests == []
    async with serving(echoing, authority.context("localhost")) as wire:
        error = await refused(launcher, provider(f"https://localhost:{wire.port}/mcp"))
        assert "not trusted" in error.why
        assert "ca_file" in error.fix


async def test_tls_with_a_server_that_speaks_none_is_told(launcher: RemoteLauncher) -> None:
    async def handler(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with serving(handler) as wire:
        error = await refused(launcher, provider(f"https://127.0.0.1:{wire.port}/mcp"))
        assert "TLS with 127.0.0.1" in error.why


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_ca_file_that_cannot_be_used_is_told(
    launcher: RemoteLauncher, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    error = await refused(launcher, provider("https://127.0.0.1/mcp", ca_file=str(path)))
    assert str(path) in error.why


# Why nobody answers


async def test_each_way_not_to_be_reached_is_told_apart(launcher: RemoteLauncher) -> None:
    with closed_port() as closed:
        error = await refused(launcher, provider(f"http://127.0.0.1:{closed}/mcp"))
    assert "refused the connection" in error.why
    assert "listens on this port" in error.fix
    error = await refused(launcher, provider("http://no-such-host.invalid/mcp", connect_timeout=30))
    assert "could not be resolved (DNS)" in error.why
    with socket.socket() as deaf:
        # A full backlog: the kernel lets further connections wait for ever.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        error = await refused(launcher, provider(f"http://127.0.0.1:{port}/mcp", connect_timeout=0.3))
        assert "longer than 0.3 s" in error.why
        for each in crowd:
            each.close()


async def test_a_tls_handshake_that_never_ends_is_given_up(launcher: RemoteLauncher) -> None:
    async with serving(lambda peer: peer.gone()) as wire:
        error = await refused(launcher, provider(f"https://127.0.0.1:{wire.port}/mcp", connect_timeout=2))
        assert "TLS was not agreed" in error.why
        await until(lambda: wire.open == 0)


async def test_a_cancelled_launch_leaves_nothing(launcher: RemoteLauncher) -> None:
    async with serving(lambda peer: peer.gone()) as wire:
        launch = asyncio.create_task(
            launcher.launch(provider(f"https://127.0.0.1:{wire.port}/"), "time-1", "streamable_http")
        )
        await until(lambda: wire.open == 1)
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch
        await until(lambda: wire.open == 0)


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://", "http://h:99999/", "nonsense", "http://a b/", "http://h/\r\nX: y", ""]
)
async def test_a_url_that_cannot_be_used_is_told(launcher: RemoteLauncher, url: str) -> None:
    assert "Its url cannot be used" in (await refused(launcher, provider(url))).why


# Proxies


def proxying(wire_of_target: Wire, say: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Any:
    async def handler(peer: Peer) -> None:
        request = await peer.request()
        if request.method != "CONNECT":
            peer.answer(result(request))
            await handler(peer)
            return
        peer.say(say)
        reader, writer = await asyncio.open_connection("127.0.0.1", wire_of_target.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        try:
            await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
        finally:
            writer.close()

    return handler


async def test_https_goes_through_a_tunnel_of_the_proxy(launcher: RemoteLauncher, authority: Authority) -> None:
    async with (
        serving(echoing, authority.context("mcp.example")) as target,
        serving(proxying(target)) as proxy,
    ):
        launch = provider(
            f"https://mcp.example:{target.port}/mcp",
            ca_file=authority.file,
            proxy=f"http://me:{'s%20cret'}@127.0.0.1:{proxy.port}",
        )
        connection = await launcher.launch(launch, "time-1", "streamable_http")
        assert len((await call(connection)).result)
        (asked,) = proxy.requests
        assert (asked.method, asked.target) == ("CONNECT", f"mcp.example:{target.port}")
        assert asked.fields["proxy-authorization"] == "Basic bWU6cyBjcmV0"
        assert "proxy-authorization" not in target.requests[0].fields
        await connection.close()


async def test_http_goes_to_the_proxy_in_absolute_form(launcher: RemoteLauncher) -> None:
    async with serving(echoing) as proxy:
        launch = provider("http://mcp.example/mcp?x=1", proxy=f"http://me:secret@127.0.0.1:{proxy.port}")
        connection = await launcher.launch(launch, "time-1", "streamable_http")
        await call(connection)
        (asked,) = proxy.requests
        assert asked.target == "http://mcp.example/mcp?x=1"
        assert asked.fields["host"] == "mcp.example"
        assert asked.fields["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403"),
        (b"SSH-2.0\r\n\r\n", "no status"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "before TLS began"),
        (b"", "did not answer CONNECT"),
        (b"x" * 20_000, "did not answer CONNECT"),
    ],
)
async def test_a_proxy_that_refuses_is_told_without_its_credentials(
    launcher: RemoteLauncher, answer: bytes, told: str
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        peer.say(answer)

    async with serving(handler) as proxy:
        launch = provider("https://mcp.example/mcp", proxy=f"http://me:hunter2@127.0.0.1:{proxy.port}")
        error = await refused(launcher, launch)
        assert told in error.why
        assert "hunter2" not in f"{error} {error.why} {error.fix} {error.data}"


async def test_a_proxy_that_is_gone_or_silent_is_told(launcher: RemoteLauncher) -> None:
    with closed_port() as closed:
        error = await refused(launcher, provider("https://mcp.example/", proxy=f"http://127.0.0.1:{closed}"))
    assert "refused the connection" in error.why
    async with serving(lambda peer: peer.gone()) as proxy:
        launch = provider("https://mcp.example/", proxy=f"http://127.0.0.1:{proxy.port}", connect_timeout=0.3)
        assert "the proxy did not answer" in (await refused(launcher, launch)).why
    assert "only proxies reached over http" in (await refused(launcher, provider("http://h/", proxy="https://p/"))).why


# Headers and credentials


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"X-Key": "hunter2\r\nEvil: yes"}, "X-Key"),
        ({"X Key": "hunter2"}, "X Key"),
        ({"X-Key": "hunter2☃"}, "X-Key"),
        ({"Content-Length": "5"}, "Content-Length"),
        ({"mcp-session-id": "hunter2"}, "mcp-session-id"),
        ({"HOST": "hunter2"}, "HOST"),
    ],
)
async def test_headers_that_would_break_the_request_are_refused(
    launcher: RemoteLauncher, headers: dict[str, str], told: str
) -> None:
    error = await refused(launcher, provider("http://127.0.0.1/", headers=headers))
    assert told in error.why
    assert "hunter2" not in f"{error} {error.why} {error.fix} {error.data}"


async def test_a_user_in_the_url_is_sent_as_credentials_and_never_shown(launcher: RemoteLauncher) -> None:
    async with serving(echoing) as wire:
        connection = await launcher.launch(
            provider(f"http://me:hunter2@127.0.0.1:{wire.port}/mcp"), "time-1", "streamable_http"
        )
        await call(connection)
        assert wire.requests[0].fields["authorization"] == "Basic bWU6aHVudGVyMg=="
        assert "hunter2" not in wire.requests[0].target
        assert "bWU6aHVudGVyMg" not in repr(parse_endpoint("http://me:hunter2@127.0.0.1/"))
    with closed_port() as closed:
        error = await refused(launcher, provider(f"http://me:hunter2@127.0.0.1:{closed}/mcp"))
    assert "hunter2" not in f"{error} {error.why} {error.fix} {error.data}"


async def test_two_ways_to_sign_in_are_one_too_many(launcher: RemoteLauncher) -> None:
    error = await refused(launcher, provider("http://me:x@h/", headers={"authorization": "Bearer y"}))
    assert "More than one" in error.why


async def test_a_token_that_cannot_be_had_at_the_start_is_told(launcher: RemoteLauncher) -> None:
    with closed_port() as closed:
        auth = ClientCredentials(token_url=f"http://127.0.0.1:{closed}/token", client_id="a", client_secret="hunter2")
        async with serving(echoing) as wire:
            connection = await launcher.launch(provider(wire.url, auth=auth), "time-1", "streamable_http")
            with pytest.raises(Unsent) as raised:
                await call(connection)
            assert raised.value.code == "upstream_auth"
            assert "hunter2" not in f"{raised.value} {raised.value.why}"


# What instances of a provider share


async def test_connections_of_one_provider_share_sockets_and_the_last_one_closes_them(launcher: RemoteLauncher) -> None:
    async with serving(echoing) as wire:
        one, two = await asyncio.gather(
            *(launcher.launch(provider(wire.url), f"time-{n}", "streamable_http") for n in (1, 2))
        )
        for n in range(4):
            await call(one, id=n)
            await call(two, id=n)
        assert wire.connections <= 2
        await one.close()
        assert len((await call(two)).result)
        await two.close()
        await until(lambda: wire.open == 0)
        again = await launcher.launch(provider(wire.url), "time-3", "streamable_http")
        assert len((await call(again)).result)


async def test_a_changed_declaration_gets_sockets_of_its_own(launcher: RemoteLauncher) -> None:
    async with serving(echoing) as wire:
        old = await launcher.launch(provider(wire.url, headers={"X-A": "1"}), "time-1", "streamable_http")
        new = await launcher.launch(provider(wire.url, headers={"X-A": "2"}), "time-2", "streamable_http")
        await call(old)
        await call(new)
        assert wire.connections == 2
        assert [seen.fields["x-a"] for seen in wire.requests] == ["1", "2"]


async def test_closing_the_launcher_closes_every_connection(launcher: RemoteLauncher) -> None:
    async with serving(echoing) as wire:
        connections = [await launcher.launch(provider(wire.url), f"time-{n}", "streamable_http") for n in range(3)]
        await launcher.close()
        await until(lambda: wire.open == 0)
        for connection in connections:
            with pytest.raises(Unsent):
                await call(connection)


def test_the_wires_follow_the_declared_transport() -> None:
    launcher = RemoteLauncher()
    assert launcher.wires(provider("http://h/")) == ("streamable_http", "legacy_sse")
    assert launcher.wires(provider("http://h/", transport="legacy_sse")) == ("legacy_sse",)
    assert launcher.logs("time") == []


# A stranger: the everything server of npm


@contextlib.contextmanager
def everything(node: Node, folder: Path, transport: str, port: int) -> Iterator[str]:
    with running(
        [*node.package("mcp-server-everything"), transport],
        folder / "everything.log",
        env=plain_environment(PORT=str(port)),
    ) as started:
        started.wait_for_port(port)
        yield f"http://127.0.0.1:{port}/{'mcp' if transport == 'streamableHttp' else 'sse'}"


@pytest.mark.node
@pytest.mark.parametrize(("transport", "wire"), [("streamableHttp", "streamable_http"), ("sse", "legacy_sse")])
async def test_a_real_server_is_spoken_to_from_hello_to_goodbye(
    launcher: RemoteLauncher, node: Node, tmp_path: Path, transport: str, wire: str
) -> None:
    with everything(node, tmp_path, transport, free_port()) as url:
        connection = await launcher.launch(provider(url), "time-1", wire)
        heard = Heard(connection)
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = json.loads(bytes((await call(connection, "initialize", encode(hello))).result))
        assert "everything" in answer["serverInfo"]["name"]
        connection.set_version(answer["protocolVersion"])
        await connection.post(notification("notifications/initialized"))
        await connection.listen()
        echo = await call(connection, "tools/call", b'{"name":"echo","arguments":{"message":"h\xc3\xa9"}}', 2)
        assert json.loads(bytes(echo.result))["content"][0]["text"] == "Echo: hé"
        # What it says by itself comes another way than answers do.
        await call(connection, "tools/call", b'{"name":"toggle-simulated-logging","arguments":{}}', 3)
        await heard.until(lambda: any(message.method == "notifications/message" for message in heard.messages))
        long = b'{"name":"trigger-long-running-operation","arguments":{"duration":1,"steps":3},%b}'
        long %= b'"_meta":{"progressToken":4}'
        exchange = await connection.send(Outgoing(id=4, method="tools/call", payload=request(4, "tools/call", long)))
        got = [await asyncio.wait_for(exchange.next(), PATIENCE)]
        while not got[-1].is_response:
            got.append(await asyncio.wait_for(exchange.next(), PATIENCE))
        assert [message.method for message in got].count("notifications/progress") == 3
        assert connection.refused == 0
        await asyncio.wait_for(connection.close(), PATIENCE)


@pytest.mark.node
async def test_a_real_server_that_was_restarted_says_that_our_session_expired(
    launcher: RemoteLauncher, node: Node, tmp_path: Path
) -> None:
    port = free_port()
    with everything(node, tmp_path, "streamableHttp", port) as url:
        connection = await launcher.launch(provider(url), "time-1", "streamable_http")
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await call(connection, "initialize", encode(hello))
        connection.set_version("2025-11-25")
        await connection.post(notification("notifications/initialized"))
        assert len((await call(connection, id=2)).result)
    with everything(node, tmp_path, "streamableHttp", port), pytest.raises(SessionExpired):
        await call(connection, "tools/list", id=3)
