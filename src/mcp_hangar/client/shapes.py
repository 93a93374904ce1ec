# SPDX-License-Identifier: MIT
"""What REST answers, as plain dictionaries with known members. The description at `/api/v1/openapi.json` has the same
names, and says what each member means."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Counts(TypedDict):
    calls: int
    ok: int
    tool_errors: int
    failed: int
    denied: int
    running: int
    seconds: float
    refused_messages: int
    last_call_at: str
    last_error: str
    last_error_at: str


class Instance(TypedDict):
    id: str
    state: str
    caller: str
    era: str
    version: str
    wire: str
    in_flight: int
    up_seconds: float
    idle_seconds: float


class Provider(TypedDict):
    name: str
    description: str
    mode: str
    state: str
    held: bool
    era: str
    sessions: str
    unenforced: list[str]
    tools: int | None
    in_flight: int
    restarts: int
    retry_after: float
    last_error: str
    refused_messages: int
    calls: Counts
    instances: list[Instance]


class Record(TypedDict):
    epoch: str
    newest: str
    oldest: str
    refusing: bool
    detail: str


class Status(TypedDict):
    software: str
    pid: int
    started_at: str
    uptime_seconds: float
    state: str
    config: str
    record: Record
    totals: Counts
    providers: list[Provider]


class Tool(TypedDict):
    provider: str
    name: str
    title: str
    description: str
    denied_by: str
    definition: dict[str, Any]


class Prompt(TypedDict):
    provider: str
    name: str
    title: str
    description: str
    definition: dict[str, Any]


class Resource(TypedDict):
    provider: str
    uri: str
    template: bool
    name: str
    title: str
    description: str
    mime_type: str
    definition: dict[str, Any]


class Tools(TypedDict):
    tools: list[Tool]
    unknown: list[str]
    cursor: str


class Prompts(TypedDict):
    prompts: list[Prompt]
    unknown: list[str]
    cursor: str


class Resources(TypedDict):
    resources: list[Resource]
    unknown: list[str]
    cursor: str


class Call(TypedDict):
    id: str
    state: str
    outcome: NotRequired[str]
    provider: NotRequired[str]
    method: NotRequired[str]
    name: NotRequired[str]
    caller: NotRequired[str]
    caller_type: NotRequired[str]
    tenant: NotRequired[str]
    session: NotRequired[str]
    session_source: NotRequired[str]
    client: NotRequired[str]
    era: NotRequired[str]
    trace: NotRequired[str]
    parent: NotRequired[str]
    admitted_at: NotRequired[str]
    ended_at: NotRequired[str]
    seconds: NotRequired[float]
    policy: NotRequired[str]
    reason: NotRequired[str]
    code: NotRequired[str]
    detail: NotRequired[str]
    result_bytes: NotRequired[int]
    arguments_hash: NotRequired[str]
    arguments_preview: NotRequired[str]
    seq: NotRequired[int]


class Calls(TypedDict):
    calls: list[Call]
    cursor: str


class Event(TypedDict):
    """Beside these, the members that docs/reference/events.md names for its type."""

    type: str
    version: NotRequired[int]
    id: NotRequired[str]
    epoch: NotRequired[str]
    seq: NotRequired[int]
    at: NotRequired[str]
    severity: NotRequired[str]
    provider: NotRequired[str]
    method: NotRequired[str]
    name: NotRequired[str]
    call_id: NotRequired[str]
    session_id: NotRequired[str]
    caller: NotRequired[str]
    tenant: NotRequired[str]
    trace_id: NotRequired[str]
    policy_id: NotRequired[str]
    reason: NotRequired[str]
    first: NotRequired[str]
    """Of a `gap` on the stream: the cursor of the first event that is no longer kept."""
    last: NotRequired[str]


class CallDetail(TypedDict):
    call: Call
    story: list[str]
    events: list[Event]


class CallAnswer(TypedDict):
    call_id: str
    result: dict[str, Any]


class Gap(TypedDict):
    first: str
    last: str


class Events(TypedDict):
    events: list[Event]
    cursor: str
    gap: Gap | None


class SessionCounts(TypedDict):
    id: str
    source: str
    caller: str
    caller_type: str
    tenant: str
    client: str
    era: str
    providers: list[str]
    calls: int
    ok: int
    tool_errors: int
    failed: int
    denied: int
    first_call_at: str
    last_call_at: str


class Session(TypedDict):
    id: str
    open: bool
    version: str
    door: str
    in_flight: int
    counts: SessionCounts


class Config(TypedDict):
    file: str
    digest: str
    config: dict[str, Any]


class ConfigProblem(TypedDict):
    file: str
    line: int
    column: int
    what: str
    fix: str
    code: str


class ConfigCheck(TypedDict):
    ok: bool
    file: str
    digest: str
    changed: bool
    problems: list[ConfigProblem]


class Code(TypedDict):
    code: str
    expires_in: float


class Login(TypedDict):
    token: str
    expires_in: float
