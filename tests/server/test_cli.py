# SPDX-License-Identifier: MIT
"""The command line as people run it: a process of its own, against a listening Hangar's REST."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import typer
import uvicorn
from typer.testing import CliRunner

from mcp_hangar import __version__
from mcp_hangar.application.event_codec import Codec
from mcp_hangar.application.event_log import EventLog
from mcp_hangar.application.views import Views
from mcp_hangar.client import Address, HangarClient, HangarError, NotRunning, Refused, running
from mcp_hangar.domain.errors import Denied
from mcp_hangar.infrastructure.run_directory import RunDirectory
from mcp_hangar.server.cli.arguments import read_arguments
from mcp_hangar.server.cli.calls import moment
from mcp_hangar.server.cli.logs import fresh
from mcp_hangar.server.cli.main import build
from mcp_hangar.server.cli.output import fit, safe
from mcp_hangar.server.cli.tools import risk
from scripts import cli_page
from tests.processes import closed_port
from tests.server.test_api import EVENTS, Fleet, api
from tests.warm import Warm, warm

TOKEN = "an-admin-token-of-tests"
RUN = "import sys; from mcp_hangar.server.cli.main import main; sys.argv[0] = 'hangar'; main()"


class Answering(Fleet):
    result: bytes = b'{"content":[{"type":"text","text":"it is late"}],"isError":false}'

    async def invoke(self, name: str, tool: str, arguments: bytes) -> dict[str, object]:
        answer = await super().invoke(name, tool, arguments)
        return {**answer, "result": msgspec.Raw(self.result)}


class Hangar:
    """REST of a made-up house on a real port, announced in a folder of state."""

    def __init__(self, state: Path, command: Warm | None) -> None:
        self.state = state
        self.command = command
        self.fleet = Answering()
        self.lines = ["one", "evil \x1b[2J line", "three"]
        views = Views(epoch="e1", keep=1 << 20)
        codec = Codec(epoch="e1", hash_key=b"k")
        asyncio.run(views.see([codec.encode(event, seq) for seq, event in enumerate(EVENTS, 1)]))
        self.log = EventLog([], codec=codec, backlog_bytes=1000)
        app = api(views, self.log, self.fleet, lines=self.lines)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", access_log=False))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()
        state.mkdir(mode=0o700)
        (state / "admin.token").write_text(TOKEN + "\n")
        self.run_directory = RunDirectory(state)
        self.run_directory.announce(url=self.url, token_file=str(state / "admin.token"))

    def close(self) -> None:
        self.run_directory.close()
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HANGAR_")}
        env |= {"HANGAR_STATE_DIR": str(self.state)} | environment
        assert self.command is not None
        done = self.command(*arguments, cwd=Path.cwd(), env=env)
        assert done.code == code, done.stdout + done.stderr
        self.stderr = done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HANGAR_")} | environment
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env=env, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("warm")) as command:
        yield command


@pytest.fixture
def hangar(tmp_path: Path, command: Warm) -> Iterator[Hangar]:
    made = Hangar(tmp_path / "state", command)
    yield made
    made.close()


def test_status_tells_how_everything_fares(hangar: Hangar) -> None:
    lines = hangar("status").splitlines()
    assert lines[0].startswith("mcp-hangar 3, process")
    assert lines[0].endswith(": ready")
    rows = [line.split("\t") for line in lines[2:]]
    assert [row[:3] for row in rows[1:]] == [["git", "subprocess", "cold"], ["time", "subprocess", "ready"]]
    assert "network" in rows[1][rows[0].index("unenforced")]
    assert json.loads(hangar("status", "--json"))["totals"]["calls"] == 2
    hangar.log.full, hangar.log.detail = True, "audit: disk full"
    assert "audit: disk full" in hangar("status", code=1)


def test_tools_lists_names_in_columns_and_definitions_in_json(hangar: Hangar) -> None:
    assert hangar("tools").splitlines() == [
        "provider\ttool\tstate\trisk\tdenied by\tdescription",
        "time\tnow\tready\t-\t-\tTells the time",
    ]
    assert "git" in hangar.stderr
    assert hangar.fleet.met == ["git"]
    assert "git" in hangar("tools", "--no-start") + hangar.stderr
    assert hangar.fleet.met == ["git"]
    assert json.loads(hangar("tools", "time", "--json"))["tools"][0]["definition"]["x-new"] == 1.5


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, "-"), ({}, "-"), ({"title": "x"}, "-"), ({"readOnlyHint": True}, "reads"),
        ({"readOnlyHint": True, "destructiveHint": True}, "reads"), ({"readOnlyHint": False}, "destructive"),
        ({"destructiveHint": False}, "writes"), ({"openWorldHint": True}, "destructive outside"),
        ({"readOnlyHint": True, "openWorldHint": True}, "reads outside"), ({"readOnlyHint": "yes"}, "-"),
    ],
)  # fmt: skip
def test_what_a_tool_says_of_itself_is_a_word_and_silence_is_no_promise(annotations: object, expected: str) -> None:
    assert risk({"annotations": annotations}) == expected


def test_call_passes_arguments_as_json_or_strings_and_prints_the_text(hangar: Hangar) -> None:
    output = hangar(
        "call", "time", "now", "--arg", "zone=Europe/Berlin", "-a", "n=1.50", "-a", 'l=[1, "x"]', "-a", "e="
    )
    assert output == "it is late\n"
    assert hangar.fleet.invoked == [("time", "now", b'{"zone":"Europe/Berlin","n":1.50,"l":[1, "x"],"e":""}')]
    hangar("call", "time", "now", "--json-args", '{"big": 12345678901234567890.10}')
    assert hangar.fleet.invoked[1][2] == b'{"big": 12345678901234567890.10}'
    assert json.loads(hangar("call", "time", "now", "--json"))["call_id"] == "c9"


def test_a_tools_own_error_is_printed_and_is_status_1(hangar: Hangar) -> None:
    hangar.fleet.result = b'{"content":[{"type":"text","text":"no such zone"}],"isError":true}'
    assert hangar("call", "time", "now", code=1) == "no such zone\n"
    assert "hangar why c9" in hangar.stderr


def test_a_denial_is_status_1_and_says_why_and_where_to_look(hangar: Hangar) -> None:
    hangar.fleet.error = Denied("denied", name="now", policy="p", reason="Not today.", way_out="Ask.", call_id="c2")
    assert hangar("call", "time", "now", code=1) == ""
    assert "denied by p. Not today.\nFix: Ask.\n" in hangar.stderr
    assert "See `hangar why c2` and docs/reference/errors.md#denied" in hangar.stderr
    assert json.loads(hangar("call", "time", "now", "--json", code=1))["code"] == "denied"


def test_why_tells_the_story_of_a_call(hangar: Hangar) -> None:
    output = hangar("why", "c2")
    assert "denied" in output
    assert "policy\tp" in output
    assert "0.000 s\tcall.denied" in output
    assert json.loads(hangar("why", "c2", "--json"))["call"]["state"] == "denied"
    hangar("why", "none", code=1)
    assert "No call none is known." in hangar.stderr


def test_calls_lists_what_was_called_and_how_it_ended(hangar: Hangar) -> None:
    rows = [line.split("\t") for line in hangar("calls").splitlines()]
    assert rows[0] == ["time", "provider", "name", "outcome", "seconds", "caller", "why", "call"]
    assert [(row[1], row[3], row[7]) for row in rows[1:]] == [
        ("time", "failed", "c3"),
        ("git", "denied", "c2"),
        ("time", "ok", "c1"),
    ]
    assert [row["id"] for row in json.loads(hangar("calls", "git", "--json"))["calls"]] == ["c2"]
    assert json.loads(hangar("calls", "--since", "1s", "--json"))["calls"] == []
    assert len(json.loads(hangar("calls", "--since", "1970-01-01T00:00Z", "-n", "1", "--json"))["calls"]) == 1


def test_a_moment_is_so_long_ago_or_a_time() -> None:
    now = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    assert moment("90m", now) == "2026-11-28T10:30:00.000Z"
    assert moment("1d", now) == "2026-11-27T12:00:00.000Z"
    assert moment("2026-11-28T10:00:00+02:00", now) == "2026-11-28T08:00:00.000Z"
    for wrong in ("yesterday", "10", "-5m", "999999d"):
        with pytest.raises(typer.BadParameter):
            moment(wrong, now)


def test_logs_follow_what_a_provider_writes(hangar: Hangar) -> None:
    command = [sys.executable, "-c", RUN, "logs", "time", "-n", "1", "--follow"]
    env = dict(os.environ) | {"HANGAR_STATE_DIR": str(hangar.state)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "three\n"
        hangar.lines[:] = [*hangar.lines[1:], "four"]
        assert following.stdout.readline() == "four\n"
        hangar.lines[:] = [f"line {number}" for number in range(3)]
        assert "missing here" in following.stdout.readline()
        assert [following.stdout.readline() for _ in range(3)] == ["line 0\n", "line 1\n", "line 2\n"]
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130


def test_lines_that_came_since_are_found_by_what_is_left_of_those_before() -> None:
    assert fresh([], ["a"]) == (["a"], False)
    assert fresh(["a", "b"], ["a", "b"]) == ([], False)
    assert fresh(["a", "b", "b"], ["b", "b", "c"]) == (["c"], False)
    assert fresh(["a", "b"], ["c", "d"]) == (["c", "d"], True)
    assert fresh(["a", "b"], []) == ([], True)


@pytest.mark.parametrize(
    "asked",
    [
        ["status"], ["tools"], ["call", "time", "now"], ["calls", "-n", "1"], ["why", "c2"], ["logs", "time"],
        ["start", "time"], ["stop", "time"],
    ],
)  # fmt: skip
def test_json_has_the_members_that_are_documented(hangar: Hangar, asked: list[str]) -> None:
    answered = json.loads(hangar(*asked, "--json"))
    assert set(cli_page.SHAPES[asked[0]]) == set(answered)


def test_every_failure_in_json_has_the_members_that_are_documented(hangar: Hangar) -> None:
    for command in (["why", "none"], ["logs", "none"]):
        assert set(cli_page.FAILURE) <= set(json.loads(hangar(*command, "--json", code=1)))
    failed = json.loads(hangar("call", "time", "now", "--json", code=1, HANGAR_ADMIN_TOKEN="wrong"))
    assert failed["code"] == "unauthorized" and failed["more"] == "docs/reference/errors.md#unauthorized"
    assert json.loads(run("status", "--json", HANGAR_STATE_DIR="/nowhere").stdout)["code"] == "not_running"


def test_status_goes_on_until_it_is_told_to_stop(hangar: Hangar) -> None:
    command = [sys.executable, "-c", RUN, "status", "--watch", "--every", "0.1", "--json"]
    env = dict(os.environ) | {"HANGAR_STATE_DIR": str(hangar.state)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["state"] == "ready"
        hangar.log.full = True
        assert any(json.loads(line)["state"] == "refusing" for line in watching.stdout)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130


def test_logs_show_what_a_provider_wrote_and_cannot_move_the_terminal(hangar: Hangar) -> None:
    assert hangar("logs", "time", "-n", "2") == "evil \\x1b[2J line\nthree\n"
    hangar("logs", "none", code=1)
    assert "git, time" in hangar.stderr


def test_stop_and_start_hold_and_release_a_provider(hangar: Hangar) -> None:
    assert "time" in hangar("stop", "time")
    assert hangar.fleet.stopped == {"time"}
    assert json.loads(hangar("start", "time", "--json"))["held"] is False
    assert hangar.fleet.stopped == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["call", "time"], ["call", "time", "now", "--arg", "x"], ["call", "time", "now", "--json-args", "[1]"],
        ["call", "time", "now", "--json-args", "{"], ["call", "time", "now", "-a", "x=1", "-a", "x=2"],
        ["call", "time", "now", "-a", "x=1", "--json-args", "{}"], ["nothing"],
        ["status", "--what"], ["logs", "t", "-n", "0"],
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2_and_calls_nothing(arguments: list[str]) -> None:
    done = CliRunner().invoke(build(arguments), arguments)
    assert done.exit_code == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_running_hangar_the_status_is_3_and_the_way_out_is_named(tmp_path: Path) -> None:
    done = run("status", HANGAR_STATE_DIR=str(tmp_path))
    assert done.returncode == 3
    assert "hangar serve" in done.stderr
    with closed_port() as closed:
        url = f"http://127.0.0.1:{closed}"
        done = run("status", "--url", url, HANGAR_STATE_DIR=str(tmp_path), HANGAR_ADMIN_TOKEN="x" * 20)
    assert done.returncode == 3
    assert url in done.stderr


def test_where_several_run_one_has_to_be_named(hangar: Hangar) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        path = hangar.state / "run" / str(other.pid)
        path.mkdir()
        (path / "address").write_text(json.dumps({"pid": other.pid, "url": "http://127.0.0.1:1"}))
        hangar("status", code=2)
        assert f"--pid {os.getpid()} ({hangar.url})" in hangar.stderr
        assert f"--pid {other.pid}" in hangar.stderr
        assert "ready" in hangar("status", "--pid", str(os.getpid()))
        assert "ready" in hangar("status", HANGAR_URL=hangar.url)
        other.communicate(b"\n")
    assert "ready" in hangar("status")


def test_the_token_is_never_sent_to_another_machine_unless_it_is_given(hangar: Hangar) -> None:
    for url in ("http://192.0.2.1:8000", "http://example.com", "http://127.0.0.1.example.com", "http://[2001:db8::1]"):
        with pytest.raises(HangarError, match="HANGAR_ADMIN_TOKEN"):
            HangarClient.find(url=url, state_dir=hangar.state, environment={})
        HangarClient.find(url=url, state_dir=hangar.state, environment={"HANGAR_ADMIN_TOKEN": "t"}).close()


def test_a_wrong_token_is_told(hangar: Hangar) -> None:
    hangar("status", code=1, HANGAR_ADMIN_TOKEN="wrong")
    assert "admin token" in hangar.stderr


def test_a_proxy_of_the_environment_never_sees_the_token(hangar: Hangar) -> None:
    assert "ready" in hangar("status", HTTP_PROXY="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1")


def test_the_client_reads_pages_and_raises_what_hangar_says(hangar: Hangar) -> None:
    with HangarClient.find(state_dir=hangar.state, environment={}) as client:
        assert [event["seq"] for event in client.all_events("e1:0")] == [1, 2, 3, 4, 5]
        assert [call["id"] for call in client.calls(provider="git")["calls"]] == ["c2"]
        assert client.provider("time")["name"] == "time"
        assert [row["name"] for row in client.providers()] == ["git", "time"]
        assert client.call("time", "now", {"a": "é"})["call_id"] == "c9"
        with pytest.raises(Refused) as caught:
            client.provider("../status")
        assert caught.value.code in ("not_found", "unknown_provider")
    with pytest.raises(NotRunning), HangarClient(Address(socket="/nowhere/hangar.sock"), "t") as client:
        client.status()


def test_what_is_no_address_is_no_hangar(tmp_path: Path) -> None:
    for name, text in (("1", "{"), ("2", "[]"), ("x", "{}"), (str(os.getpid()), "{}"), ("999999999", '{"url":"u"}')):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "address").write_text(text)
    assert running(tmp_path) == []


def test_version_and_help_answer_without_the_heavy_parts() -> None:
    assert run("--version").stdout == f"mcp-hangar {__version__}\n"
    described = run("--help").stdout
    for name in ("serve", "status", "tools", "call", "logs", "why", "start", "stop", "config"):
        assert f" {name} " in described
    script = "import sys; sys.argv = ['hangar', '--version']\nfrom mcp_hangar.server.cli.main import build\n"
    script += (
        "build(['--help'])\nprint([m for m in ('httpx', 'fastapi', 'pydantic', 'rich.table') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_config_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "hangar.yaml").write_text("version: 1\nproviders: {}\n")
    done = run("config", "check", "--config", str(tmp_path / "hangar.yaml"))
    assert done.returncode in (0, 1)
    assert "hangar.yaml" in done.stdout + done.stderr


def on_a_terminal(*arguments: str, columns: int = 80, **environment: str) -> str:
    """What a command prints when stdout is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if not name.startswith("HANGAR_")} | {"TERM": "xterm"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        env.pop(name, None)
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=env | environment, stdout=theirs)
    os.close(theirs)
    output = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(ours)
    assert process.wait(120) == 0
    return output.decode()


