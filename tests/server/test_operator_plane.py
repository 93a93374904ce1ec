# SPDX-License-Identifier: MIT
"""What is beside MCP: health for probes, REST behind the admin token, and calls from there on the one path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcp_hangar.server.doors import Doors
from mcp_hangar.server.operator_access import Access
from mcp_hangar.server.operator_plane import OperatorPlane, rest
from tests.fakes import Server
from tests.inside import Inside, inside

pytestmark = pytest.mark.anyio
TOKEN = "an-admin-token-of-tests"
ADMIN = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def plane(
    folder: Path, stub: Server | None = None, *, doors: bool = True, with_rest: bool = True, **more: Any
) -> AsyncIterator[tuple[Inside, httpx.AsyncClient]]:
    async with inside(folder, stub, **more) as house:
        shut = Doors(host="127.0.0.1", port=8000, allowed_hosts=(), allowed_origins=()) if doors else None
        app = OperatorPlane(house.house, shut, rest(house.house, Access(TOKEN)) if with_rest else None)
        transport: Any = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
            yield house, http


async def test_health_answers_without_a_token_and_a_cold_provider_is_no_reason_not_to_be_ready(tmp_path: Path) -> None:
    async with plane(tmp_path) as (house, http):
        assert (await http.get("/healthz")).json() == {"status": "alive"}
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        assert not house.launcher.launched, "nobody was started to find out"


async def test_who_is_stopping_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with plane(tmp_path) as (house, http):
        await house.house.stop(0)
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["why"]) == (503, "stopping")


async def test_who_cannot_record_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with plane(tmp_path) as (house, http):
        monkeypatch.setattr(house.house.log, "full", True)
        monkeypatch.setattr(house.house.log, "detail", "the disk is full")
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["why"]) == (503, "the disk is full")


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/providers", "/api/v1/calls"])
async def test_rest_needs_the_admin_token_always(tmp_path: Path, path: str) -> None:
    async with plane(tmp_path, token="an-agents-token") as (_, http):
        for headers in ({}, {"authorization": "Bearer an-agents-token"}, {"authorization": f"Basic {TOKEN}"}):
            assert (await http.get(path, headers=headers)).status_code == 401
        assert (await http.get(path, headers=ADMIN)).status_code == 200


async def test_where_operators_have_an_address_of_their_own_only_health_is_left_here(tmp_path: Path) -> None:
    async with plane(tmp_path, with_rest=False) as (_, http):
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/api/v1/status", headers=ADMIN)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("path", ["/", "/nothing", "/apiary", "/health"])
async def test_what_is_not_there_is_told_as_a_problem(tmp_path: Path, path: str) -> None:
    async with plane(tmp_path) as (_, http):
        answer = await http.get(path, headers=ADMIN)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:mcp-hangar:error:not_found")


@pytest.mark.parametrize(
    ("headers", "status"), [({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403)]
)
async def test_another_host_or_origin_gets_nothing_not_even_health(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with plane(tmp_path) as (_, http):
        for path in ("/healthz", "/api/v1/status"):
            assert (await http.get(path, headers={**ADMIN, **headers})).status_code == status


async def test_on_a_unix_socket_the_host_does_not_matter(tmp_path: Path) -> None:
    async with plane(tmp_path, doors=False) as (_, http):
        assert (await http.get("/healthz", headers={"host": "anything"})).status_code == 200
        assert (await http.get("/api/v1/status", headers={"host": "anything"})).status_code == 401


async def test_a_tool_called_from_here_is_judged_and_recorded_as_any_other(tmp_path: Path) -> None:
    async with plane(tmp_path, provider={"tools": {"deny": ["fails"]}}) as (house, http):

        async def call(tool: str) -> httpx.Response:
            body = {"provider": "time", "tool": tool, "arguments": {}}
            return await http.post("/api/v1/calls", json=body, headers=ADMIN)

        answer = await call("echo")
        assert answer.status_code == 200 and answer.json()["result"]["content"][0]["text"] == "hi"
        denied_, unknown = await call("fails"), await call("nothing")
        assert (denied_.status_code, denied_.json()["type"]) == (unknown.status_code, unknown.json()["type"])
        assert (await call("wrong")).status_code == 502
        ends = await house.all_over()
        assert answer.json()["call_id"] in {end["call_id"] for end in ends}
        denied, _ = await house.record("call.denied")
        assert (denied["caller"], denied["caller_type"]) == ("operator", "operator")


async def test_a_provider_that_was_never_asked_is_started_and_asked_and_one_that_is_held_is_not(tmp_path: Path) -> None:
    async with plane(tmp_path) as (_, http):
        path = "/api/v1/providers/time"
        assert (await http.get(path, headers=ADMIN)).json()["tools"] is None
        await http.post(f"{path}/stop", headers=ADMIN)
        assert (await http.post(f"{path}/meet", headers=ADMIN)).json()["tools"] is None
        await http.post(f"{path}/start", headers=ADMIN)
        met = (await http.post(f"{path}/meet", headers=ADMIN)).json()
        assert met["tools"] and met["state"] == "ready"
        assert (await http.post("/api/v1/providers/none/meet", headers=ADMIN)).status_code == 404


async def test_a_provider_is_stopped_and_started_from_here(tmp_path: Path) -> None:
    async with plane(tmp_path) as (house, http):
        for action, held in (("stop", True), ("start", False)):
            answer = await http.post(f"/api/v1/providers/time/{action}", headers=ADMIN)
            assert answer.status_code < 300, answer.text
            assert house.house.instances.held("time") is held
