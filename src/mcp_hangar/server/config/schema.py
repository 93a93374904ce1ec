# SPDX-License-Identifier: MIT
"""What a configuration file may say: every key with its type, default and meaning.

The one place where a key is declared. Validation, the JSON Schema for editors, `docs/reference/config.md` and the check
that `docs/reference/hangar.yaml` is complete all read these classes. The forms of single values are in
`values.py`, what involves more than one key in `checks.py`; how keys become the values that the house is
built from is in `config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_hangar.domain import provider as domain
from mcp_hangar.server.config.text import KeyPath
from mcp_hangar.server.config.values import (
    Address,
    AdminAddress,
    BackoffRange,
    Count,
    Duration,
    FilePath,
    Glob,
    HeaderValue,
    HostName,
    Key,
    Origin,
    Proxy,
    Sink,
    Size,
    Text,
    Token,
    Url,
)

PROVIDER_NAME: Final = r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?"

SECRETS: Final = (
    ("server", "token"),
    ("server", "admin_token"),
    ("server", "session_key"),
    ("audit", "hash_key"),
    ("providers", "*", "env", "*"),
    ("providers", "*", "headers", "*"),
    ("providers", "*", "auth", "client_credentials", "client_secret"),
)
"""Keys whose values are never shown, in no message, whatever their origin."""

LATER: Final = frozenset({
    "groups", "policies", "license", "telemetry", "discovery", "respond", "server.user",
    "providers.*.capabilities", "providers.*.enforcement", "providers.*.breaker", "providers.*.truncation",
    "providers.*.image", "providers.*.port", "providers.*.limits.queue", "providers.*.lifecycle.adopt_within",
    "defaults.breaker", "defaults.truncation", "defaults.enforcement", "defaults.limits.queue",
    "defaults.lifecycle.adopt_within",
})  # fmt: skip
"""Keys that Hangar will have. Until they work they are refused: a control that is not enforced is worse than none."""

MODES_LATER: Final = ("docker", "kubernetes")

ELSEWHERE: Final = {
    "args": "Put the arguments into 'command', as in [uvx, mcp-server-time]",
    "environment": "The key is 'env'",
    "type": "The key is 'mode' (subprocess or remote)",
    "mcp_servers": "The key is 'providers'",
    "mcpservers": "The key is 'providers'",
    "servers": "The key is 'providers'",
    "host": "Write it as 'listen', such as 127.0.0.1:8000",
    "port": "Write it as part of 'listen', such as 127.0.0.1:8000",
}
"""Keys that people know from other programs."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class ServerLimitsSection(Section):
    """What the listener takes at most."""

    body_bytes: Size = Field(default=4 * 1024**2, ge=1024, description="The largest request body.")
    header_bytes: Size = Field(
        default=32 * 1024, ge=1024, description="The largest head of a request: all header lines together."
    )
    depth: Count = Field(default=64, ge=8, le=1000, description="How deep a message's JSON may nest.")
    sessions: Count = Field(default=10_000, ge=1, description="Open sessions, of all callers together.")
    sessions_per_caller: Count = Field(
        default=100, ge=1, description="Open sessions of one caller. Requests without credentials are all one caller."
    )
    parked: Count = Field(
        default=1000, ge=1, description="Calls that wait for an answer from their client (elicitation, sampling)."
    )
    batch: Count = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Calls in one hangar_invoke, messages in one JSON-RPC batch (2025-03-26).",
    )
    streams: Count = Field(default=50, ge=1, le=10_000, description="Readers of the live stream of events.")
    stream_lag: Count = Field(
        default=10_000,
        ge=100,
        description="Events that may wait for one reader of the stream. One that is slower is dropped; it can resume.",
    )


