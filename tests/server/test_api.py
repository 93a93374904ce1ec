# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest

from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.instances import ProviderStatus
from mcp_hangar.application.queries import Queries
from mcp_hangar.application.views import Views
from mcp_hangar.domain.errors import Denied, HangarError, ProviderDied
from mcp_hangar.domain.events import CallAdmitted, CallCompleted, CallDenied, CallFailed, Event
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp.catalogue import TOOLS, Offer, read_items
from mcp_hangar.domain.provider import Mode, Provider, Sharing, SubprocessLaunch
from mcp_hangar.server.api.app import build_api

pytestmark = pytest.mark.anyio
TOKEN = "an-admin-token-of-tests"
DEFINITION = b'{"name":"now","title":"Now","description":"Tells the time","inputSchema":{"type":"object"},"x-new":1.50}'


def provider(name: str) -> Provider:
    return Provider(
        name=name, mode=Mode.subprocess, launch=SubprocessLaunch(command=("x",)), sharing=Sharing.per_caller
    )


class Fleet:
    """Two providers: one runs, one was never started. Also what REST commands."""

    def __init__(self) -> None:
        self.providers = {"time": provider("time"), "git": provider("git")}
        self.stopped: set[str] = set()
        self.invoked: list[tuple[str, str, bytes]] = []
        self.error: Exception | None = None

    def snapshot(self) -> list[ProviderStatus]:
        return [
            ProviderStatus(
                provider="time",
                state=State.ready,
                held="time" in self.stopped,
                instances=(),
                era=None,
                in_flight=1,
                starts=1,
                restarts=0,
                failures=0,
                retry_after=0.0,
                last_error="",
                refused=2,
            )
        ]

    def held(self, name: str) -> bool:
        return name in self.stopped

    def offer(self, one: Provider) -> Offer | None:
        return Offer({"tools/list": read_items(TOOLS, [DEFINITION])[0]}) if one.name == "time" else None

    async def start(self, name: str) -> None:
        self.stopped.discard(name)

    async def stop(self, name: str) -> None:
        self.stopped.add(name)

    async def invoke(self, name: str, tool: str, arguments: bytes) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.invoked.append((name, tool, arguments))
        return {"call_id": "c9", "result": msgspec.Raw(b'{"content":[],"x":1.50}')}


EVENTS: list[Event] = [
    CallAdmitted(at=1.0, call_id="c1", provider="time", method="tools/call", name="now", caller="anonymous"),
    CallCompleted(at=2.0, call_id="c1", provider="time", outcome="ok", seconds=1.0),
    CallDenied(at=3.0, call_id="c2", provider="git", method="tools/call", name="rm", code="denied", policy_id="p",
        reason="no"),
    CallAdmitted(at=4.0, call_id="c3", provider="time", method="tools/call", name="now", caller="anonymous"),
    CallFailed(at=5.0, call_id="c3", provider="time", reason="timeout", code="timeout", seconds=1.0),
]  # fmt: skip


class Door:
    def __init__(self, views: Views, fleet: Fleet) -> None:
        self.fleet = fleet
        self.recorded: list[Event] = []
        queries = Queries(
            views=views,
            log=EventLog([], codec=Codec(epoch="e1", hash_key=b"k"), backlog_bytes=1000),
            instances=fleet,
            providers=lambda: fleet.providers,
            offer=fleet.offer,
            denied_by=lambda one, tool: "providers.time.tools.deny" if tool == "never" else "",
            logs=lambda one: [f"line {number}" for number in range(10)],
            stopping=lambda: False,
            software="mcp-hangar 3",
            config="/etc/hangar.yaml",
            clock=lambda: 1000.0,
        )
        app = build_api(queries, fleet, TOKEN, version="3", record=self.recorded.append, body_bytes=10_000)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://hangar/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )

    async def get(self, path: str) -> Any:
        response = await self.http.get(path)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    views = Views(epoch="e1", keep=1 << 20)
    codec = Codec(epoch="e1", hash_key=b"k")
    await views.see([codec.encode(event, seq) for seq, event in enumerate(EVENTS, 1)])
    made = Door(views, Fleet())
    async with made.http:
        yield made


GETS = ["/status", "/providers", "/providers/time", "/providers/time/logs", "/tools", "/calls", "/calls/c1", "/events"]
POSTS = ["/providers/time/start", "/providers/time/stop", "/call"]


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    value: dict[str, Any] = response.json()
    assert (value["code"], value["status"], value["type"]) == (code, status, f"urn:mcp-hangar:error:{code}")
    assert value["title"]
    assert value["why"]
    assert value["fix"]
    return value


