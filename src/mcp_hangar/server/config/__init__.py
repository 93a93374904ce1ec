# SPDX-License-Identifier: MIT
"""From hangar.yaml to the values that the house is built from: found, read, checked whole, then frozen.

Text and places are `text.py`, what a key may say `schema.py`, what keys may say together
`checks.py`. All problems come in one `ConfigError`, each with its place and a fix; a configuration is either
whole or not used.
"""

from __future__ import annotations

import hashlib
import io
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from mcp_hangar.domain.errors import ConfigError, ConfigProblem
from mcp_hangar.domain.provider import (
    ClientCredentials,
    HealthCheck,
    Lifecycle,
    Limits,
    Mode,
    Protocol,
    Provider,
    RemoteLaunch,
    Sharing,
    SubprocessLaunch,
    ToolRules,
)
from mcp_hangar.server.config.checks import check
from mcp_hangar.server.config.json_schema import json_schema
from mcp_hangar.server.config.problems import validated
from mcp_hangar.server.config.schema import (
    REMOTE_KEYS,
    SUBPROCESS_KEYS,
    ConfigFile,
    ProviderSection,
    Section,
    is_secret,
    section_at,
)
from mcp_hangar.server.config.text import MASK, Document, KeyPath, expand_home, read_document, read_text
from mcp_hangar.server.config.values import parse_address, parse_key

__all__ = [
    "AuditSettings", "EventSettings", "Expose", "ServerLimits", "ServerSettings", "Settings",
    "find_config", "json_schema", "load", "show",
]  # fmt: skip

SHORTEST_SECRET = 8
"""Shorter values are not looked for in other texts: masking every `1` or `UTC` would hide more than it protects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    body_bytes: int = 4 * 1024 * 1024
    header_bytes: int = 32 * 1024
    depth: int = 64
    sessions: int = 10_000
    sessions_per_caller: int = 100
    parked: int = 1000
    batch: int = 50
    streams: int = 50
    stream_lag: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Empty tokens and keys: none was given."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = field(default="", repr=False)
    admin_token: str = field(default="", repr=False)
    admin_listen: str = ""
    """`host:port` or `unix:/path`; empty: the operator plane shares the listener."""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    session_key: bytes = field(default=b"", repr=False)
    """32 bytes, or empty."""
    session_idle: float = 1800.0
    """Seconds."""
    limits: ServerLimits = ServerLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose:
    prefix: Literal["always", "never"] = "always"
    hangar_tools: Literal["none", "read", "all"] = "read"
    list_timeout: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    backlog_bytes: int = 64 * 1024 * 1024
    keep: int = 64 * 1024 * 1024
    on_overflow: Literal["refuse", "drop"] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    sink: str = "stdout"
    """`stdout`, `stderr`, `none`, or the absolute path of a file."""
    arguments: Literal["hash", "preview", "full", "none"] = "hash"
    hash_key: bytes = field(default=b"", repr=False)
    """32 bytes, or empty."""
    rotate_bytes: int = 100 * 1024 * 1024
    rotate_keep: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    file: Path
    digest: str
    """SHA-256 of the file as it is written: no secret that was filled in has a part in it."""
    state_dir: Path
    server: ServerSettings = ServerSettings()
    providers: dict[str, Provider] = field(default_factory=dict)
    expose: Expose = Expose()
    events: EventSettings = EventSettings()
    audit: AuditSettings = AuditSettings()
    unsafe_no_auth: bool = field(default=False, compare=False)
    """Whoever started Hangar accepts a listener off loopback without a token."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that no text may show: those of secret keys and all that was filled in, short ones aside."""
    shown: Mapping[str, Any] = field(default_factory=lambda: types.MappingProxyType({}), repr=False, compare=False)
    """The effective configuration as plain data with secrets masked: what `show` prints."""


