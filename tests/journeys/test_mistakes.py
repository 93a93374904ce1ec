# SPDX-License-Identifier: MIT
"""Mistakes that people make, each through the real command: the code that is told, the exit status, and a fix in words.

One row is one mistake. Adding one is adding a row.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mcp_hangar.domain.errors import CODES
from tests.certificates import Authority, authority_in
from tests.house import House, fixture_command, house, remote_provider, subprocess_provider
from tests.processes import START_LIMIT, closed_port, plain_environment
from tests.warm import Ran, Warm, warm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hangar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("warm")) as command:
        yield command


def environment(home: Path, **more: str) -> dict[str, str]:
    return plain_environment(HANGAR_STATE_DIR=str(home / "state"), **more) | {"HOME": str(home)}


def assert_told(ran: Ran, code: str, status: int, fix: str) -> None:
    """The code with its link, the exit status, and the fix; and nothing that only a programmer could read."""
    told = ran.stderr
    assert ran.code == status == CODES[code].exit, told
    assert f"docs/reference/errors.md#{code}" in told and "errors.md#usage" not in told
    assert fix in " ".join(told.split()), told
    assert "Traceback" not in told
    assert f"\n## {code}\n" in (ROOT / "docs/reference/errors.md").read_text()


# the configuration


class Wrong(NamedTuple):
    text: str | bytes
    code: str
    fix: str


LOCAL = "version: 1\nproviders:\n  p:\n    mode: subprocess\n    command: [x]\n"
REMOTE = "version: 1\nproviders:\n  r:\n    mode: remote\n    url: https://h/mcp\n"

CONFIGURATIONS = {
    "wrong indentation": Wrong("version: 1\nserver:\n    token: a\n  listen: b\n", "config_syntax", "Align it"),
    "a tab": Wrong("version: 1\nserver:\n\tlisten: x\n", "config_syntax", "Indent with two spaces"),
    "a bracket that is not closed": Wrong("version: 1\nserver: {listen: x\n", "config_syntax", "Close it"),
    "a quote that is not closed": Wrong("version: 1\nserver: {listen: 'x\n", "config_syntax", "Close it"),
    "an alias": Wrong("version: 1\nserver: *a\n", "config_syntax", "Write the value out"),
    "not YAML": Wrong("<html>\n{{ : ]]\n", "config_syntax", ""),
    "an empty file": Wrong("", "config_syntax", "Write 'version: 1'"),
    "not UTF-8": Wrong(b"version: 1 # \xff\xfe\n", "config_unreadable", "Save it as UTF-8"),
    "a key twice": Wrong("version: 1\nstate: {dir: a}\nstate: {dir: b}\n", "config_duplicate_key", "Keep one"),
    "an unknown key": Wrong(LOCAL + "    comand: [y]\n", "config_unknown_key", "Did you mean 'command'?"),
    "a client's own file": Wrong("version: 1\nmcpServers: {}\n", "config_unknown_key", "The key is 'providers'"),
    "a provider at the top": Wrong(
        "version: 1\ntime: {mode: subprocess, command: [x]}\n", "config_unknown_key", "indent it below 'providers:'"
    ),
    "a key of a later version": Wrong("version: 1\ngroups: {}\n", "config_not_yet", "Remove it"),
    "a mode of a later version": Wrong("version: 1\nproviders:\n  p: {mode: docker}\n", "config_not_yet", "subprocess"),
    "no version": Wrong("server: {}\n", "config_missing_key", "Begin with 'version: 1'"),
    "a version of the future": Wrong("version: 2\n", "config_value", "Write 'version: 1'"),
    "no mode": Wrong("version: 1\nproviders:\n  p: {url: https://h/}\n", "config_missing_key", "Add 'mode: remote'"),
    "no command": Wrong("version: 1\nproviders:\n  p: {mode: subprocess}\n", "config_missing_key", "Add it"),
    "a misspelt word": Wrong(
        "version: 1\nproviders:\n  p: {mode: subproces, command: [x]}\n", "config_value", "Did you mean 'subprocess'?"
    ),
    "a command as text": Wrong(LOCAL.replace("[x]", "uvx thing"), "config_value", "Write [uvx, thing]"),
    "a number where text is": Wrong(LOCAL + "    env: {PORT: 8080}\n", "config_value", "Put it in quotes"),
    "a bad duration": Wrong(LOCAL + "    limits: {call_timeout: 30}\n", "config_value", "Write 30s"),
    "a bad size": Wrong(LOCAL + "    limits: {message_bytes: 16MB}\n", "config_value", "Did you mean 16MiB?"),
    "a bad glob": Wrong(LOCAL + "    tools: {deny: ['[ab]*']}\n", "config_value", "not supported"),
    "a bad URL": Wrong(REMOTE.replace("https://h/mcp", "h/mcp"), "config_value", "Write scheme"),
    "a bad address": Wrong("version: 1\nserver: {listen: '127.0.0.1:70000'}\n", "config_value", "0.0.0.0"),
    "a bad provider name": Wrong(
        "version: 1\nproviders:\n  My_Time: {mode: subprocess, command: [x]}\n", "config_value", "'my-time'"
    ),
    "a variable that is not set": Wrong(LOCAL + "    env: {A: '${HANGAR_X}'}\n", "config_reference", "Set it"),
    "a secret file that is not there": Wrong(
        LOCAL + "    env: {A: '${file:/no/such}'}\n", "config_reference", "Check the path"
    ),
    "a secret in a command": Wrong(LOCAL.replace("[x]", "[x, '${HOME}']"), "config_reference", "in 'env'"),
    "allow that deny covers": Wrong(LOCAL + "    tools: {allow: [a], deny: [a]}\n", "config_conflict", "narrow 'deny'"),
    "a url for a subprocess": Wrong(LOCAL + "    url: https://h/\n", "config_conflict", "mode: remote"),
    "strict without a store": Wrong("version: 1\nevents: {durability: strict}\n", "config_conflict", "Remove it"),
    "off loopback without a token": Wrong(
        "version: 1\nserver: {listen: '0.0.0.0:8000'}\n", "config_open_door", "Set server.token"
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_mistake_in_the_configuration_is_told_with_its_place(name: str, hangar: Warm, tmp_path: Path) -> None:
    wrong = CONFIGURATIONS[name]
    path = tmp_path / "hangar.yaml"
    path.write_bytes(wrong.text if isinstance(wrong.text, bytes) else wrong.text.encode())
    for command in (["config", "check"], ["serve"]):
        ran = hangar(*command, cwd=tmp_path, env=environment(tmp_path))
        assert_told(ran, wrong.code, 1, wrong.fix)
        assert re.match(r"hangar\.yaml:\d+:\d+: ", ran.stderr)
    shown = hangar("config", "check", "--json", cwd=tmp_path, env=environment(tmp_path))
    assert wrong.code in [problem["code"] for problem in json.loads(shown.stdout)["problems"]]


# starting


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


class Starting(NamedTuple):
    """`serve` with these arguments; `prepare` makes the folder so, and may give the text of hangar.yaml."""

    prepare: Callable[[Path], str | None]
    arguments: tuple[str, ...]
    code: str
    fix: str
    environment: tuple[tuple[str, str], ...] = ()


def _nothing(folder: Path) -> None:
    return None


def _directory(folder: Path) -> None:
    (folder / "there.yaml").mkdir()


def _state_is_a_file(folder: Path) -> str:
    (folder / "occupied").write_text("not a folder")
    return "version: 1\nserver: {listen: '127.0.0.1:0'}\nstate: {dir: occupied}\n"


def _state_is_wrecked(folder: Path) -> str:
    (folder / "wreck").mkdir(mode=0o700)
    (folder / "wreck/state.db").write_text("this is no database")
    (folder / "wreck/state.id").write_text("x")
    return "version: 1\nserver: {listen: '127.0.0.1:0'}\nstate: {dir: wreck}\n"


def _env_file_for_all(folder: Path) -> str:
    (folder / "secrets.env").write_text("A=b\n")
    (folder / "secrets.env").chmod(0o644)
    return "version: 1\n"


OPEN = "version: 1\nserver: {listen: '127.0.0.1:0'}\n"
STARTS = {
    "no configuration": Starting(_nothing, (), "config_missing", "hangar init"),
    "a path that is wrong": Starting(_nothing, ("--config", "nowhere.yaml"), "config_missing", "Check --config"),
    "a variable that names a wrong path": Starting(
        _nothing, (), "config_missing", "Check HANGAR_CONFIG", (("HANGAR_CONFIG", "nowhere.yaml"),)
    ),
    "a folder as the configuration": Starting(_directory, ("-c", "there.yaml"), "config_missing", "Check --config"),
    "an address of another machine": Starting(
        lambda folder: "version: 1\nserver: {listen: '192.0.2.1:8000', token: t0ken-of-tests}\n",
        (), "address_unavailable", "an address of this machine",
    ),
    "a state.dir that is a file": Starting(_state_is_a_file, (), "state_refused", "state.dir"),
    "a state that is wrecked": Starting(_state_is_wrecked, (), "state_refused", "state"),
    "an audit file in no folder": Starting(
        lambda folder: f"{OPEN}audit: {{sink: {folder}/hangar.yaml/audit.jsonl}}\nstate: {{dir: state}}\n",
        (), "path_unusable", "audit.sink",
    ),
    "a log level that is none": Starting(lambda folder: OPEN, ("--log-level", "loud"), "bad_option", "debug, info"),
    "a file of variables that is not there": Starting(
        lambda folder: OPEN, ("--env-file", "none.env"), "env_file", "Check the path"
    ),
    "a file of variables that all may read": Starting(
        _env_file_for_all, ("--env-file", "secrets.env"), "env_file", "chmod 600"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
def test_a_mistake_at_the_start_is_told(name: str, hangar: Warm, tmp_path: Path) -> None:
    start = STARTS[name]
    text = start.prepare(tmp_path)
    if text is not None:
        (tmp_path / "hangar.yaml").write_text(text)
    env = environment(tmp_path, **dict(start.environment))
    assert_told(hangar("serve", *start.arguments, cwd=tmp_path, env=env), start.code, 1, start.fix)


def test_a_port_that_another_program_has_is_told(hangar: Warm, tmp_path: Path) -> None:
    with taken_port() as port:
        (tmp_path / "hangar.yaml").write_text(f"version: 1\nserver: {{listen: '127.0.0.1:{port}'}}\n")
        ran = hangar("serve", cwd=tmp_path, env=environment(tmp_path))
    assert_told(ran, "address_unavailable", 1, "set server.listen to another port")


def test_a_folder_that_this_user_may_not_write_to_is_told(hangar: Warm, tmp_path: Path) -> None:
    """In /proc not even root may."""
    (tmp_path / "hangar.yaml").write_text(OPEN + "state: {dir: /proc/nowhere}\n")
    assert_told(hangar("serve", cwd=tmp_path, env=environment(tmp_path)), "state_refused", 1, "state.dir")


def test_a_configuration_that_this_user_may_not_read_is_told(hangar: Warm, tmp_path: Path) -> None:
    """Root may read every file, but not every file of the kernel."""
    path = tmp_path / "hangar.yaml"
    path.write_text(OPEN)
    path.chmod(0o000)
    name = "/proc/self/mem" if os.geteuid() == 0 else str(path)
    ran = hangar("config", "check", "--config", name, cwd=tmp_path, env=environment(tmp_path))
    assert_told(ran, "config_unreadable", 1, "Check the path and that this user may read it")


# providers that do not work


class Silent(http.server.BaseHTTPRequestHandler):
    """Answers everything with one status and a page."""

    status = 404

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b"<html>nothing here</html>"
        self.send_response(self.status)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr belongs to the test."""