async def test_every_door_is_closed_without_the_admin_token(door: Door) -> None:
    description = await door.get("/openapi.json")
    listed = {path.removeprefix("/api/v1") for path in description["paths"]}
    assert listed == {"/providers/{name}" + rest for rest in ("", "/logs", "/start", "/stop")} | {
        "/status", "/providers", "/tools", "/calls", "/calls/{id}", "/call", "/events",
    }  # fmt: skip
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}]
    wrong += [{"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"}, {"Cookie": f"token={TOKEN}"}]
    for path in [*GETS, *POSTS, "/openapi.json", "/docs", "/nowhere", "/../openapi.json"]:
        for headers in wrong:
            method = "POST" if path in POSTS else "GET"
            request = door.http.build_request(method, path)
            del request.headers["authorization"]
            request.headers.update(headers)
            response = await door.http.send(request)
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
    twice = httpx.Headers([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")])
    request = httpx.Request("GET", "http://hangar/api/v1/status", headers=twice)
    problem(await door.http.send(request), 401, "unauthorized")
    assert door.fleet.stopped == set()
    assert door.fleet.invoked == []


async def test_knocking_in_vain_is_recorded_and_cannot_fill_the_record(door: Door) -> None:
    for _ in range(50):
        await door.http.get("/status", headers={"Authorization": "Bearer wrong"})
    assert 1 <= len(door.recorded) <= 5
    assert door.recorded[0].reason == "no valid admin token"


async def test_every_answer_is_as_the_description_says(door: Door) -> None:
    description = await door.get("/openapi.json")
    assert description["components"]["securitySchemes"]["admin"] == {"type": "http", "scheme": "bearer"}
    checked = 0
    for path in [*GETS, *POSTS]:
        template = path.replace("/time", "/{name}").replace("/c1", "/{id}")
        post = path in POSTS
        operation = description["paths"][f"/api/v1{template}"]["post" if post else "get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": description["components"]}
        body = {"provider": "time", "tool": "now"} if path == "/call" else None
        response = await (door.http.post(path, json=body) if post else door.http.get(path))
        assert response.status_code == 200, response.text
        jsonschema_rs.validator_for(whole).validate(response.json())
        checked += 1
    assert checked == len(GETS) + len(POSTS)


async def test_the_description_for_people_needs_nothing_from_elsewhere(door: Door) -> None:
    response = await door.http.get("/docs")
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "GET /api/v1/calls/{id}" in response.text
    assert "<script" not in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text


async def test_providers_show_what_runs_and_what_nothing_enforces(door: Door) -> None:
    git, time = (await door.get("/providers"))["providers"]
    assert (git["name"], git["state"], git["tools"]) == ("git", "cold", None)
    assert (time["name"], time["state"], time["tools"], time["in_flight"]) == ("time", "ready", 1, 1)
    assert "network" in time["unenforced"]
    assert time["calls"]["ok"] == 1
    assert await door.get("/providers/time") == time
    assert (await door.get("/providers/time/logs?limit=2"))["lines"] == ["line 8", "line 9"]


async def test_stop_and_start_change_the_provider_and_say_so(door: Door) -> None:
    assert (await door.http.post("/providers/time/stop")).json()["held"] is True
    assert door.fleet.stopped == {"time"}
    assert (await door.http.post("/providers/time/start")).json()["held"] is False
    assert (await door.http.post("/providers/git/stop")).json()["held"] is True  # never started, so it has no instance
    await door.http.post("/providers/git/start")
    problem(await door.http.post("/providers/none/stop"), 404, "unknown_provider")
    assert door.fleet.stopped == set()


async def test_tools_are_found_as_their_provider_defines_them(door: Door) -> None:
    found = (await door.http.get("/tools?query=TIME+tells")).content
    assert DEFINITION in found
    assert json.loads(found)["unknown"] == ["git"]
    assert (await door.get("/tools?query=weather"))["tools"] == []
    assert (await door.get("/tools?provider=git")) == {"tools": [], "unknown": ["git"]}


async def test_calls_are_filtered_paged_and_told(door: Door) -> None:
    async def ids(query: str) -> list[str]:
        return [call["id"] for call in (await door.get(f"/calls?{query}"))["calls"]]

    assert await ids("") == ["c3", "c2", "c1"]
    assert await ids("provider=time&outcome=failed") == ["c3"]
    assert await ids("since=1970-01-01T00:00:03Z") == ["c3", "c2"]
    first = await door.get("/calls?limit=2")
    assert await ids(f"limit=2&cursor={first['cursor']}") == ["c1"]
    denied = await door.get("/calls/c2")
    assert denied["call"]["policy"] == "p"
    assert any("denied" in line and "by p: no." in line for line in denied["story"])
    assert [event["type"] for event in denied["events"]] == ["call.denied"]
    problem(await door.http.get("/calls/none"), 404, "unknown_call")


async def test_events_go_on_after_a_cursor_and_tell_gaps(door: Door) -> None:
    page = await door.get("/events?after=e1:3&limit=1")
    assert [event["seq"] for event in page["events"]] == [4]
    assert page["cursor"] == "e1:4"
    assert (await door.get("/events?after=e0:9"))["gap"]["first"] == "e0:9"
    problem(await door.http.get("/events?after=nonsense"), 400, "invalid_cursor")


async def test_a_call_goes_through_with_its_arguments_as_they_came(door: Door) -> None:
    body = b'{"provider":"time","tool":"now","arguments": {"n": 1.50, "z":"\\u00e9", "a":[ ]}}'
    response = await door.http.post("/call", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert response.status_code == 200
    assert door.fleet.invoked == [("time", "now", b'{"n": 1.50, "z":"\\u00e9", "a":[ ]}')]
    assert b'"x":1.50' in response.content
    assert response.json()["call_id"] == "c9"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Denied("denied", name="now", policy="p", reason="r", way_out="w", call_id="c7"), 403),
        (ProviderDied("provider_died", provider="time", detail="gone", call_id="c7"), 502),
    ],
)
async def test_a_call_that_does_not_go_through_is_a_problem_that_names_the_call(
    door: Door, error: HangarError, status: int
) -> None:
    door.fleet.error = error
    response = await door.http.post("/call", json={"provider": "time", "tool": "now"})
    assert problem(response, status, error.code)["callId"] == "c7"


