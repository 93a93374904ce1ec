# SPDX-License-Identifier: MIT
"""REST as its clients see it: every route, every error, nothing without a token."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
from fastapi.routing import APIRoute

from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.offered import Offered
from mcp_hangar.application.provider_status import ProviderStatus
from mcp_hangar.application.queries import Queries
from mcp_hangar.application.sessions import ClientSession
from mcp_hangar.application.views import Views
from mcp_hangar.domain.call import ANONYMOUS, NO_CAPABILITIES
from mcp_hangar.domain.errors import Denied, HangarError, ProviderDied
from mcp_hangar.domain.events import CallAdmitted, CallCompleted, CallDenied, CallFailed, Event
from mcp_hangar.domain.lifecycle import State
from mcp_hangar.domain.mcp.catalogue import PROMPTS, RESOURCES, TEMPLATES, TOOLS, Offer, read_items
from mcp_hangar.domain.provider import Mode, Provider, Sharing, SubprocessLaunch
from mcp_hangar.server.api.app import OPEN, Guard, build_api
from mcp_hangar.server.api.examples import EXAMPLES
from mcp_hangar.server.config import Settings
from mcp_hangar.server.config.reread import Configuration
from mcp_hangar.server.operator_access import Access

pytestmark = pytest.mark.anyio
TOKEN = "an-admin-token-of-tests"
DEFINITION = b'{"name":"now","title":"Now","description":"Tells the time","inputSchema":{"type":"object"},"x-new":1.50}'
PROMPT = b'{"name":"when","description":"Asks for a time"}'
RESOURCE = b'{"uri":"file:///zones","name":"zones","mimeType":"text/plain"}'
TEMPLATE = b'{"uriTemplate":"zone://{name}","name":"zone"}'
KINDS = ((TOOLS, DEFINITION), (PROMPTS, PROMPT), (RESOURCES, RESOURCE), (TEMPLATES, TEMPLATE))
OFFER = Offer({kind.method: read_items(kind, [raw])[0] for kind, raw in KINDS})


def provider(name: str) -> Provider:
    return Provider(
        name=name, mode=Mode.subprocess, launch=SubprocessLaunch(command=("x",)), sharing=Sharing.per_caller
    )


class Fleet:
    """Two providers: one runs, one was never started. Also what REST commands."""

    def __init__(self) -> None:
        self.providers = {"time": provider("time"), "git": provider("git")}
        self.stopped: set[str] = set()
        self.met: list[str] = []
        self.invoked: list[tuple[str, str, bytes]] = []
        self.error: Exception | None = None
        self.open: list[ClientSession] = []
        self.seconds = itertools.count(1000.0)

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
        return OFFER if one.name == "time" else None

    def all(self) -> list[ClientSession]:
        return self.open

    async def start(self, name: str) -> None:
        self.stopped.discard(name)

    async def stop(self, name: str) -> None:
        self.stopped.add(name)

    async def meet(self, name: str) -> None:
        self.met.append(name)

    async def invoke(self, name: str, tool: str, arguments: bytes) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.invoked.append((name, tool, arguments))
        return {"call_id": "c9", "result": msgspec.Raw(b'{"content":[],"x":1.50}')}


EVENTS: list[Event] = [
    CallAdmitted(at=1.0, call_id="c1", provider="time", method="tools/call", name="now", caller="anonymous",
        session_id="s1"),
    CallCompleted(at=2.0, call_id="c1", provider="time", outcome="ok", seconds=1.0),
    CallDenied(at=3.0, call_id="c2", provider="git", method="tools/call", name="rm", code="denied", policy_id="p",
        reason="no"),
    CallAdmitted(at=4.0, call_id="c3", provider="time", method="tools/call", name="now", caller="anonymous",
        session_id="s1"),
    CallFailed(at=5.0, call_id="c3", provider="time", reason="timeout", code="timeout", seconds=1.0, session_id="s1"),
]  # fmt: skip


async def nowhere(scope: Any, receive: Any, send: Any) -> None:
    """In place of the live stream."""


def api(
    views: Views,
    log: EventLog,
    fleet: Fleet,
    *,
    record: Callable[[Event], None] = lambda event: None,
    lines: list[str] | None = None,
    config: Path = Path("hangar.yaml"),
) -> Guard:
    """REST of a made-up house."""

    def denied_by(one: Provider, tool: str) -> str:
        return "providers.time.tools.deny" if tool == "never" else ""

    def providers() -> dict[str, Provider]:
        return fleet.providers

    queries = Queries(
        views=views,
        log=log,
        instances=fleet,
        sessions=fleet,
        providers=providers,
        offered=Offered(providers=providers, offer=fleet.offer, denied_by=denied_by),
        logs=lambda one: lines or [f"line {number}" for number in range(10)],
        stopping=lambda: False,
        software="mcp-hangar 3",
        config="/etc/hangar.yaml",
        clock=lambda: next(fleet.seconds),
    )
    shown = {"server": {"token": "***"}}
    settings = Settings(file=config, digest="as it was", state_dir=Path(), shown=shown)
    access = Access(TOKEN, record)
    return build_api(queries, fleet, Configuration(settings, {}), access, nowhere, body_bytes=10_000)


class Door:
    def __init__(self, views: Views, fleet: Fleet, config: Path) -> None:
        self.fleet, self.views = fleet, views
        self.recorded: list[Event] = []
        log = EventLog([], codec=Codec(epoch="e1", hash_key=b"k"), backlog_bytes=1000)
        self.guard = api(views, log, fleet, record=self.recorded.append, config=config)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.guard),
            base_url="http://hangar/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )

    async def get(self, path: str) -> Any:
        response = await self.http.get(path)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    views = Views(epoch="e1", keep=1 << 20)
    codec = Codec(epoch="e1", hash_key=b"k")
    await views.see([codec.encode(event, seq) for seq, event in enumerate(EVENTS, 1)])
    made = Door(views, Fleet(), tmp_path / "hangar.yaml")
    async with made.http:
        yield made


DOORS = {
    ("GET", path)
    for path in (
        "/status", "/config", "/config/check",
        "/providers", "/providers/{name}", "/providers/{name}/logs",
        "/providers/{name}/tools", "/providers/{name}/prompts", "/providers/{name}/resources",
        "/tools", "/prompts", "/resources", "/calls", "/calls/{id}", "/sessions", "/sessions/{id}", "/events",
        "/openapi.json", "/docs",
    )
} | {
    ("POST", path)
    for path in (
        "/providers/{name}/start", "/providers/{name}/meet", "/providers/{name}/stop", "/calls", "/codes", "/login",
    )
}  # fmt: skip
"""Every door there is. One more is added here by whoever builds it, having thought of who may use it."""


def real(path: str) -> str:
    """With names of things that are there."""
    return path.replace("{name}", "time").replace("/sessions/{id}", "/sessions/s1").replace("/calls/{id}", "/calls/c1")


GETS = sorted(real(path) for method, path in DOORS if method == "GET" and path not in ("/openapi.json", "/docs"))
POSTS = sorted(real(path) for method, path in DOORS if method == "POST")


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    value: dict[str, Any] = response.json()
    assert (value["code"], value["status"], value["type"]) == (code, status, f"urn:mcp-hangar:error:{code}")
    assert value["title"]
    assert value["why"]
    assert value["fix"]
    return value


def doors(guard: Guard) -> set[tuple[str, str]]:
    """What the application itself says it answers."""
    return {
        (method, route.path.removeprefix("/api/v1"))
        for route in guard.app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }


async def test_every_door_is_known(door: Door) -> None:
    assert doors(door.guard) == DOORS
    assert len(door.guard.app.routes) == len(DOORS), "something is mounted that is no route"
    description = await door.get("/openapi.json")
    told = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in description["paths"].items()
        for method in methods
    }
    assert told == DOORS - {("GET", "/openapi.json"), ("GET", "/docs")}
    assert {("POST", "/api/v1/login")} == OPEN


WRONG: list[dict[str, str]] = [
    {}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"}, {"Cookie": f"token={TOKEN}"},
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), sorted(DOORS))
async def test_no_door_opens_without_the_admin_token(door: Door, method: str, path: str) -> None:
    for headers in WRONG:
        request = door.http.build_request(method, real(path), json={"provider": "time", "tool": "now", "code": "x"})
        del request.headers["authorization"]
        request.headers.update(headers)
        response = await door.http.send(request)
        if (method, f"/api/v1{path}") in OPEN:
            assert response.status_code in (400, 401)
        else:
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
    assert door.fleet.stopped == set()
    assert door.fleet.invoked == []


@pytest.mark.parametrize("path", ["/nowhere", "/../openapi.json", "/docs?code=", "/docs?code=x", "/stream"])
async def test_what_is_no_door_says_nothing_either(door: Door, path: str) -> None:
    problem(await door.http.get(path, headers={"Authorization": "Bearer x"}), 401, "unauthorized")


async def test_two_tokens_are_none(door: Door) -> None:
    twice = httpx.Headers([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")])
    request = httpx.Request("GET", "http://hangar/api/v1/status", headers=twice)
    problem(await door.http.send(request), 401, "unauthorized")


async def test_a_code_opens_the_docs_once_and_nothing_else(door: Door) -> None:
    stranger = {"Authorization": ""}
    code = (await door.http.post("/codes")).json()["code"]
    problem(await door.http.get(f"/status?code={code}", headers=stranger), 401, "unauthorized")
    problem(await door.http.post(f"/docs?code={code}", headers=stranger), 401, "unauthorized")
    response = await door.http.get(f"/docs?code={code}", headers=stranger)
    assert response.status_code == 200
    assert response.headers["referrer-policy"] == "no-referrer"
    problem(await door.http.get(f"/docs?code={code}", headers=stranger), 401, "unauthorized")


async def test_a_code_is_traded_once_for_a_session_token_that_opens_all_but_new_codes(door: Door) -> None:
    code = (await door.http.post("/codes")).json()["code"]
    stranger = {"Authorization": ""}
    token = (await door.http.post("/login", json={"code": code}, headers=stranger)).json()["token"]
    problem(await door.http.post("/login", json={"code": code}, headers=stranger), 401, "unauthorized")
    assert TOKEN not in token
    session = {"Authorization": f"Bearer {token}"}
    assert (await door.http.get("/status", headers=session)).status_code == 200
    problem(await door.http.post("/codes", headers=session), 401, "unauthorized")


@pytest.mark.parametrize(
    ("body", "code"), [(b"", "parse_error"), (b"[]", "invalid_params"), (b'{"code":1}', "invalid_params"),
                       (b'{"code":"x","y":1}', "invalid_params"), (b'{"code":"' + b"x" * 2000, "body_too_large")],
)  # fmt: skip
async def test_a_login_takes_a_code_and_nothing_else(door: Door, body: bytes, code: str) -> None:
    response = await door.http.post("/login", content=body, headers={"Content-Type": "application/json"})
    problem(response, 413 if code == "body_too_large" else 400, code)


async def test_knocking_in_vain_is_recorded_and_cannot_fill_the_record(door: Door) -> None:
    for _ in range(50):
        await door.http.get("/status", headers={"Authorization": "Bearer wrong"})
    assert 1 <= len(door.recorded) <= 5
    assert door.recorded[0].reason == "no valid admin token"


async def description_of(door: Door, method: str, path: str) -> tuple[Any, Any]:
    description = await door.get("/openapi.json")
    operation = description["paths"][f"/api/v1{path}"][method.lower()]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return operation, {**schema, "components": description["components"]}


DESCRIBED = sorted(DOORS - {("GET", "/openapi.json"), ("GET", "/docs")})


@pytest.mark.parametrize(("method", "path"), DESCRIBED)
async def test_every_answer_is_as_the_description_says(door: Door, method: str, path: str) -> None:
    _, schema = await description_of(door, method, path)
    body: dict[str, str] | None = {"provider": "time", "tool": "now"} if path == "/calls" else None
    if path == "/login":
        body = {"code": (await door.http.post("/codes")).json()["code"]}
    response = await (door.http.post(real(path), json=body) if method == "POST" else door.http.get(real(path)))
    assert response.status_code == 200, response.text
    jsonschema_rs.validator_for(schema).validate(response.json())


@pytest.mark.parametrize(("method", "path"), DESCRIBED)
async def test_every_route_is_described_with_a_tag_an_example_and_what_its_parameters_mean(
    door: Door, method: str, path: str
) -> None:
    operation, schema = await description_of(door, method, path)
    assert operation["description"] and operation["tags"] and operation["operationId"]
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    jsonschema_rs.validator_for(schema).validate(example)
    for parameter in operation.get("parameters", ()):
        assert parameter["description"], parameter
        assert parameter["schema"]["examples"], parameter
    assert operation["responses"]["default"]["content"]["application/problem+json"]["schema"]


async def test_the_description_as_a_whole(door: Door) -> None:
    description = await door.get("/openapi.json")
    jsonschema_rs.meta.validate(description["components"]["schemas"]["StatusRow"])
    assert description["components"]["securitySchemes"]["admin"]["scheme"] == "bearer"
    assert description["security"] == [{"admin": []}]
    used = {tag for methods in description["paths"].values() for one in methods.values() for tag in one["tags"]}
    assert used == {tag["name"] for tag in description["tags"]}
    ids = [one["operationId"] for methods in description["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))
    assert set(EXAMPLES) == set(ids)
    members = description["components"]["schemas"]["ProviderRow"]["properties"]
    assert members["held"]["description"] == "Stopped by an operator until it is started."


@pytest.mark.parametrize("path", [path for path in GETS if path != "/config/check"])
async def test_whoever_has_it_already_hears_so_until_something_changes(door: Door, path: str) -> None:
    first = await door.http.get(path)
    tag = first.headers["etag"]
    again = await door.http.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    listed = await door.http.get(path, headers={"If-None-Match": f'"other", {tag.removeprefix("W/")}'})
    assert listed.status_code == 304
    assert (await door.http.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_new_event_is_something_new(door: Door) -> None:
    for path in ("/calls", "/calls/c1", "/events", "/events?family=auth"):
        tag = (await door.http.get(path)).headers["etag"]
        codec = Codec(epoch="e1", hash_key=b"k")
        event = CallAdmitted(at=6.0, call_id="c4", provider="time", method="tools/call", name="now")
        await door.views.see([codec.encode(event, door.views.kept.last + 1)])
        assert (await door.http.get(path, headers={"If-None-Match": tag})).status_code == 200


async def test_a_provider_that_stops_is_something_new_and_growing_older_is_not(door: Door) -> None:
    tags = {path: (await door.http.get(path)).headers["etag"] for path in ("/status", "/providers")}
    for path, tag in tags.items():
        assert (await door.http.get(path, headers={"If-None-Match": tag})).status_code == 304
    await door.http.post("/providers/time/stop")
    for path, tag in tags.items():
        assert (await door.http.get(path, headers={"If-None-Match": tag})).status_code == 200


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
    assert (await door.get("/tools?provider=git")) == {"tools": [], "unknown": ["git"], "cursor": ""}


async def test_prompts_and_resources_are_found_as_their_provider_defines_them(door: Door) -> None:
    assert PROMPT in (await door.http.get("/prompts?query=asks")).content
    both = (await door.get("/resources"))["resources"]
    assert [(row["uri"], row["template"], row["mime_type"]) for row in both] == [
        ("file:///zones", False, "text/plain"),
        ("zone://{name}", True, ""),
    ]
    assert (await door.get("/resources?kind=template"))["resources"] == both[1:]
    assert (await door.get("/providers/time/resources?kind=resource"))["resources"] == both[:1]
    assert (await door.get("/providers/git/prompts")) == {"prompts": [], "unknown": ["git"], "cursor": ""}
    for kind in ("tools", "prompts", "resources"):
        problem(await door.http.get(f"/providers/none/{kind}"), 404, "unknown_provider")


async def test_providers_are_filtered_and_paged(door: Door) -> None:
    async def names(query: str) -> list[str]:
        return [row["name"] for row in (await door.get(f"/providers?{query}"))["providers"]]

    first = await door.get("/providers?limit=1")
    assert [row["name"] for row in first["providers"]] == ["git"]
    assert await names(f"limit=1&cursor={first['cursor']}") == ["time"]
    assert await names("state=ready") == ["time"]
    assert await names("mode=remote") == []
    await door.http.post("/providers/git/stop")
    assert await names("state=held") == ["git"]


async def test_sessions_are_those_that_are_open_and_those_that_called(door: Door) -> None:
    opened: dict[str, Any] = {"caller": ANONYMOUS, "version": "2025-11-25", "client": "x/1", "scope": "time"}
    door.fleet.open.append(ClientSession(id="s9", capabilities=NO_CAPABILITIES, info=b"{}", **opened))
    rows = {row["id"]: row for row in (await door.get("/sessions"))["sessions"]}
    assert set(rows) == {"s1", "s9"}
    assert (rows["s9"]["open"], rows["s9"]["door"], rows["s9"]["counts"]["calls"]) == (True, "time", 0)
    assert (rows["s1"]["open"], rows["s1"]["counts"]["calls"], rows["s1"]["counts"]["failed"]) == (False, 2, 1)
    assert [row["id"] for row in (await door.get("/sessions?state=open"))["sessions"]] == ["s9"]
    assert [row["id"] for row in (await door.get("/sessions?limit=1&cursor=s1/"))["sessions"]] == ["s9"]
    assert (await door.get("/sessions?caller=nobody"))["sessions"] == []
    assert await door.get("/sessions/s1") == rows["s1"]
    problem(await door.http.get("/sessions/none"), 404, "session_unknown_here")


async def test_the_configuration_is_shown_masked_and_checked_again_from_its_file(door: Door, tmp_path: Path) -> None:
    assert (await door.get("/config"))["config"] == {"server": {"token": "***"}}
    missing = await door.get("/config/check")
    assert not missing["ok"] and missing["changed"] and missing["problems"][0]["what"].startswith("cannot be read")
    assert missing["problems"][0]["code"] == "config_unreadable"
    (tmp_path / "hangar.yaml").write_text("version: 1\nprovders: {}\n")
    wrong = await door.get("/config/check")
    (problem_,) = wrong["problems"]
    assert (wrong["ok"], problem_["line"], problem_["code"]) == (False, 2, "config_unknown_key")
    (tmp_path / "hangar.yaml").write_text("version: 1\n")
    right = await door.get("/config/check")
    assert (right["ok"], right["changed"], right["problems"]) == (True, True, [])
    problem(await door.http.get("/config/check?file=/etc/passwd"), 400, "invalid_params")


async def test_calls_are_filtered_paged_and_told(door: Door) -> None:
    async def ids(query: str) -> list[str]:
        return [call["id"] for call in (await door.get(f"/calls?{query}"))["calls"]]

    assert await ids("") == ["c3", "c2", "c1"]
    assert await ids("provider=time&outcome=failed") == ["c3"]
    assert await ids("state=denied") == ["c2"]
    assert await ids("since=1970-01-01T00:00:03Z") == ["c3", "c2"]
    assert await ids("since=1970-01-01T02:00:03.5%2B02:00") == ["c3"]
    assert await ids("until=1970-01-01T00:00:03Z") == ["c1"]
    first = await door.get("/calls?limit=2")
    assert await ids(f"limit=2&cursor={first['cursor']}") == ["c1"]
    denied = await door.get("/calls/c2")
    assert denied["call"]["policy"] == "p"
    assert any("denied" in line and "by p: no." in line for line in denied["story"])
    assert [event["type"] for event in denied["events"]] == ["call.denied"]
    problem(await door.http.get("/calls/none"), 404, "unknown_call")


async def test_events_go_on_after_a_cursor_and_tell_gaps(door: Door) -> None:
    page = await door.get("/events?cursor=e1:3&limit=1")
    assert [event["seq"] for event in page["events"]] == [4]
    assert page["cursor"] == "e1:4"
    assert (await door.get("/events?cursor=e0:9"))["gap"]["first"] == "e0:9"
    assert [event["seq"] for event in (await door.get("/events?family=call.denied,auth"))["events"]] == [3]
    assert [event["seq"] for event in (await door.get("/events?call=c1&provider=time"))["events"]] == [1, 2]
    assert (await door.get("/events?severity=medium"))["events"] == []
    problem(await door.http.get("/events?cursor=nonsense"), 400, "invalid_params")
    problem(await door.http.get("/events?cursor=e1:999"), 400, "invalid_cursor")
    problem(await door.http.get("/calls?cursor=e0:9"), 409, "stale_cursor")


async def test_a_call_goes_through_with_its_arguments_as_they_came(door: Door) -> None:
    body = b'{"provider":"time","tool":"now","arguments": {"n": 1.50, "z":"\\u00e9", "a":[ ]}}'
    response = await door.http.post("/calls", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
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
    response = await door.http.post("/calls", json={"provider": "time", "tool": "now"})
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
    response = await door.http.post("/calls", content=body, headers={"Content-Type": "application/json"})
    problem(response, status, code)
    assert door.fleet.invoked == []


async def test_a_form_of_a_web_page_is_not_a_call(door: Door) -> None:
    body = b'{"provider":"time","tool":"now"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        problem(
            await door.http.post("/calls", content=body, headers={"Content-Type": kind}), 415, "unsupported_media_type"
        )
    assert door.fleet.invoked == []


@pytest.mark.parametrize(
    "query",
    [
        "/calls?providr=time", "/calls?limit=0", "/calls?limit=1001", "/calls?limit=x", "/calls?outcome=nice",
        "/calls?since=yesterday", "/calls?since=2026-02-30T00:00:00Z", "/calls?since=2026-01-01", "/calls?state=",
        "/events?severity=bad", "/events?family=call,nothing", "/providers?state=x", "/resources?kind=x",
        "/events?limit=99999", "/status?x=1", "/tools?query=" + "x" * 201,
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
    response = await door.http.put("/calls")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, POST"
    upgrade = await door.http.get("/stream")
    problem(upgrade, 426, "upgrade_required")
    assert upgrade.headers["upgrade"] == "websocket"
    problem(await door.http.get("/providers/none"), 404, "unknown_provider")


async def test_a_defect_is_answered_with_a_reference_and_no_internals(door: Door) -> None:
    door.fleet.error = ZeroDivisionError("secret internals")
    response = await door.http.post("/calls", json={"provider": "time", "tool": "now"})
    value = problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "Report it" in value["fix"]


def test_without_an_admin_token_there_is_no_operator_plane() -> None:
    with pytest.raises(ValueError, match="admin token"):
        Access("")
