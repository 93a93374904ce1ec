# SPDX-License-Identifier: MIT
"""The client against a running Hangar: every route, the typed answers, the stream and how it goes on after a break."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, get_origin, get_type_hints

import pytest

from mcp_hangar.client import Address, HangarClient, NotRunning, Refused, shapes
from mcp_hangar.client.stream import Stream
from scripts.generate_reference import openapi
from tests.house import (
    fixture_command,
    hangar_command,
    hangar_environment,
    house,
    subprocess_provider,
    write_config,
)
from tests.processes import START_LIMIT, Running, closed_port, free_port, running

TOKEN = "an-admin-token-of-tests"
FIXTURE = fixture_command("--transport", "stdio")
SERVER = {"admin_token": TOKEN}
PROVIDERS = {"time": subprocess_provider(FIXTURE), "cold": subprocess_provider(["/bin/false"])}


@pytest.fixture(scope="module")
def hangar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HangarClient]:
    with house(tmp_path_factory.mktemp("hangar"), PROVIDERS, server=SERVER) as started:
        address = Address(url=f"http://127.0.0.1:{started.port}")
        with HangarClient(address, TOKEN, timeout=START_LIMIT) as client:
            client.call("time", "greet", {"name": "warm"})
            yield client


@pytest.fixture
def asked(hangar: HangarClient) -> Iterator[list[tuple[str, str]]]:
    """What the client requested, as method and path."""
    found: list[tuple[str, str]] = []
    hooks = hangar._http.event_hooks
    hangar._http.event_hooks = {"request": [lambda request: found.append((request.method, request.url.path))]}
    yield found
    hangar._http.event_hooks = hooks


def test_there_is_a_method_for_every_route(hangar: HangarClient, asked: list[tuple[str, str]]) -> None:
    assert hangar.status()["state"] == "ready"
    assert hangar.config()["config"]["server"]["admin_token"] == "***"
    assert hangar.check_config() == {
        "ok": True, "changed": False, "problems": [],
        "file": hangar.config()["file"], "digest": hangar.config()["digest"],
    }  # fmt: skip
    assert [row["name"] for row in hangar.providers()] == ["cold", "time"]
    assert [row["name"] for row in hangar.providers(state="ready")] == ["time"]
    assert hangar.provider("time")["tools"]
    assert isinstance(hangar.logs("time", 5), list)
    assert hangar.stop("cold")["held"] is True
    assert hangar.start("cold")["held"] is False
    assert hangar.meet("cold")["tools"] is None
    tools = hangar.tools()
    assert tools["unknown"] == ["cold"] and {"greet"} < {tool["name"] for tool in tools["tools"]}
    assert hangar.prompts("time")["prompts"] and hangar.resources()["resources"]
    assert {row["template"] for row in hangar.resources(kind="template")["resources"]} == {True}
    answer = hangar.call("time", "greet", {"name": "é"})
    assert "é" in str(answer["result"]["content"])
    detail = hangar.call_detail(answer["call_id"])
    assert (detail["call"]["state"], [event["type"] for event in detail["events"]]) == (
        "completed",
        ["call.admitted", "call.completed"],
    )
    assert answer["call_id"] in {call["id"] for call in hangar.all_calls(provider="time", outcome="ok")}
    assert hangar.calls(limit=1, outcome="input_required")["calls"] == []
    (session,) = [each for each in hangar.sessions(caller="operator") if each["id"] == "operator"]
    assert hangar.session("operator")["counts"]["calls"] >= session["counts"]["calls"] > 0
    events = list(hangar.all_events(family="call", call=answer["call_id"]))
    assert [event["type"] for event in events] == ["call.admitted", "call.completed"]
    assert hangar.log_in(hangar.new_code()["code"])["token"]
    described = {
        (method.upper(), path)
        for path, methods in hangar.openapi()["paths"].items()
        for method in methods
        if not re.search(r"/providers/\{name\}/(tools|prompts|resources)", path)  # the filter `provider` says the same
    }
    used = {
        (method, path)
        for method, path in described
        for done in asked
        if method == done[0] and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), done[1])
    }
    assert described == used


def test_lists_of_many_pages_come_whole(hangar: HangarClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hangar.tools()
    ask = hangar._ask

    def few(method: str, path: str, **more: Any) -> Any:
        if more.get("params", {}).get("limit") == 1000:
            more["params"] = {**more["params"], "limit": 2}
        return ask(method, path, **more)

    monkeypatch.setattr(hangar, "_ask", few)
    assert len(whole["tools"]) > 4
    assert hangar.tools() == whole


def test_what_hangar_refuses_is_raised_with_its_code(hangar: HangarClient) -> None:
    for ask, status, code in (
        (lambda: hangar.provider("none"), 404, "unknown_provider"),
        (lambda: hangar.call("time", "none"), 404, "unknown_tool"),
        (lambda: hangar.calls(outcome="nice"), 400, "invalid_params"),
        (lambda: next(hangar.stream(families=["nothing"])), 400, "invalid_params"),
        (lambda: next(hangar.stream(after="e:1x")), 400, "invalid_cursor"),
        (lambda: next(HangarClient(hangar.address, "wrong").stream()), 401, "unauthorized"),
    ):
        with pytest.raises(Refused) as caught:
            ask()
        assert (caught.value.status, caught.value.code) == (status, code)
    with pytest.raises(Refused) as caught:
        hangar.call("cold", "x")
    assert caught.value.code == "start_failed"
    assert hangar.call_detail(caught.value.call_id)["call"]["code"] == "start_failed"


SHAPES = {
    "Status": "StatusRow", "Provider": "ProviderRow", "Instance": "InstanceRow", "Counts": "ProviderCounts",
    "Record": "RecordRow", "Tool": "ToolRow", "Prompt": "PromptRow", "Resource": "ResourceRow", "Tools": "ToolList",
    "Prompts": "PromptList", "Resources": "ResourceList", "Call": "CallRow", "Calls": "CallPage",
    "CallDetail": "CallDetail", "CallAnswer": "CallAnswer", "Gap": "Gap", "Events": "EventPage",
    "Session": "SessionRow", "SessionCounts": "SessionCounts", "Config": "EffectiveConfig",
    "ConfigProblem": "ProblemRow", "ConfigCheck": "ConfigCheck", "Code": "Code", "Login": "Login",
}  # fmt: skip


def test_the_types_of_answers_have_the_members_that_rest_describes() -> None:
    described = openapi()["components"]["schemas"]
    shown = {name for name, each in vars(shapes).items() if hasattr(each, "__required_keys__")}
    assert shown - {"Event"} == set(SHAPES)
    for name, schema in SHAPES.items():
        assert set(getattr(shapes, name).__annotations__) == set(described[schema]["properties"]), name
    always = {"id", "state"}
    hints = get_type_hints(shapes.Call, include_extras=True)
    assert {member for member, hint in hints.items() if get_origin(hint) is not NotRequired} == always
    assert set(described["CallRow"]["required"]) == always


# the stream


def test_the_stream_tells_what_happens_from_its_opening_on(hangar: HangarClient) -> None:
    with hangar.stream(families=["call"], providers=["time"]) as stream:
        stream.open()
        made = hangar.call("time", "greet", {"name": "x"})["call_id"]
        first, second = next(stream), next(stream)
        assert (first["type"], first["call_id"]) == ("call.admitted", made)
        assert (second["type"], second["call_id"]) == ("call.completed", made)
        assert stream.cursor == f"{second['epoch']}:{second['seq']}"
    assert list(stream) == []


def test_a_stream_stops_when_another_thread_closes_it(hangar: HangarClient) -> None:
    stream = hangar.stream(families=["auth"])
    stream.open()
    heard: list[shapes.Event] = []
    reading = threading.Thread(target=lambda: heard.extend(stream))
    reading.start()
    stream.close()
    reading.join(START_LIMIT)
    assert not reading.is_alive()
    assert heard == []


@contextlib.contextmanager
def started(config: Path, port: int) -> Iterator[Running]:
    with running(
        hangar_command(config), config.with_name("hangar.log"), env=hangar_environment(), cwd=config.parent
    ) as hangar:
        hangar.wait_for_port(port)
        yield hangar


def test_a_stream_survives_a_restart_and_tells_that_it_was_another_run(tmp_path: Path) -> None:
    port = free_port()
    server = {**SERVER, "listen": f"127.0.0.1:{port}"}
    config = write_config(tmp_path, {"time": subprocess_provider(FIXTURE)}, "m", server=server)
    client = HangarClient(Address(url=f"http://127.0.0.1:{port}"), TOKEN)
    with client, client.stream(patience=START_LIMIT, families=["system"]) as stream:
        with started(config, port):
            stream.open()
            before = stream.cursor.partition(":")[0]
        with started(config, port):
            told = _until(stream, "system.started")
    kinds = [event["type"] for event in told]
    assert kinds[:2] in (["system.stopping", "gap"], ["gap", "system.started"])
    gap = told[kinds.index("gap")]
    assert gap["first"].startswith(f"{before}:")
    assert told[-1]["epoch"] != before


def _until(stream: Stream, kind: str) -> list[shapes.Event]:
    found = [next(stream)]
    while found[-1]["type"] != kind:
        found.append(next(stream))
    return found


class Cable:
    """A Unix socket that carries connections to another one, until it is cut."""

    def __init__(self, path: Path, to: Path) -> None:
        self._to = to
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ends: list[socket.socket] = []
        self.carried = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                far.connect(str(self._to))
                self._ends += [near, far]
                self.carried += 1
                for ends in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._carry, args=ends))
                    self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(START_LIMIT)


def test_over_a_unix_socket_that_breaks_the_stream_goes_on_without_loss_or_repetition(tmp_path: Path) -> None:
    path = tmp_path / "operators.sock"
    server = {**SERVER, "admin_listen": f"unix:{path}"}
    near = HangarClient(Address(socket=str(path)), TOKEN)
    with house(tmp_path, {"time": subprocess_provider(FIXTURE)}, server=server), near:
        with near.stream(patience=START_LIMIT) as stream:
            stream.open()  # waits until there is a socket
        assert near.check_config()["ok"]
        cable = Cable(tmp_path / "cable.sock", path)
        far = HangarClient(Address(socket=str(tmp_path / "cable.sock")), TOKEN)
        with contextlib.closing(cable), far.stream(families=["call.completed"], patience=START_LIMIT) as stream:
            stream.open()
            made: list[str] = []
            heard: list[str] = []
            for round_ in range(4):
                made += [near.call("time", "greet", {"name": str(round_)})["call_id"] for _ in range(3)]
                heard.append(next(stream)["call_id"])
                cable.cut()
            while len(heard) < len(made):
                heard.append(next(stream)["call_id"])
            assert heard == made
            assert cable.carried > 1


def test_where_nobody_is_there_is_no_stream() -> None:
    with closed_port() as closed:
        for address in (Address(url=f"http://127.0.0.1:{closed}"), Address(socket="/nowhere/hangar.sock")):
            with HangarClient(address, TOKEN) as client, pytest.raises(NotRunning):
                next(client.stream(patience=0))
