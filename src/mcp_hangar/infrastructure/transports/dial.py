# SPDX-License-Identifier: MIT
"""Opening a socket to a remote provider, and saying in words what went wrong.

Everything here is the cold path: names, addresses, proxies, TLS. `http1.py` only meets sockets that are ready.
Addresses are tried one after the other, each with its share of the time, so a dead IPv6 route does not eat it all.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

P = TypeVar("P", bound=asyncio.BaseProtocol)

_PORTS: Final = {"http": 80, "https": 443}
_MAX_ADDRESSES: Final = 8
_MAX_PROXY_HEAD: Final = 16 * 1024


class DialError(Exception):
    """No socket: `detail` says what happened, `fix` what to do. Neither holds a credential."""

    def __init__(self, detail: str, fix: str) -> None:
        self.detail = detail
        self.fix = fix
        super().__init__(detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to go. `authorization` is what the URL's user information asks for; it is never shown."""

    scheme: str
    host: str
    port: int
    target: str = "/"
    authorization: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_endpoint(url: str) -> Endpoint:
    """Raises `ValueError` with a sentence that does not repeat the URL, which may hold a secret."""
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("the URL holds a blank or a control character")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("the URL must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError("the URL's port is not a number from 1 to 65535") from None
    host = parts.hostname
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError("the URL's host is not a valid name") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii():
        raise ValueError("the URL's path holds characters that must be percent-encoded")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return Endpoint(scheme=parts.scheme, host=host, port=port, target=target, authorization=authorization)


def trust(ca_file: str) -> ssl.SSLContext:
    """What to believe about certificates. Reading the bundle takes tens of milliseconds: call it in a thread, once."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(
    endpoint: Endpoint,
    make: Callable[[], P],
    *,
    tls: ssl.SSLContext | None,
    proxy: Endpoint | None,
    timeout: float,
) -> P:
    """A connected protocol. Raises `DialError`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    sock: socket.socket | None = None
    doing = "proxy" if proxy else "connect"
    try:
        async with asyncio.timeout_at(deadline):
            sock = await _connect(proxy or endpoint, deadline)
            if endpoint.scheme == "https":
                if proxy is not None:
                    await _tunnel(sock, endpoint, proxy)
                doing = "tls"
                _, protocol = await loop.create_connection(make, sock=sock, ssl=tls, server_hostname=endpoint.host)
            else:
                _, protocol = await loop.create_connection(make, sock=sock)
            sock = None
            return protocol
    except DialError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise _certificate_refused(endpoint, error) from None
    except ssl.SSLError as error:
        raise DialError(
            f"TLS with {endpoint.authority} failed: {(error.reason or 'unknown').lower().replace('_', ' ')}",
            "Check that the url's scheme and port are right (https on a plain port fails like this).",
        ) from None
    except TimeoutError:
        step = {"proxy": "the proxy did not answer", "tls": "TLS was not agreed", "connect": "nobody answered"}[doing]
        raise DialError(
            f"connecting to {endpoint.authority} took longer than {timeout:g} s: {step}",
            "Check the address, firewalls and routes between, or raise connect_timeout.",
        ) from None
    except OSError as error:
        where = proxy.authority if proxy is not None and doing == "proxy" else endpoint.authority
        raise DialError(
            f"{where} broke off while connecting: {error.strerror or type(error).__name__}",
            "Check that the url's scheme and port are right and what stands between.",
        ) from None
    finally:
        if sock is not None:
            sock.close()


async def _connect(endpoint: Endpoint, deadline: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a valid name"
        raise DialError(
            f"the name {endpoint.host} could not be resolved (DNS): {reason}",
            "Check the spelling of the host, and that this machine can resolve it.",
        ) from None
    addresses = found[:_MAX_ADDRESSES]
    last: OSError = OSError("no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            share = (deadline - loop.time()) / (len(addresses) - index)
            async with asyncio.timeout(share):
                await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            # TimeoutError is an OSError too: this address is dead, the next may live.
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
    if isinstance(last, TimeoutError):
        raise last
    if isinstance(last, ConnectionRefusedError):
        raise DialError(
            f"{endpoint.authority} refused the connection",
            "Check that the server runs and listens on this port.",
        )
    raise DialError(
        f"{endpoint.authority} cannot be reached: {last.strerror or type(last).__name__}",
        "Check the address, firewalls and routes between.",
    )


async def _tunnel(sock: socket.socket, endpoint: Endpoint, proxy: Endpoint) -> None:
    """HTTP CONNECT. Done on the bare socket, so TLS starts with nothing read ahead."""
    loop = asyncio.get_running_loop()
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target = f"{host}:{endpoint.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await loop.sock_recv(sock, 4096)
        head += piece
        if not piece or len(head) > _MAX_PROXY_HEAD:
            raise DialError(
                f"the proxy {proxy.authority} did not answer CONNECT with HTTP",
                "Check that `proxy` is the address of an HTTP proxy.",
            )
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    status = words[1].decode("latin-1") if len(words) > 1 and words[0].startswith(b"HTTP/1.") else "no status"
    if not (len(status) == 3 and status.startswith("2")):
        fix = "Check the proxy's credentials." if status == "407" else "Check that the proxy allows this destination."
        raise DialError(f"the proxy {proxy.authority} refused to connect to {target}: {status}", fix)
    if not head.endswith(b"\r\n\r\n"):
        raise DialError(
            f"the proxy {proxy.authority} sent data before TLS began", "Check that `proxy` is an HTTP proxy."
        )


def _certificate_refused(endpoint: Endpoint, error: ssl.SSLCertVerificationError) -> DialError:
    code = getattr(error, "verify_code", 0)
    if code in (62, 64):
        return DialError(
            f"the TLS certificate of {endpoint.authority} is for another name",
            "Use the name that stands in the certificate.",
        )
    if code in (9, 10):
        what = "has expired" if code == 10 else "is not valid yet"
        return DialError(
            f"the TLS certificate of {endpoint.authority} {what}",
            "Renew the server's certificate, or check the clock of this machine.",
        )
    if code in (18, 19):
        return DialError(
            f"the TLS certificate of {endpoint.authority} is self-signed and not trusted here",
            "Set ca_file of the provider to the PEM file of its certificate authority.",
        )
    return DialError(
        f"the TLS certificate of {endpoint.authority} is not trusted: {error.verify_message}",
        "Set ca_file of the provider to the PEM file of its certificate authority.",
    )