def find_config(explicit: str | None, env: Mapping[str, str], cwd: Path, home: Path) -> Path:
    """The configuration to use: `--config`, then HANGAR_CONFIG, ./hangar.yaml, ~/.config/hangar/hangar.yaml."""
    for source, name in (("--config", explicit), ("HANGAR_CONFIG", env.get("HANGAR_CONFIG"))):
        if name:
            chosen = cwd / expand_home(name, env)
            if chosen.is_file():
                # As it was given: that is how messages should name it.
                return Path(expand_home(name, env))
            fix = f"Check {source}; it is looked for from {cwd}."
            raise ConfigError(
                [ConfigProblem(code="config_missing", file=name, what=f"there is no such file ({source}).", fix=fix)]
            )
    places = (cwd / "hangar.yaml", home / ".config" / "hangar" / "hangar.yaml")
    for place in places:
        if place.is_file():
            return Path("hangar.yaml") if place == places[0] and cwd == Path.cwd() else place
    looked = ", ".join(str(place) for place in places)
    raise ConfigError(
        [
            ConfigProblem(
                what=f"there is no configuration. Looked at --config and HANGAR_CONFIG (not given), {looked}.",
                fix="Write one with `hangar init`, or name one with --config.",
                code="config_missing",
            )
        ]
    )


def load(path: Path, env: Mapping[str, str], *, unsafe_no_auth: bool = False) -> Settings:
    """The settings in a file, whole; `ConfigError` with every problem otherwise."""
    shown = str(path)
    text = read_text(path, shown)
    document = read_document(text, shown, env)
    file = validated(document)
    check(document, file, unsafe_no_auth=unsafe_no_auth)
    if document.problems:
        raise ConfigError(sorted(set(document.problems), key=lambda problem: (problem.line, problem.column)))
    where = path.absolute()
    merged = file.model_copy(update={"providers": {name: _merged(file, one) for name, one in file.providers.items()}})
    built = _Builder(where, env, document, merged).settings(hashlib.sha256(text.encode()).hexdigest())
    return replace(built, unsafe_no_auth=unsafe_no_auth)


def show(settings: Settings) -> str:
    """The effective configuration as YAML: defaults filled in, secrets masked."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 10**6
    yaml.allow_unicode = True
    out = io.StringIO()
    yaml.dump(_escaped(dict(settings.shown)), out)
    return out.getvalue()


def _escaped(value: Any) -> Any:
    """So that a plain `${` is read as such again."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


_SECTIONS = ("lifecycle", "health", "limits")
_FOREIGN: Mapping[str, tuple[str, ...]] = {"subprocess": REMOTE_KEYS, "remote": SUBPROCESS_KEYS}


def _merged(file: ConfigFile, provider: ProviderSection) -> ProviderSection:
    """The provider with `defaults` in all places where it says nothing itself."""
    update: dict[str, Any] = {key: _over(getattr(file.defaults, key), getattr(provider, key)) for key in _SECTIONS}
    if provider.sessions is None:
        update["sessions"] = "per_session" if provider.mode == "remote" else "per_caller"
    return provider.model_copy(update=update)


def _over(lower: Any, upper: Any) -> Any:
    """Two sections of one type, key by key: what the upper one sets, else what the lower one says."""
    given = {}
    for key in upper.model_fields_set:
        ours, theirs = getattr(upper, key), getattr(lower, key)
        given[key] = _over(theirs, ours) if isinstance(ours, Section) else ours
    return lower.model_copy(update=given)