@contextlib.contextmanager
def answering(status: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    handler = type("Answering", (Silent,), {"status": status})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # a failed TLS handshake is meant
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, name=f"status {status}")
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Broken(NamedTuple):
    code: str
    fix: str
    detail: str


PROVIDERS = {
    "missing": Broken("start_failed", "give its full path in command", "Command not found: no-such-program-of-tests"),
    "wrong-path": Broken("start_failed", "Correct the path", "There is no program at /no/such/program"),
    "not-executable": Broken("start_failed", "chmod +x", "may not be executed"),
    "no-interpreter": Broken("start_failed", "Install that interpreter", "names an interpreter"),
    "no-program": Broken("start_failed", "Start it with #!", "no program this machine can run"),
    "wrong-folder": Broken("start_failed", "Create it, or correct cwd", "cannot be entered"),
    "exits": Broken("start_failed", "hangar logs exits", "exited with status 3. Its last lines on stderr: no database"),
    "never-answers": Broken("start_failed", "lifecycle.start_timeout", "not ready within 2 s"),
    "prints": Broken("start_failed", "let it log to stderr", "not a JSON-RPC message: Listening on port 3000"),
    "refused": Broken("start_failed", "listens on this port", "refused the connection"),
    "unknown-host": Broken("start_failed", "", "no-such-host.invalid"),
    "expired": Broken("start_failed", "", "has expired"),
    "self-signed": Broken("start_failed", "ca_file", "self-signed"),
    "other-name": Broken("start_failed", "", "another name"),
    "plain-http": Broken("start_failed", "http", "TLS"),
    "not-found": Broken("start_failed", "Check its url", "HTTP status 404"),
    "unauthorized": Broken("upstream_auth", "Check headers or auth", ""),
    "a-web-page": Broken("provider_protocol", "", ""),
}


