# SPDX-License-Identifier: MIT
"""A provider as declared: how to run or reach it, and the bounds it lives in. Frozen, replaced whole."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Mode(enum.StrEnum):
    subprocess = "subprocess"
    remote = "remote"


class Sharing(enum.StrEnum):
    """What of the upstream's state calls may share (config key `sessions`)."""

    per_session = "per_session"
    per_caller = "per_caller"
    shared = "shared"


class Protocol(enum.StrEnum):
    """Which era to speak to the provider; `auto` asks it."""

    auto = "auto"
    modern = "modern"
    legacy = "legacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds: the first wait and the longest; each failure doubles it, with full jitter."""

    first: float = 1.0
    longest: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """Seconds."""

    start_timeout: float = 30.0
    idle_ttl: float = 300.0
    """0: never stopped for being idle."""
    stop_grace: float = 10.0
    restart: Backoff = Backoff()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """`interval` and `timeout` in seconds (interval 0: none); the rest count consecutive answers."""

    interval: float = 30.0
    timeout: float = 5.0
    unhealthy_after: int = 3
    healthy_after: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    concurrency: int = 32
    """Calls in flight per instance; over it the call is refused at once."""
    call_timeout: float = 60.0
    """Seconds."""
    message_bytes: int = 16 * 1024 * 1024
    instances: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRules:
    """Globs. Deny wins; an empty allow means all. `idempotent`: may be sent again after a failure."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    idempotent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """OAuth 2 client credentials for a remote provider. Secrets are plain here and masked wherever shown."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubprocessLaunch:
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict, repr=False)
    cwd: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLaunch:
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    auth: ClientCredentials | None = None
    proxy: str = ""
    """`http://host:port` of an HTTP proxy, or empty: go there directly."""
    ca_file: str = ""
    """PEM bundle to trust instead of the system's."""
    transport: str = "auto"
    """`auto`, `streamable_http` or `legacy_sse`."""
    connect_timeout: float = 10.0
    first_byte_timeout: float = 0.0
    """Seconds until the response head must have come; 0: bounded by call_timeout only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    name: str
    mode: Mode
    launch: SubprocessLaunch | RemoteLaunch
    sharing: Sharing
    protocol: Protocol = Protocol.auto
    tools: ToolRules = ToolRules()
    lifecycle: Lifecycle = Lifecycle()
    health: HealthCheck = HealthCheck()
    limits: Limits = Limits()
    description: str = ""

    @property
    def unenforced(self) -> tuple[str, ...]:
        """What nothing enforces for this mode; shown in status, and told as `capability.unenforced`."""
        if self.mode is Mode.subprocess:
            return ("network", "filesystem", "resources", "operator_plane")
        return ("network", "filesystem", "resources")