class ServerSection(Section):
    """The listener, and who may come in."""

    listen: Address = Field(
        default="127.0.0.1:8000",
        description="Address and port. Port 0 takes a free one. Off loopback a token is needed.",
    )
    token: Token = Field(default="", description="Agents must send it as `Authorization: Bearer`. Needed off loopback.")
    admin_token: Token = Field(
        default="", description="Opens the operator plane (REST, status). Made in state.dir if not given."
    )
    admin_listen: AdminAddress = Field(
        default="",
        description="Moves the operator plane to an address and port of its own, or to a Unix socket (unix:/path).",
    )
    allowed_hosts: list[HostName] = Field(
        default=[], description="Names accepted in the Host header, beside the bound address."
    )
    allowed_origins: list[Origin] = Field(default=[], description="Web origins whose pages may call.")
    session_key: Key = Field(
        default="",
        description=(
            "Seals what clients carry for Hangar (session ids, request state): 32 bytes in hex or base64. Made at "
            "each start if not given."
        ),
    )
    session_idle: Duration = Field(default=1800.0, gt=0, description="A session that is silent for so long ends.")
    limits: ServerLimitsSection = Field(default=ServerLimitsSection(), description="What the listener takes at most.")


class StateSection(Section):
    """What a restart must not forget."""

    dir: FilePath = Field(
        default="~/.local/state/hangar",
        description="The folder for it. A relative path starts at the configuration file.",
    )


class RestartSection(Section):
    """After a failure."""

    backoff: BackoffRange = Field(
        default=domain.Backoff(),
        description="The wait after the first failed start and the longest one; it doubles with each failure.",
    )


class LifecycleSection(Section):
    """When a provider starts and stops."""

    start_timeout: Duration = Field(
        default=domain.Lifecycle().start_timeout,
        gt=0,
        description="How long a start may take, until the provider answers.",
    )
    idle_ttl: Duration = Field(
        default=domain.Lifecycle().idle_ttl, description="An instance without calls for so long is stopped. 0: never."
    )
    stop_grace: Duration = Field(
        default=domain.Lifecycle().stop_grace,
        description="How long a process has to end by itself before it is killed.",
    )
    restart: RestartSection = Field(default=RestartSection(), description="After a failure.")


class HealthSection(Section):
    """How a running provider is watched."""

    interval: Duration = Field(
        default=domain.HealthCheck().interval, description="Between two questions. 0: none are asked."
    )
    timeout: Duration = Field(
        default=domain.HealthCheck().timeout, gt=0, description="How long the provider has to answer one."
    )
    unhealthy_after: Count = Field(
        default=domain.HealthCheck().unhealthy_after,
        ge=1,
        le=1000,
        description="So many failures in a row make it degraded.",
    )
    healthy_after: Count = Field(
        default=domain.HealthCheck().healthy_after,
        ge=1,
        le=1000,
        description="So many answers in a row make it ready again.",
    )


class LimitsSection(Section):
    """What one provider may take."""

    concurrency: Count = Field(
        default=domain.Limits().concurrency,
        ge=1,
        description="Calls in flight per instance. One more is refused at once.",
    )
    call_timeout: Duration = Field(
        default=domain.Limits().call_timeout, gt=0, description="How long one call may take."
    )
    message_bytes: Size = Field(
        default=domain.Limits().message_bytes, ge=1024, description="The largest message accepted from the provider."
    )
    instances: Count = Field(
        default=domain.Limits().instances,
        ge=1,
        description="Instances (processes, or upstream sessions) at the same time.",
    )


class ToolsSection(Section):
    """Which tools may be called. A denied one is not listed either, and never starts the provider."""

    allow: list[Glob] = Field(
        default=[], min_length=1, description="Patterns (* and ?) of names. Without it all are allowed."
    )
    deny: list[Glob] = Field(default=[], description="Patterns of names that are refused. Wins over allow.")
    idempotent: list[Glob] = Field(
        default=[], description="Patterns of names that may be sent again after a failure, because twice does no harm."
    )


class ClientCredentialsSection(Section):
    """OAuth 2 client credentials."""

    token_url: Url = Field(description="Where Hangar asks for a token.")
    client_id: Text = Field(min_length=1, description="Who Hangar is there.")
    client_secret: Text = Field(min_length=1, description="Its secret there.")
    scope: Text = Field(default="", description="Scopes to ask for, with blanks between.")
    resource: Text = Field(default="", description="The resource the token is for (RFC 8707).")


class AuthSection(Section):
    """How Hangar proves itself to a remote provider."""

    client_credentials: ClientCredentialsSection = Field(description="OAuth 2 client credentials.")