class _Builder:
    """Carries one valid file over to the settings."""

    def __init__(self, where: Path, env: Mapping[str, str], document: Document, file: ConfigFile) -> None:
        self._where = where
        self._env = env
        self._document = document
        self._file = file
        self._secrets = set(document.filled)

    def settings(self, digest: str) -> Settings:
        file = self._file
        host, port = parse_address(file.server.listen)
        server = ServerSettings(
            host=host,
            port=port,
            token=file.server.token,
            admin_token=file.server.admin_token,
            admin_listen=file.server.admin_listen,
            allowed_hosts=tuple(file.server.allowed_hosts),
            allowed_origins=tuple(file.server.allowed_origins),
            session_key=parse_key(file.server.session_key),
            session_idle=file.server.session_idle,
            limits=ServerLimits(**dict(file.server.limits)),
        )
        audit = AuditSettings(
            sink=expand_home(file.audit.sink, self._env),
            arguments=file.audit.arguments,
            hash_key=parse_key(file.audit.hash_key),
            rotate_bytes=file.audit.rotate.bytes,
            rotate_keep=file.audit.rotate.keep,
        )
        shown = self._shown(file.model_dump(mode="json", exclude={"defaults"}), ())
        return Settings(
            file=self._where,
            digest=digest,
            state_dir=Path(self._path(file.state.dir)),
            server=server,
            providers={name: self._provider(name, section) for name, section in file.providers.items()},
            expose=Expose(**dict(file.expose)),
            events=EventSettings(
                backlog_bytes=file.events.backlog_bytes, keep=file.events.keep, on_overflow=file.events.on_overflow
            ),
            audit=audit,
            secrets=frozenset(secret for secret in self._secrets if len(secret) >= SHORTEST_SECRET),
            shown=types.MappingProxyType(shown),
        )

    def _provider(self, name: str, section: ProviderSection) -> Provider:
        lifecycle, health, limits = section.lifecycle, section.health, section.limits
        return Provider(
            name=name,
            mode=Mode(section.mode),
            launch=self._subprocess(section) if section.mode == "subprocess" else self._remote(section),
            sharing=Sharing(section.sessions or "per_caller"),
            protocol=Protocol(section.protocol),
            tools=ToolRules(
                allow=tuple(section.tools.allow),
                deny=tuple(section.tools.deny),
                idempotent=tuple(section.tools.idempotent),
            ),
            lifecycle=Lifecycle(
                start_timeout=lifecycle.start_timeout,
                idle_ttl=lifecycle.idle_ttl,
                stop_grace=lifecycle.stop_grace,
                restart=lifecycle.restart.backoff,
            ),
            health=HealthCheck(**dict(health)),
            limits=Limits(**dict(limits)),
            description=section.description,
        )

    def _subprocess(self, section: ProviderSection) -> SubprocessLaunch:
        cwd = self._path(section.cwd) if section.cwd else ""
        return SubprocessLaunch(command=tuple(section.command), env=dict(section.env), cwd=cwd)

    def _remote(self, section: ProviderSection) -> RemoteLaunch:
        credentials = section.auth.client_credentials if section.auth else None
        return RemoteLaunch(
            url=section.url,
            headers=dict(section.headers),
            auth=ClientCredentials(**dict(credentials)) if credentials else None,
            proxy=section.proxy,
            ca_file=self._path(section.ca_file) if section.ca_file else "",
            transport=section.transport,
            connect_timeout=section.connect_timeout,
            first_byte_timeout=section.first_byte_timeout,
        )

    def _path(self, name: str) -> str:
        """A path in the file, absolute: relative ones start where the file is."""
        return str(self._where.parent / expand_home(name, self._env))

    def _shown(self, value: Any, path: KeyPath) -> Any:
        """As it may be shown. What says nothing (empty text or list, a key of the other mode) is left out."""
        if isinstance(value, dict):
            return {key: self._shown(item, (*path, key)) for key, item in value.items() if self._means(path, key, item)}
        if isinstance(value, list):
            return [self._shown(item, (*path, index)) for index, item in enumerate(value)]
        if is_secret(path):
            # A header's last word too: it is the token without its scheme.
            self._secrets.update((str(value), str(value).rpartition(" ")[2]))
            return MASK
        return self._masked(path, value)

    def _masked(self, path: KeyPath, value: Any) -> Any:
        masked = self._document.masked
        if path in masked:
            return masked[path]
        if len(path) > 3 and path[0] == "providers" and path[2] in _SECTIONS and path not in self._document.values:
            return masked.get(("defaults", *path[2:]), value)
        return value

    def _means(self, path: KeyPath, key: str, value: Any) -> bool:
        if value is None or value in ("", [], {}):
            return False
        if isinstance(value, dict) and not any(value.values()) and section_at((*path, key)) is not None:
            return False  # a table of names, such as `env`, means what it says: an empty variable is one
        if (*path, key) == ("audit", "rotate"):
            return self._file.audit.sink.startswith(("/", "~"))
        if len(path) == 2 and path[0] == "providers":
            return key not in _FOREIGN[self._file.providers[str(path[1])].mode]
        return True
