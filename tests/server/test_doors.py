# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.server.doors import Doors


def doors(host: str = "127.0.0.1", *, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> Doors:
    return Doors(host=host, port=8000, allowed_hosts=hosts, allowed_origins=origins)


def check(guard: Doors, *lines: tuple[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in lines]
    guard.check({"headers": raw}, dict(raw))


def refusal(guard: Doors, *lines: tuple[str, str]) -> str:
    with pytest.raises(RequestError) as refused:
        check(guard, *lines)
    return refused.value.code


LOOPBACK = ("127.0.0.1", "::1", "localhost")
WILDCARD = ("0.0.0.0", "::")


@pytest.mark.parametrize("bound", [*LOOPBACK, *WILDCARD])
@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LocalHost:8000", "[::1]:8000", "127.0.0.1", "localhost", "[::1]"]
)
def test_loopback_names_are_served_on_loopback_and_on_all_addresses(bound: str, host: str) -> None:
    for _ in range(2):
        check(guard := doors(bound), ("host", host))
        check(guard, ("host", host))


STRANGE = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "127.0.0.1.evil.example:8000",
    "localhost.evil.example",
    "localhost:8001",
    "localhost.",
    "localhost:8000.evil.example",
    "[::1].evil.example",
    "[::1]:8000.evil.example",
    "[::1]evil:8000",
    "127.0.0.1:evil",
    "127.0.0.1:8000:8000",
    "127.1",
    "2130706433",
    "0x7f000001",
    "evil@127.0.0.1:8000",
    "127.0.0.1:8000/x",
    "127.0.0.1, evil.example",
    "",
    " ",
    "\xff",
    "::1",
    "[127.0.0.1]:8000",
    "[::1",
    "rebind.1u.ms:8000",
]


@pytest.mark.parametrize("bound", [*LOOPBACK, *WILDCARD, "192.168.1.5"])
@pytest.mark.parametrize("host", STRANGE)
def test_no_other_name_is_served(bound: str, host: str) -> None:
    guard = doors(bound)
    assert refusal(guard, ("host", host)) == "host_refused"
    assert refusal(guard) == "host_refused", "no Host at all"


@pytest.mark.parametrize("bound", LOOPBACK)
@pytest.mark.parametrize("host", ["192.168.1.5:8000", "10.0.0.1", "[fe80::1]:8000", "0.0.0.0:8000"])
def test_other_addresses_are_not_served_on_loopback(bound: str, host: str) -> None:
    assert refusal(doors(bound), ("host", host)) == "host_refused"


@pytest.mark.parametrize("bound", WILDCARD)
@pytest.mark.parametrize("host", ["192.168.1.5:8000", "10.0.0.1", "[fe80::1]:8000", "[2001:db8::1]", "10.0.0.1:80"])
def test_any_address_is_served_on_all_addresses(bound: str, host: str) -> None:
    check(doors(bound), ("host", host))


def test_a_bound_address_serves_itself_only() -> None:
    check(doors("192.168.1.5"), ("host", "192.168.1.5:8000"))
    check(doors("2001:db8::1"), ("host", "[2001:db8::1]:8000"))
    assert refusal(doors("192.168.1.5"), ("host", "localhost:8000")) == "host_refused"
    assert refusal(doors("192.168.1.5"), ("host", "192.168.1.6:8000")) == "host_refused"


def test_allowed_hosts_are_served_with_and_without_the_port() -> None:
    guard = doors(hosts=("Tools.Example", "proxy.example:8443"))
    for host in ("tools.example", "TOOLS.example:8000", "proxy.example:8443"):
        check(guard, ("host", host))
    for host in ("tools.example:9", "proxy.example", "x.tools.example", "tools.example.evil"):
        assert refusal(guard, ("host", host)) == "host_refused"


@pytest.mark.parametrize(
    "origin", ["http://localhost:8000", "http://127.0.0.1:8000", "https://[::1]:8000", "HTTP://LOCALHOST:8000"]
)
def test_our_own_pages_may_call(origin: str) -> None:
    check(doors(), ("host", "localhost:8000"), ("origin", origin))


@pytest.mark.parametrize("bound", [*LOOPBACK, *WILDCARD])
@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://localhost",
        "http://[::1]",
        "http://localhost:3000",
        "http://evil.example",
        "http://evil.example:8000",
        "http://localhost:8000.evil.example",
        "http://localhost:8000@evil.example",
        "file://localhost:8000",
        "localhost:8000",
        "http://localhost:8000/",
        "chrome-extension://localhost:8000",
        "http://192.168.1.9:8000",
    ],
)
def test_pages_from_elsewhere_may_not(bound: str, origin: str) -> None:
    assert refusal(doors(bound), ("host", "localhost:8000"), ("origin", origin)) == "origin_refused"


def test_allowed_origins_are_exact() -> None:
    guard = doors(origins=("https://App.example/", "vscode-webview://abc"))
    for origin in ("https://app.example", "vscode-webview://abc"):
        check(guard, ("host", "localhost"), ("origin", origin))
    for origin in (
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil",
        "https://x.app.example",
    ):
        assert refusal(guard, ("host", "localhost"), ("origin", origin)) == "origin_refused"


@pytest.mark.parametrize(
    "name",
    ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "authorization", "host", "origin"],
)
def test_a_header_that_decides_may_come_once(name: str) -> None:
    assert refusal(doors(), ("host", "localhost"), (name, "localhost"), (name, "localhost")) == "header_mismatch"


def test_other_headers_may_come_twice() -> None:
    check(doors(), ("host", "localhost"), ("accept", "a"), ("accept", "b"))


def test_what_was_let_in_once_is_bounded_in_memory_and_never_lets_in_another() -> None:
    guard = doors("::")
    for number in range(1000):
        check(guard, ("host", f"10.0.{number // 250}.{number % 250}"))
    assert len(guard._good) <= 256
    assert refusal(guard, ("host", "evil.example")) == "host_refused"
