# SPDX-License-Identifier: MIT
"""Every fact we record: past tense, immutable, versioned. The tag is the wire name, frozen apart from the class name.

`id`, `seq` and `epoch` are given by the log when it encodes; `at` is Unix time in seconds, read where it happened.
Arguments travel here as they came and leave only as a keyed hash and a redacted preview (`application/event_codec.py`).
"""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.StrEnum):
    info = "info"
    low = "low"
    medium = "medium"
    high = "high"
    critical = "critical"


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    at: float
    version: int = 1
    severity: Severity = Severity.info
    provider: str = ""
    method: str = ""
    name: str = ""
    call_id: str = ""
    session_id: str = ""
    caller: str = ""
    tenant: str = ""
    trace_id: str = ""
    policy_id: str = ""
    reason: str = ""


class CallAdmitted(Event, tag="call.admitted", frozen=True, kw_only=True):
    caller_type: str = "anonymous"
    session_source: str = "explicit"
    client: str = ""
    era: str = ""
    arguments: msgspec.Raw | bytes = b""
    """As they came; never encoded as such."""
    parent: str = ""
    """For a provider's question: the call it belongs to."""


class CallCompleted(Event, tag="call.completed", frozen=True, kw_only=True):
    outcome: str
    """`ok`, `tool_error` or `input_required`."""
    seconds: float
    result_bytes: int = 0


class CallFailed(Event, tag="call.failed", frozen=True, kw_only=True):
    """`reason`: timeout, cancelled, transport, protocol, provider_died or limit."""

    seconds: float
    code: str
    detail: str = ""


class CallDenied(Event, tag="call.denied", frozen=True, kw_only=True):
    """Never admitted. `code` is the error the caller saw."""

    code: str
    caller_type: str = "anonymous"
    session_source: str = "explicit"
    client: str = ""
    era: str = ""
    arguments: msgspec.Raw | bytes = b""


class ProviderRegistered(Event, tag="provider.registered", frozen=True, kw_only=True):
    mode: str


class ProviderRemoved(Event, tag="provider.removed", frozen=True, kw_only=True):
    pass


class ProviderStateChanged(Event, tag="provider.state_changed", frozen=True, kw_only=True):
    before: str
    after: str
    instance: str = ""


class ProviderStartFailed(Event, tag="provider.start_failed", frozen=True, kw_only=True):
    code: str
    detail: str
    retry_after: float = 0.0


class ProviderToolsetChanged(Event, tag="provider.toolset_changed", frozen=True, kw_only=True):
    digest: str
    tools: int


class ProviderMessageRefused(Event, tag="provider.message_refused", frozen=True, kw_only=True):
    """Something a provider sent was dropped: junk on stdout, an unknown id, an invalid tool."""

    count: int = 1


class CapabilityUnenforced(Event, tag="capability.unenforced", frozen=True, kw_only=True):
    capabilities: tuple[str, ...]


class AuthFailed(Event, tag="auth.failed", frozen=True, kw_only=True):
    door: str
    peer: str = ""


class ConfigLoaded(Event, tag="config.loaded", frozen=True, kw_only=True):
    file: str
    digest: str


class ConfigRejected(Event, tag="config.rejected", frozen=True, kw_only=True):
    file: str
    problems: tuple[str, ...]


class SystemStarted(Event, tag="system.started", frozen=True, kw_only=True):
    software: str
    pid: int


class SystemStopping(Event, tag="system.stopping", frozen=True, kw_only=True):
    pass


class EventsLost(Event, tag="system.events_lost", frozen=True, kw_only=True):
    count: int


class StoreUnavailable(Event, tag="system.store_unavailable", frozen=True, kw_only=True):
    subscriber: str
    detail: str


AnyEvent = (
    CallAdmitted
    | CallCompleted
    | CallFailed
    | CallDenied
    | ProviderRegistered
    | ProviderRemoved
    | ProviderStateChanged
    | ProviderStartFailed
    | ProviderToolsetChanged
    | ProviderMessageRefused
    | CapabilityUnenforced
    | AuthFailed
    | ConfigLoaded
    | ConfigRejected
    | SystemStarted
    | SystemStopping
    | EventsLost
    | StoreUnavailable
)