class ProviderSection(Section):
    """An MCP server that Hangar runs (mode subprocess) or reaches (mode remote)."""

    mode: Literal["subprocess", "remote"] = Field(
        description="subprocess: Hangar starts it and speaks over stdin and stdout. remote: it has a URL."
    )
    command: list[Text] = Field(
        default=[],
        min_length=1,
        description="Program and arguments (subprocess). Nothing is filled in here: it shows in the list of processes.",
    )
    env: dict[str, Text] = Field(
        default={},
        description=(
            "Environment (subprocess), beside a short safe list (PATH, HOME, LANG, …). Nothing else is inherited."
        ),
    )
    cwd: FilePath = Field(
        default="", description="Working directory (subprocess). A relative path starts at the configuration file."
    )
    url: Url = Field(default="", description="Where it is (remote).")
    headers: dict[str, HeaderValue] = Field(default={}, description="Headers sent with each request (remote).")
    auth: AuthSection | None = Field(default=None, description="Credentials that are fetched (remote).")
    proxy: Proxy = Field(
        default="",
        description="HTTP proxy, as http://host:port (remote). The environment's proxy settings are not used.",
    )
    ca_file: FilePath = Field(default="", description="PEM bundle to trust instead of the system's (remote, https).")
    transport: Literal["auto", "streamable_http", "legacy_sse"] = Field(
        default="auto", description="The wire (remote). auto tries Streamable HTTP, then HTTP+SSE of 2024-11-05."
    )
    connect_timeout: Duration = Field(default=10.0, gt=0, description="For a connection, TLS included (remote).")
    first_byte_timeout: Duration = Field(
        default=0.0, description="Until the head of a response (remote). 0: only limits.call_timeout counts."
    )
    protocol: Literal["auto", "modern", "legacy"] = Field(
        default="auto", description="The era of MCP it speaks. auto asks it."
    )
    sessions: Literal["per_session", "per_caller", "shared"] | None = Field(
        default=None,
        description=(
            "What calls may share of its state: per_session (default for remote), per_caller (default for subprocess), "
            "or shared, only for a provider that keeps no state."
        ),
    )
    tools: ToolsSection = Field(default=ToolsSection(), description="Which tools may be called.")
    description: Text = Field(default="", max_length=1000, description="For people: shown in status and hangar_tools.")
    lifecycle: LifecycleSection = Field(
        default=LifecycleSection(), description="When it starts and stops. What is not given here comes from defaults."
    )
    health: HealthSection = Field(
        default=HealthSection(), description="How it is watched. What is not given here comes from defaults."
    )
    limits: LimitsSection = Field(
        default=LimitsSection(), description="What it may take. What is not given here comes from defaults."
    )


class ExposeSection(Section):
    """What clients see at /mcp."""

    prefix: Literal["always", "never"] = Field(
        default="always", description="Names as {provider}__{name}; never only with one provider."
    )
    hangar_tools: Literal["none", "read", "all"] = Field(
        default="read",
        description="Hangar's own tools: none, those that read and call, or also those that start and stop.",
    )
    list_timeout: Duration = Field(
        default=5.0, description="How long a list waits for providers that are not known yet."
    )


class DefaultsSection(Section):
    """Merged into each provider; the provider's own keys win."""

    lifecycle: LifecycleSection = Field(default=LifecycleSection(), description="When providers start and stop.")
    health: HealthSection = Field(default=HealthSection(), description="How they are watched.")
    limits: LimitsSection = Field(default=LimitsSection(), description="What each may take.")


class EventsSection(Section):
    """The record of what happened."""

    backlog_bytes: Size = Field(default=64 * 1024**2, ge=64 * 1024, description="Events that wait to be written.")
    keep: Size = Field(default=64 * 1024**2, ge=64 * 1024, description="The newest events, kept in memory for views.")
    on_overflow: Literal["refuse", "drop"] = Field(
        default="refuse", description="With a full backlog: refuse calls, or drop events (counted and told)."
    )
    durability: Literal["default", "strict"] = Field(
        default="default",
        description="strict (on disk before the call is forwarded) needs a durable store, which core has not.",
    )