def test_a_terminal_gets_a_table_and_no_color_if_it_says_so(hangar: Hangar) -> None:
    state = str(hangar.state)
    assert "\u2500" in on_a_terminal("tools", HANGAR_STATE_DIR=state)
    plain = on_a_terminal("tools", HANGAR_STATE_DIR=state, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)
    assert "\\x1b[2J" in on_a_terminal("logs", "time", HANGAR_STATE_DIR=state)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_table_fits_the_terminal(hangar: Hangar, columns: int) -> None:
    state = str(hangar.state)
    for command in (["status"], ["tools"], ["calls"], ["why", "c2"]):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(*command, columns=columns, HANGAR_STATE_DIR=state))
        lines = shown.replace("\r\n", "\n").splitlines()
        assert max(map(len, lines)) <= columns, command
        assert any("time" in line or "git" in line for line in lines), command


@pytest.mark.parametrize("columns", [80, 200])
def test_columns_give_way_in_order_and_names_are_kept_whole(columns: int) -> None:
    names = ["provider", "tool", "state", "description"]
    row = ["a-provider", "a_tool_with_a_long_name", "ready", "words " * 40]
    kept, widths = fit(names, [row], columns, {"description": 20}, ("state",))
    assert kept == [0, 1, 2, 3]
    assert widths[:3] == [10, 23, 5]
    assert sum(widths) + 2 * 3 == columns
    assert fit(names, [row], 60, {"description": 20}, ("state",))[0] == [0, 1, 3]
    narrow = fit(names, [row], 30, {"description": 20}, ("state",))
    assert narrow[0] == [0, 1, 3]
    assert narrow[1][1] < 23


def test_arguments_keep_what_only_looks_like_json() -> None:
    assert read_arguments(["a=NaN", "b=007", "c=true", "d={", 'e="q"', "f=a=b"], "") == (
        '{"a":"NaN","b":"007","c":true,"d":"{","e":"q","f":"a=b"}'
    )
    assert read_arguments([], "") == "{}"


def test_text_of_strangers_is_made_visible_but_stays_readable() -> None:
    assert safe("a\tb\nc é 🙂") == "a\tb\nc é 🙂"
    assert safe("\x1b]0;x\x07\r\u202e\x9b") == "\\x1b]0;x\\x07\\x0d\\x202e\\x9b"
