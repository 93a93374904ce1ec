# SPDX-License-Identifier: MIT
"""From a call to the events that tell of it. Every call, in either direction, is told in the same words.

The call path builds `CallAdmitted` and `CallCompleted` of a plain call by itself: two frames less per call.
"""

from __future__ import annotations

import time
from typing import Any, Final

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


def _of(call: Call) -> dict[str, Any]:
    """What every event about a call says."""
    return {
        "provider": call.provider,
        "method": call.method,
        "name": call.name,
        "call_id": call.id,
        "session_id": call.session.id,
        "caller": call.caller.id,
        "tenant": call.caller.tenant,
        "trace_id": call.trace[3:35],
    }


def _begun(call: Call) -> dict[str, Any]:
    """What the first event about a call says."""
    return {
        **_of(call),
        "session_source": call.session.source,
        "caller_type": call.caller.type.value,
        "client": call.client,
        "era": call.era.value,
        "arguments": call.params.get("arguments", b""),
    }


def admitted(call: Call, at: float, parent: str = "") -> CallAdmitted:
    """`parent`: for a provider's question, the call it belongs to."""
    return CallAdmitted(at=at, parent=parent, **_begun(call))


def completed(call: Call, started: float) -> CallCompleted:
    """Now, and well."""
    now = time.time()
    return CallCompleted(at=now, outcome="ok", seconds=now - started, **_of(call))


def failed(call: Call, started: float, error: HangarError) -> CallFailed:
    """Now, with what the caller is told and why."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "transport")
    now = time.time()
    return CallFailed(at=now, reason=reason, code=error.code, detail=error.why, seconds=now - started, **_of(call))


def refused_upstream(call: Call, started: float, error: Json) -> CallFailed:
    """Now: the provider answered with a JSON-RPC error of its own, which the caller gets as it is."""
    now = time.time()
    said = envelope.text(envelope.members(error, "the error").get("message"))[:_MOST_DETAIL]
    return CallFailed(at=now, reason="protocol", code="provider_error", detail=said, seconds=now - started, **_of(call))


def denied(call: Call, error: HangarError, policy: str, reason: str = "") -> CallDenied:
    """Now; `reason` is the policy's own, where there is one."""
    why = reason or error.what
    return CallDenied(at=time.time(), policy_id=policy, reason=why, code=error.code, **_begun(call))