class RotateSection(Section):
    """When the audit file is set aside."""

    bytes: Size = Field(default=100 * 1024**2, ge=64 * 1024, description="At this size.")
    keep: Count = Field(default=5, ge=1, le=1000, description="How many old files are kept.")


class AuditSection(Section):
    """Where the record is written."""

    sink: Sink = Field(
        default="stdout",
        description="stdout (stderr with --stdio), stderr, none, or a file's absolute path. JSON lines.",
    )
    arguments: Literal["hash", "preview", "full", "none"] = Field(
        default="hash",
        description=(
            "What is written of arguments: a keyed hash; also a redacted preview; all of them, as they came; nothing."
        ),
    )
    hash_key: Key = Field(
        default="", description="The key of the hash: 32 bytes in hex or base64. Made in state.dir if not given."
    )
    rotate: RotateSection = Field(default=RotateSection(), description="When the audit file is set aside.")


class ConfigFile(Section):
    """The configuration of MCP Hangar, hangar.yaml."""

    version: Literal[1] = Field(description="The version of this format.")
    server: ServerSection = Field(default=ServerSection(), description="The listener, and who may come in.")
    state: StateSection = Field(default=StateSection(), description="What a restart must not forget.")
    providers: dict[str, ProviderSection] = Field(
        default={},
        description=(
            "The MCP servers, each under its name: lower-case letters, digits and '-', beginning with a letter, "
            "at most 32. `hangar` is reserved."
        ),
    )
    expose: ExposeSection = Field(default=ExposeSection(), description="What clients see at /mcp.")
    defaults: DefaultsSection = Field(
        default=DefaultsSection(), description="Merged into each provider; the provider's own keys win."
    )
    events: EventsSection = Field(default=EventsSection(), description="The record of what happened.")
    audit: AuditSection = Field(default=AuditSection(), description="Where the record is written.")


SUBPROCESS_KEYS: Final = ("command", "env", "cwd")
REMOTE_KEYS: Final = (
    "url",
    "headers",
    "auth",
    "proxy",
    "ca_file",
    "transport",
    "connect_timeout",
    "first_byte_timeout",
)


def is_secret(path: KeyPath) -> bool:
    """Also true for what stands inside a secret, and for the whole of a table of secrets."""
    return any(
        _fits(path[: len(secret)], secret) or (secret[-1] == "*" and _fits(path, secret[:-1])) for secret in SECRETS
    )


_LADEN: Final = ("url", "token_url", "proxy")
"""Addresses in which people put credentials, though there are better places."""


def is_open(path: KeyPath) -> bool:
    """True where a plain value is known to stand that may be shown."""
    path = path[:-1] if path and isinstance(path[-1], int) else path
    section = section_at(path[:-1]) if path else None
    known = section is not None and str(path[-1]) in section.model_fields and section_at(path) is None
    return known and path != ("providers",) and path[-1] not in _LADEN and not is_secret(path)


def is_later(path: KeyPath) -> bool:
    return any(_fits(path, tuple(key.split("."))) for key in LATER)


def _fits(path: KeyPath, pattern: tuple[str, ...]) -> bool:
    return len(path) == len(pattern) and all(want in ("*", have) for have, want in zip(path, pattern, strict=True))


def section_at(path: KeyPath) -> type[Section] | None:
    """The section that stands at a path of the file; None where a plain value, or nothing, does."""
    section: type[Section] | None = ConfigFile
    inside_names = False
    for part in path:
        if section is None:
            return None
        if inside_names:
            inside_names = False
            continue
        field = section.model_fields.get(str(part))
        if field is None:
            return None
        inside_names = section is ConfigFile and part == "providers"
        section = _section_of(field.annotation)
    return None if inside_names else section


def _section_of(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = [_section_of(part) for part in getattr(annotation, "__args__", ())]
    return next((section for section in inner if section), None)


def known_keys(section: type[Section] = ConfigFile, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the file, with `*` for a provider's name, sections before what they hold."""
    for name, field in section.model_fields.items():
        path = (*at, name)
        yield path
        inner = _section_of(field.annotation)
        if inner:
            yield from known_keys(inner, (*path, "*") if inner is ProviderSection else path)
