# SPDX-License-Identifier: MIT
"""What one key alone cannot tell: settings that contradict each other, can never take effect, or leave a door open."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from mcp_hangar.domain.provider import Limits
from mcp_hangar.server.config.glob_overlap import Globs
from mcp_hangar.server.config.schema import (
    PROVIDER_NAME,
    REMOTE_KEYS,
    SUBPROCESS_KEYS,
    ConfigFile,
    ProviderSection,
)
from mcp_hangar.server.config.text import Document, KeyPath, shorten
from mcp_hangar.server.config.values import is_loopback, parse_address

OWN_HEADERS: Final = frozenset({
    "host", "connection", "keep-alive", "transfer-encoding", "content-length", "content-type", "content-encoding",
    "accept", "accept-encoding", "te", "trailer", "upgrade", "expect", "proxy-authorization", "proxy-connection",
    "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id", "traceparent", "tracestate",
})  # fmt: skip
"""Hangar writes these itself, per request."""

Sound = Callable[..., bool]


class Finding(NamedTuple):
    path: KeyPath
    """The key (or list entry) it stands at."""
    what: str
    fix: str
    code: str = "config_conflict"


def check(document: Document, file: ConfigFile, *, unsafe_no_auth: bool) -> None:
    """Adds to the document's problems what does not fit together, leaving out what follows from broken values."""
    for found in _findings(document, file, unsafe_no_auth=unsafe_no_auth):
        document.refuse(document.span(found.path), found.what, found.fix, found.code)


def _findings(document: Document, file: ConfigFile, *, unsafe_no_auth: bool) -> Iterator[Finding]:
    def sound(*path: str | int) -> bool:
        """Nothing at, above or below this path is broken, so that its value is the one in the file."""
        return not any(path[: len(one)] == one or one[: len(path)] == path for one in document.broken)

    yield from _server(sound, file, unsafe_no_auth=unsafe_no_auth)
    names = document.data.get("providers")
    if isinstance(names, dict):
        for name in names:
            yield from _name(str(name))
        if len(names) > 1 and file.expose.prefix == "never":
            what = "prefix 'never' is possible only with one provider"
            yield Finding(("expose", "prefix"), what, "Write 'always', or keep one provider")
        for name, provider in file.providers.items():
            yield from _provider(sound, file, names[name], name, provider)
    if file.events.durability == "strict":
        yield Finding(
            ("events", "durability"),
            "durability 'strict' needs a durable event store, and there is none",
            "Remove it, or install an extension that brings one",
        )
    audit = file.audit
    if sound("audit", "sink") and "rotate" in audit.model_fields_set and not audit.sink.startswith(("/", "~")):
        yield Finding(
            ("audit", "rotate"),
            f"'rotate' has no effect with sink '{audit.sink}'",
            "Remove it, or name a file as the sink",
        )


def _server(sound: Sound, file: ConfigFile, *, unsafe_no_auth: bool) -> Iterator[Finding]:
    server = file.server
    host, port = parse_address(server.listen)
    open_door = not is_loopback(host) and not server.token and not unsafe_no_auth
    if open_door and sound("server", "token") and sound("server", "listen"):
        yield Finding(
            ("server", "listen"),
            "listening off loopback without a token would let everyone in who can reach it",
            "Set server.token, listen on 127.0.0.1, or start with --unsafe-no-auth",
            "config_open_door",
        )
    if server.token and server.token == server.admin_token:
        yield Finding(
            ("server", "admin_token"),
            "admin_token equals token, so agents could change what governs them",
            "Make another with `openssl rand -hex 32`",
        )
    if server.admin_listen and server.admin_listen == server.listen and port:
        yield Finding(
            ("server", "admin_listen"),
            "'admin_listen' is the same address as 'listen'",
            "Remove it, or choose another port",
        )
    limits = server.limits
    given = "sessions_per_caller" in limits.model_fields_set and sound("server", "limits")
    if given and limits.sessions_per_caller > limits.sessions:
        what = f"'sessions_per_caller' can never be reached, since 'sessions' is {limits.sessions}"
        yield Finding(("server", "limits", "sessions_per_caller"), what, "Lower it, or raise 'sessions'")