@dataclass(frozen=True)
class Street:
    """A Hangar whose providers are all broken but one."""

    house: House
    env: dict[str, str]
    hangar: Warm

    def __call__(self, *arguments: str, **more: str) -> Ran:
        return self.hangar(*arguments, cwd=self.house.folder, env={**self.env, **more})


@pytest.fixture(scope="module")
def street(hangar: Warm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    folder = tmp_path_factory.mktemp("street")
    for name, text, mode in (
        ("plain.sh", "#!/bin/sh\n", 0o644),
        ("stranger.sh", "#!/no/such/interpreter\n", 0o755),
        ("noise.bin", "\x7fnoise\x00\x01", 0o755),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    authority: Authority = authority_in(folder)
    python = sys.executable
    with contextlib.ExitStack() as street:
        tls = {
            "expired": authority.context("127.0.0.1", expired=True),
            "self-signed": authority.context("127.0.0.1", alone=True),
            "other-name": authority.context("other.example"),
        }
        ports = {name: street.enter_context(answering(200, context)) for name, context in tls.items()}
        statuses = {name: street.enter_context(answering(code)) for name, code in (
            ("not-found", 404), ("unauthorized", 401), ("a-web-page", 200),
        )}  # fmt: skip
        providers = {
            "good": subprocess_provider(
                fixture_command("--transport", "stdio"), tools={"deny": ["test_error_handling"]}
            ),
            "missing": subprocess_provider(["no-such-program-of-tests"]),
            "wrong-path": subprocess_provider(["/no/such/program"]),
            "not-executable": subprocess_provider([folder / "plain.sh"]),
            "no-interpreter": subprocess_provider([folder / "stranger.sh"]),
            "no-program": subprocess_provider([folder / "noise.bin"]),
            "wrong-folder": subprocess_provider([python], cwd="/no/such/folder"),
            "exits": subprocess_provider(
                [python, "-c", "import sys; print('no database', file=sys.stderr); sys.exit(3)"]
            ),
            "never-answers": subprocess_provider(
                [python, "-c", "import sys; sys.stdin.read()"], lifecycle={"start_timeout": "2s"}
            ),
            "prints": subprocess_provider(
                [python, "-c", "import sys; print('Listening on port 3000', flush=True); sys.stdin.read()"],
                lifecycle={"start_timeout": "5s"},
            ),
            "refused": remote_provider(f"http://127.0.0.1:{street.enter_context(closed_port())}/mcp"),
            "unknown-host": remote_provider("https://no-such-host.invalid/mcp"),
            **{
                name: remote_provider(f"https://127.0.0.1:{port}/mcp", ca_file=authority.file)
                for name, port in ports.items()
            },
            "plain-http": remote_provider(f"https://127.0.0.1:{statuses['not-found']}/mcp"),
            **{name: remote_provider(f"http://127.0.0.1:{port}/mcp") for name, port in statuses.items()},
        }
        open_house = street.enter_context(house(folder, providers))
        env = environment(folder)
        made = Street(open_house, env, hangar)
        until = time.monotonic() + START_LIMIT
        # It listens before it has told where it can be found. And what is never started has no schema yet.
        while made("call", "good", "test_simple_text").code != 0:
            assert time.monotonic() < until, open_house.running.said()
        yield made


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_that_does_not_work_says_why(name: str, street: Street) -> None:
    broken = PROVIDERS[name]
    ran = street("call", name, "anything")
    assert_told(ran, broken.code, 1, broken.fix)
    assert broken.detail in ran.stderr
    call_id = re.search(r"hangar why ([\w-]+)", ran.stderr)
    assert call_id
    assert broken.code in street("why", call_id[1]).stdout


# asking


class Asking(NamedTuple):
    arguments: tuple[str, ...]
    code: str
    status: int
    fix: str
    environment: tuple[tuple[str, str], ...] = ()


QUESTIONS = {
    "a provider that is not there": Asking(("call", "goood", "x"), "unknown_provider", 1, "Use one of those"),
    "logs of a provider that is not there": Asking(("logs", "goood"), "unknown_provider", 1, "good"),
    "a tool that is not there": Asking(
        ("call", "good", "test_simple_tex"), "unknown_tool", 1, "Did you mean test_simple_text?"
    ),
    "a tool that a policy denies": Asking(
        ("call", "good", "test_error_handling"), "unknown_tool", 1, "providers.good.tools.deny denies it to everyone"
    ),
    "an argument that is missing": Asking(
        ("call", "good", "test_sleep"), "invalid_arguments", 2, "seconds: a number, required"
    ),
    "an argument of a wrong type": Asking(
        ("call", "good", "test_sleep", "-a", "seconds=long"), "invalid_arguments", 2, "seconds: a number, required"
    ),
    "a call that is not known": Asking(("why", "none-such"), "unknown_call", 1, "audit trail"),
    "a wrong token": Asking(("status",), "unauthorized", 1, "admin token", (("HANGAR_ADMIN_TOKEN", "wrong"),)),
    "a process that is no Hangar": Asking(("status", "--pid", "1"), "not_running", 3, "hangar serve"),
    "no Hangar at all": Asking(("status",), "not_running", 3, "hangar serve", (("HANGAR_STATE_DIR", "/nowhere"),)),
    "another machine without its token": Asking(
        ("status", "--url", "http://192.0.2.1:8000"), "no_admin_token", 1, "HANGAR_ADMIN_TOKEN"
    ),
    "a cursor of nobody": Asking(("calls", "--outcome", "fine"), "invalid_params", 1, "Correct the parameters"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_that_cannot_be_answered_is_told(name: str, street: Street) -> None:
    asking = QUESTIONS[name]
    ran = street(*asking.arguments, **dict(asking.environment))
    assert_told(ran, asking.code, asking.status, asking.fix)
    shown = json.loads(street(*asking.arguments, "--json", **dict(asking.environment)).stdout)
    assert shown["code"] == asking.code


def test_several_hangars_have_to_be_told_apart(street: Street, tmp_path: Path) -> None:
    runs = street.house.folder / "state/run" / str(os.getpid())
    runs.mkdir()
    try:
        (runs / "address").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:9"}))
        assert_told(street("status"), "several_running", 2, f"--pid {os.getpid()} (http://127.0.0.1:9)")
    finally:
        (runs / "address").unlink()
        runs.rmdir()


def test_two_hangars_on_one_port_are_told_apart(street: Street, tmp_path: Path) -> None:
    (tmp_path / "hangar.yaml").write_text(f"version: 1\nserver: {{listen: '127.0.0.1:{street.house.port}'}}\n")
    ran = street("serve", "--config", str(tmp_path / "hangar.yaml"))
    assert_told(ran, "address_unavailable", 1, "another port")
    assert "maybe another Hangar" in ran.stderr


def test_an_address_where_something_else_answers_is_told(street: Street) -> None:
    with answering(200) as port:
        ran = street("status", "--url", f"http://127.0.0.1:{port}")
    assert_told(ran, "no_answer", 1, "Check --url")


@pytest.mark.parametrize(
    "arguments",
    [
        ("call", "good", "x", "--arg", "novalue"), ("call", "good", "x", "--json-args", "{"), ("nothing",),
        ("status", "--what"), ("logs", "good", "-n", "0"), ("calls", "--since", "yesterday"), ("call", "good"),
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2_and_names_what_was_wrong(arguments: tuple[str, ...], street: Street) -> None:
    ran = street(*arguments)
    assert ran.code == 2
    assert "Usage:" in ran.stderr and "Traceback" not in ran.stderr
    assert ran.stderr.count("docs/reference/errors.md#") == 1 and "errors.md#usage" in ran.stderr


# hangar init


def test_mistakes_with_init_are_told(hangar: Warm, tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert_told(hangar("init", "--undo", cwd=tmp_path, env=env), "nothing_to_undo", 1, "Nothing to do")
    servers = tmp_path / ".cursor/mcp.json"
    servers.parent.mkdir()
    servers.write_text('{"mcpServers": {"a": {"command": "a"}}}')
    assert_told(hangar("init", cwd=tmp_path, env=env), "not_asked", 2, "--yes")
    assert hangar("init", "-y", "--no-try", cwd=tmp_path, env=env).code == 0
    assert_told(hangar("init", "-y", cwd=tmp_path, env=env), "config_exists", 1, "--force")
    servers.write_text("{")
    assert_told(hangar("init", "--connect", "cursor", cwd=tmp_path, env=env), "client_config", 1, "by hand")


def test_fifty_mistakes_are_in_the_tables() -> None:
    assert len(CONFIGURATIONS) + len(STARTS) + len(PROVIDERS) + len(QUESTIONS) >= 50
