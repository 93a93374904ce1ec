# SPDX-License-Identifier: MIT
"""From a call to the events that tell of it. Every call, in either direction, is told in the same words.

The call path builds `CallAdmitted` and `CallCompleted` of a plain call by itself: two frames less per call.
"""

from __future__ import annotations

import time
from typing import Final

from mcp_hangar.domain.call import Call
from mcp_hangar.domain.errors import (
    CallCancelled,
    CallTimeout,
    Denied,
    HangarError,
    ProtocolError,
    ProviderDied,
    RequestError,
)
from mcp_hangar.domain.events import CallAdmitted, CallCompleted, CallDenied, CallFailed
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json

_REASONS: Final[tuple[tuple[type[HangarError], str], ...]] = (
    (CallTimeout, "timeout"),
    (CallCancelled, "cancelled"),
    (ProviderDied, "provider_died"),
    (ProtocolError, "protocol"),
    (RequestError, "protocol"),
    (Denied, "limit"),
)
_MOST_DETAIL: Final = 500


def admitted(call: Call, at: float, parent: str = "") -> CallAdmitted:
    """`parent`: for a provider's question, the call it belongs to."""
    return CallAdmitted(
        at=at,
        provider=call.provider,
        method=call.method,
        name=call.name,
        call_id=call.id,
        session_id=call.session.id,
        session_source=call.session.source,
        caller=call.caller.id,
        caller_type=call.caller.type.value,
        tenant=call.caller.tenant,
        trace_id=call.trace[3:35],
        client=call.client,
        era=call.era.value,
        arguments=call.params.get("arguments", b""),
        parent=parent,
    )


def completed(call: Call, started: float) -> CallCompleted:
    """Now, and well."""
    now = time.time()
    return CallCompleted(
        at=now,
        provider=call.provider,
        method=call.method,
        name=call.name,
        call_id=call.id,
        session_id=call.session.id,
        caller=call.caller.id,
        tenant=call.caller.tenant,
        trace_id=call.trace[3:35],
        outcome="ok",
        seconds=now - started,
    )


def failed(call: Call, started: float, error: HangarError) -> CallFailed:
    """Now, with what the caller is told and why."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "transport")
    return _failed(call, started, reason, error.code, error.why)


def refused_upstream(call: Call, started: float, error: Json) -> CallFailed:
    """Now: the provider answered with a JSON-RPC error of its own, which the caller gets as it is."""
    message = envelope.text(envelope.members(error, "the error").get("message"))
    return _failed(call, started, "protocol", "provider_error", message[:_MOST_DETAIL])


def _failed(call: Call, started: float, reason: str, code: str, detail: str) -> CallFailed:
    now = time.time()
    return CallFailed(
        at=now,
        provider=call.provider,
        method=call.method,
        name=call.name,
        call_id=call.id,
        session_id=call.session.id,
        caller=call.caller.id,
        tenant=call.caller.tenant,
        trace_id=call.trace[3:35],
        reason=reason,
        code=code,
        detail=detail,
        seconds=now - started,
    )


def denied(call: Call, error: HangarError, policy: str, reason: str = "") -> CallDenied:
    """Now; `reason` is the policy's own, where there is one."""
    return CallDenied(
        at=time.time(),
        provider=call.provider,
        method=call.method,
        name=call.name,
        call_id=call.id,
        session_id=call.session.id,
        session_source=call.session.source,
        caller=call.caller.id,
        caller_type=call.caller.type.value,
        tenant=call.caller.tenant,
        trace_id=call.trace[3:35],
        client=call.client,
        era=call.era.value,
        policy_id=policy,
        reason=reason or error.what,
        code=error.code,
        arguments=call.params.get("arguments", b""),
    )
