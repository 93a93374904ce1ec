# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio

import pytest

from mcp_hangar.application import session_view
from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.kept_records import KeptRecords
from mcp_hangar.application.session_view import SessionView
from mcp_hangar.domain.events import CallAdmitted, CallCompleted, CallDenied, CallFailed, Event, SystemStopping

pytestmark = pytest.mark.anyio


class Folded:
    def __init__(self, keep: int = 1 << 20) -> None:
        self.kept = KeptRecords(epoch="e1", keep=keep)
        self.view = SessionView(self.kept)
        self.codec = Codec(epoch="e1", hash_key=b"k")

    def add(self, *events: Event) -> None:
        for event in events:
            self.kept.add([self.codec.encode(event, self.kept.last + 1)])


def admitted(session: str, provider: str = "time", **more: str) -> CallAdmitted:
    return CallAdmitted(at=1.0, session_id=session, provider=provider, caller="anonymous", client="x/1", **more)


async def test_what_was_called_in_each_session_is_counted() -> None:
    made = Folded()
    made.add(
        SystemStopping(at=0.5),
        admitted("s1"),
        CallCompleted(at=2.0, session_id="s1", outcome="ok", seconds=1.0),
        admitted("s1", "git"),
        CallCompleted(at=3.0, session_id="s1", outcome="tool_error", seconds=1.0),
        admitted("s1"),
        CallFailed(at=4.0, session_id="s1", reason="timeout", code="timeout", seconds=1.0),
        CallDenied(at=5.0, session_id="s2", provider="git", code="denied", caller="token", caller_type="token",
            session_source="inferred", era="modern"),
        admitted(""),
    )  # fmt: skip
    sessions = await made.view.all()
    assert set(sessions) == {"s1", "s2"}
    one, two = sessions["s1"], sessions["s2"]
    assert (one.calls, one.ok, one.tool_errors, one.failed, one.denied) == (3, 1, 1, 1, 0)
    assert (one.providers, one.source, one.caller_type, one.client) == (["time", "git"], "explicit", "anonymous", "x/1")
    assert (two.calls, two.denied, two.source, two.caller_type, two.era) == (0, 1, "inferred", "token", "modern")
    assert two.first_call_at == two.last_call_at == "1970-01-01T00:00:05.000000Z"


async def test_each_record_is_counted_once_however_many_look() -> None:
    made = Folded()
    for _ in range(5):
        made.add(*(admitted("s1") for _ in range(700)))
        await asyncio.gather(*(made.view.all() for _ in range(3)))
    assert (await made.view.all())["s1"].calls == 3500


async def test_sessions_are_bounded_and_the_longest_silent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_view, "MOST", 3)
    made = Folded()
    made.add(*(admitted(session) for session in ("s1", "s2", "s3", "s1", "s4")))
    assert list(await made.view.all()) == ["s3", "s1", "s4"]


async def test_what_is_forgotten_between_two_looks_does_not_stop_it() -> None:
    made = Folded(keep=2_000)
    made.add(admitted("s1"))
    await made.view.all()
    made.add(*(admitted("s1") for _ in range(100)))
    assert 1 < (await made.view.all())["s1"].calls < 101