def _name(name: str) -> Iterator[Finding]:
    if name == "hangar":
        yield Finding(
            ("providers", name),
            "the name 'hangar' is reserved for Hangar's own tools",
            "Choose another name",
            "config_value",
        )
    elif not re.fullmatch(PROVIDER_NAME, name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789")[:32].rstrip("-")
        fix = f"Did you mean '{better}'?" if better and better != "hangar" else "Choose another name"
        what = (
            f"'{shorten(name)}' cannot be a provider's name: "
            "lower-case letters, digits and '-', beginning with a letter, at most 32"
        )
        yield Finding(("providers", name), what, fix, "config_value")


def _provider(
    sound: Sound, file: ConfigFile, given: Mapping[str, object], name: str, provider: ProviderSection
) -> Iterator[Finding]:
    path = ("providers", name)
    foreign, needed = (REMOTE_KEYS, "command") if provider.mode == "subprocess" else (SUBPROCESS_KEYS, "url")
    other = "remote" if provider.mode == "subprocess" else "subprocess"
    for key in foreign:
        if key in given:
            what = f"'{key}' is for mode {other}, and '{name}' is {provider.mode}"
            yield Finding((*path, key), what, f"Remove it, or write 'mode: {other}'")
    if needed not in given:
        example = "command: [uvx, mcp-server-time]" if needed == "command" else "url: https://mcp.example.com/mcp"
        yield Finding(
            path, f"'{needed}' is missing in provider '{name}'", f"Add it, such as '{example}'", "config_missing_key"
        )
    if provider.command and not provider.command[0].strip():
        yield Finding(
            (*path, "command", 0),
            "the program's name is empty",
            "Write the program first, then its arguments",
            "config_value",
        )
    yield from _environment(path, provider)
    yield from _headers(path, provider)
    yield from _tools((*path, "tools"), provider)
    if provider.ca_file and provider.url.startswith("http://"):
        yield Finding((*path, "ca_file"), "'ca_file' has no effect without TLS", "Remove it, or use an https URL")
    if provider.transport == "legacy_sse" and provider.protocol == "modern":
        yield Finding((*path, "protocol"), "the modern protocol has no transport 'legacy_sse'", "Remove one of the two")
    whole = Limits().call_timeout
    for section in (file.defaults, provider):
        whole = section.limits.call_timeout if "call_timeout" in section.limits.model_fields_set else whole
    if provider.first_byte_timeout > whole and sound(*path, "limits") and sound("defaults"):
        what = f"'first_byte_timeout' can never be reached: limits.call_timeout ends the call after {whole:g} s"
        yield Finding((*path, "first_byte_timeout"), what, "Lower it, or raise limits.call_timeout")


def _environment(path: KeyPath, provider: ProviderSection) -> Iterator[Finding]:
    for name in provider.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            yield Finding(
                (*path, "env", name),
                f"'{shorten(name)}' cannot be a variable's name",
                "Use letters, digits and '_'",
                "config_value",
            )


def _headers(path: KeyPath, provider: ProviderSection) -> Iterator[Finding]:
    seen: set[str] = set()
    for name in provider.headers:
        at, lower = (*path, "headers", name), name.lower()
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name, re.ASCII):
            yield Finding(
                at, f"'{shorten(name)}' cannot be a header's name", "Use letters, digits and '-'", "config_value"
            )
        elif lower in OWN_HEADERS:
            yield Finding(at, f"the header {name} is written by Hangar itself", "Remove it", "config_value")
        elif lower in seen:
            yield Finding(at, f"the header {name} is given twice, in other letters", "Keep one of the two")
        elif lower == "authorization" and provider.auth is not None:
            yield Finding(at, f"the header {name} and 'auth' exclude each other", "Keep one of the two")
        seen.add(lower)


def _tools(path: KeyPath, provider: ProviderSection) -> Iterator[Finding]:
    tools = provider.tools
    allowed, denied = Globs(tools.allow), Globs(tools.deny)
    for index, glob in enumerate(tools.allow):
        if denied.cover(glob):
            what = f"'{glob}' can never allow anything: 'deny' covers it"
            yield Finding((*path, "allow", index), what, "Remove it, or narrow 'deny'")
    for index, glob in enumerate(tools.idempotent):
        if denied.cover(glob):
            yield Finding(
                (*path, "idempotent", index),
                f"'{glob}' can never match: 'deny' covers it",
                "Remove it, or narrow 'deny'",
            )
        elif tools.allow and not allowed.meet(glob):
            yield Finding(
                (*path, "idempotent", index),
                f"'{glob}' can never match: 'allow' lets no such name through",
                "Remove it, or widen 'allow'",
            )
