# SPDX-License-Identifier: MIT
"""What was called in which session. Folded when somebody looks, from where the last look ended: looks are few, events
are many. What came and was forgotten between two looks is not counted."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import msgspec

from mcp_hangar.application.event_codec import Record
from mcp_hangar.application.kept_records import SLICE, KeptRecords

MOST: Final = 10_000
_PROVIDERS: Final = 100


class SessionCounts(msgspec.Struct):
    """What was called in one session, as far as events are kept."""

    id: str
    source: str = ""
    """`explicit`: the client named it; `inferred`: Hangar derived it from caller, client and time."""
    caller: str = ""
    caller_type: str = ""
    tenant: str = ""
    client: str = ""
    era: str = ""
    providers: list[str] = []
    """Those that were called, the first hundred."""
    calls: int = 0
    ok: int = 0
    tool_errors: int = 0
    failed: int = 0
    denied: int = 0
    first_call_at: str = ""
    last_call_at: str = ""


class _Facts(msgspec.Struct, gc=False):
    """Records leave out what is at its default."""

    session_id: str = ""
    at: str = ""
    provider: str = ""
    caller: str = ""
    tenant: str = ""
    caller_type: str = "anonymous"
    session_source: str = "explicit"
    client: str = ""
    era: str = ""
    outcome: str = ""


_read: Final = msgspec.json.Decoder(_Facts).decode


class SessionView:
    def __init__(self, kept: KeptRecords) -> None:
        self._kept = kept
        self._seq = 0  # of the newest record that was folded
        self._sessions: OrderedDict[str, SessionCounts] = OrderedDict()

    async def all(self) -> OrderedDict[str, SessionCounts]:
        """By id, the longest silent first."""
        while records := self._kept.after(self._seq, SLICE):
            self._seq = records[-1].seq  # before others get their turn: they may look too
            for record in records:
                if record.type.startswith("call."):
                    self._fold(record.type, record)
            await asyncio.sleep(0)
        return self._sessions

    def _fold(self, kind: str, record: Record) -> None:
        facts = _read(record.data)
        if not facts.session_id:
            return
        session = self._sessions.get(facts.session_id)
        if session is None:
            session = self._sessions[facts.session_id] = SessionCounts(facts.session_id)
            if len(self._sessions) > MOST:
                self._sessions.popitem(last=False)
        match kind:
            case "call.admitted":
                session.calls += 1
                self._begun(session, facts)
            case "call.denied":
                session.denied += 1
                self._begun(session, facts)
            case "call.failed":
                session.failed += 1
            case "call.completed" if facts.outcome == "tool_error":
                session.tool_errors += 1
            case "call.completed":
                session.ok += 1

    def _begun(self, session: SessionCounts, facts: _Facts) -> None:
        session.source, session.caller_type, session.caller = facts.session_source, facts.caller_type, facts.caller
        session.tenant, session.client, session.era = facts.tenant, facts.client or session.client, facts.era
        session.first_call_at = session.first_call_at or facts.at
        session.last_call_at = facts.at
        if facts.provider not in session.providers and len(session.providers) < _PROVIDERS:
            session.providers.append(facts.provider)
        self._sessions.move_to_end(session.id)