BAD_BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "parse_error"),
    (b"[]", 400, "parse_error"),
    (b'{"provider":"time"', 400, "parse_error"),
    (b'{"provider":"time"}', 400, "invalid_params"),
    (b'{"provider":"time","tool":""}', 400, "invalid_params"),
    (b'{"provider":1,"tool":"now"}', 400, "invalid_params"),
    (b'{"provider":"time","tool":"now","arguments":[]}', 400, "invalid_params"),
    (b'{"provider":"time","tool":"now","args":{}}', 400, "invalid_params"),
    (b'{"provider":"time","provider":"git","tool":"now"}', 400, "duplicate_key"),
    (b'{"provider":"none","tool":"now"}', 404, "unknown_provider"),
    (b'{"provider":"time","tool":"now","arguments":' + b'{"a":' * 70 + b"1" + b"}" * 71, 400, "too_deep"),
    (b'{"provider":"time","tool":"' + b"x" * 10_000 + b'"}', 413, "body_too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES)
async def test_a_bad_body_never_becomes_a_call(door: Door, body: bytes, status: int, code: str) -> None:
    response = await door.http.post("/call", content=body, headers={"Content-Type": "application/json"})
    problem(response, status, code)
    assert door.fleet.invoked == []


async def test_a_form_of_a_web_page_is_not_a_call(door: Door) -> None:
    body = b'{"provider":"time","tool":"now"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        problem(
            await door.http.post("/call", content=body, headers={"Content-Type": kind}), 415, "unsupported_media_type"
        )
    assert door.fleet.invoked == []


@pytest.mark.parametrize(
    "query",
    [
        "/calls?providr=time", "/calls?limit=0", "/calls?limit=1001", "/calls?limit=x", "/calls?outcome=nice",
        "/calls?since=yesterday", "/events?limit=99999", "/status?x=1", "/tools?query=" + "x" * 201,
    ],
)  # fmt: skip
async def test_a_parameter_that_cannot_be_is_an_error_not_ignored(door: Door, query: str) -> None:
    problem(await door.http.get(query), 400, "invalid_params")


async def test_a_repeated_parameter_is_refused(door: Door) -> None:
    problem(await door.http.get("/calls?provider=time&provider=git"), 400, "duplicate_key")


async def test_what_is_not_there_and_what_cannot_be_done_say_so(door: Door) -> None:
    for path in ("/nowhere", "/providers/", "/providers/a/b", "/openapi.yaml"):
        problem(await door.http.get(path), 404, "not_found")
    response = await door.http.post("/status")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"
    problem(await door.http.get("/providers/none"), 404, "unknown_provider")


async def test_a_defect_is_answered_with_a_reference_and_no_internals(door: Door) -> None:
    door.fleet.error = ZeroDivisionError("secret internals")
    response = await door.http.post("/call", json={"provider": "time", "tool": "now"})
    value = problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "Report it" in value["fix"]


def test_without_an_admin_token_there_is_no_operator_plane() -> None:
    build: Callable[..., Any] = build_api
    with pytest.raises((ValueError, AttributeError)):
        build(_Nothing(), _Nothing(), "", version="3")


class _Nothing:
    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        raise AttributeError(name)
