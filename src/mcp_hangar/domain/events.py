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
    """What all events tell, where it applies."""

    at: float
    """When it happened."""
    version: int = 1
    """Of this type of event."""
    severity: Severity = Severity.info
    """How much it matters."""
    provider: str = ""
    """The provider it is about."""
    method: str = ""
    """The call's method, such as `tools/call`."""
    name: str = ""
    """What was called (tool, prompt, URI, task), as the provider knows it."""
    call_id: str = ""
    """The call. All its events carry the same id."""
    session_id: str = ""
    """The session that the call belongs to."""
    caller: str = ""
    """Who called."""
    tenant: str = ""
    """Whom the caller belongs to."""
    trace_id: str = ""
    """W3C trace id, where the client sent one."""
    policy_id: str = ""
    """The policy that decided."""
    reason: str = ""
    """Why, in a word or a sentence."""


class CallAdmitted(Event, tag="call.admitted", frozen=True, kw_only=True):
    """A call was decided and is about to be forwarded. Written before it leaves.

    One `call.completed` or `call.failed` ends it.
    """

    caller_type: str = "anonymous"
    """`anonymous`, `token`, `operator` or `provider` (a question on its way back)."""
    session_source: str = "explicit"
    """`explicit`: the client named the session; `inferred`: Hangar derived it."""
    client: str = ""
    """`name/version`, as the client says; unverified."""
    era: str = ""
    """The era of MCP that the client speaks, `legacy` or `modern`."""
    arguments: msgspec.Raw | bytes = b""
    """As they came; never encoded as such."""
    parent: str = ""
    """For a provider's question: the call it belongs to."""


class CallCompleted(Event, tag="call.completed", frozen=True, kw_only=True):
    """A call was answered."""

    outcome: str
    """`ok`, `tool_error`, `input_required` or `task` (begun; its result comes with `tasks/get`)."""
    seconds: float
    """From its arrival to its answer."""
    result_bytes: int = 0
    """The size of the answer."""


class CallFailed(Event, tag="call.failed", frozen=True, kw_only=True):
    """A call was admitted and got no answer.

    `reason`: timeout, cancelled, transport, protocol, provider_died or limit.
    """

    seconds: float
    """From its arrival to its end."""
    code: str
    """The error that the caller saw, see errors.md."""
    detail: str = ""
    """What is known beyond the code."""


class CallDenied(Event, tag="call.denied", frozen=True, kw_only=True):
    """A call was refused: never admitted, never forwarded."""

    code: str
    """The error that the caller saw, see errors.md."""
    caller_type: str = "anonymous"
    """`anonymous`, `token`, `operator` or `provider` (a question on its way back)."""
    session_source: str = "explicit"
    """`explicit`: the client named the session; `inferred`: Hangar derived it."""
    client: str = ""
    """`name/version`, as the client says; unverified."""
    era: str = ""
    """The era of MCP that the client speaks, `legacy` or `modern`."""
    arguments: msgspec.Raw | bytes = b""


class ProviderRegistered(Event, tag="provider.registered", frozen=True, kw_only=True):
    """A provider is known from now on."""

    mode: str
    """How it runs: `subprocess` or `remote`."""


class ProviderRemoved(Event, tag="provider.removed", frozen=True, kw_only=True):
    """A provider is no longer known."""


class ProviderStateChanged(Event, tag="provider.state_changed", frozen=True, kw_only=True):
    """An instance of a provider went from one state to another."""

    before: str
    """`cold`, `starting`, `ready`, `degraded` or `dead`."""
    after: str
    """The same words."""
    instance: str = ""
    """Which of the provider's instances."""


class ProviderStartFailed(Event, tag="provider.start_failed", frozen=True, kw_only=True):
    """A provider could not be started or reached."""

    code: str
    """What went wrong, see errors.md."""
    detail: str
    """What is known beyond the code."""
    retry_after: float = 0.0
    """Seconds until the next attempt."""


class ProviderToolsetChanged(Event, tag="provider.toolset_changed", frozen=True, kw_only=True):
    """What a provider offers is not what it offered before."""

    digest: str
    """Of all its tools, as they are now."""
    tools: int
    """How many there are."""


class ProviderMessageRefused(Event, tag="provider.message_refused", frozen=True, kw_only=True):
    """Something a provider sent was dropped: junk on stdout, an unknown id, an invalid tool."""

    count: int = 1
    """How many since the last such event."""


class CapabilityUnenforced(Event, tag="capability.unenforced", frozen=True, kw_only=True):
    """What nothing enforces for this provider in its mode."""

    capabilities: tuple[str, ...]
    """Such as `network`, `filesystem`."""


class AuthFailed(Event, tag="auth.failed", frozen=True, kw_only=True):
    """Somebody came with a wrong token, or without one."""

    door: str
    """Where it was: the plane or the path."""
    peer: str = ""
    """The address of the connection."""


class ConfigLoaded(Event, tag="config.loaded", frozen=True, kw_only=True):
    """A configuration is in effect."""

    file: str
    """Where it was read."""
    digest: str
    """SHA-256 of the file."""


class ConfigRejected(Event, tag="config.rejected", frozen=True, kw_only=True):
    """A configuration was refused whole."""

    file: str
    """Where it was read."""
    problems: tuple[str, ...]
    """Each with its place and a fix; no secrets."""


class SystemStarted(Event, tag="system.started", frozen=True, kw_only=True):
    """Hangar runs."""

    software: str
    """Name and version."""
    pid: int
    """Its process id."""


class SystemStopping(Event, tag="system.stopping", frozen=True, kw_only=True):
    """Hangar was asked to stop."""


class EventsLost(Event, tag="system.events_lost", frozen=True, kw_only=True):
    """Events were dropped because the backlog was full (`events.on_overflow: drop`)."""

    count: int
    """How many."""


class StoreUnavailable(Event, tag="system.store_unavailable", frozen=True, kw_only=True):
    """A subscriber with effects outside, such as the audit sink, failed."""

    subscriber: str
    """Which one."""
    detail: str
    """What happened."""


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
