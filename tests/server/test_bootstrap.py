# SPDX-License-Identifier: MIT
"""What the configuration asks for is there when the doors open, or they do not open and say why."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from mcp_hangar.domain.errors import ConfigError, HangarError
from mcp_hangar.domain.provider import Mode
from mcp_hangar.server.bootstrap import serving
from mcp_hangar.server.bootstrap.background import every, loops
from mcp_hangar.server.bootstrap.logs import chosen_level, configure_logs
from mcp_hangar.server.bootstrap.wiring import House, launchers
from mcp_hangar.server.config import Settings, load
from tests.house import hangar_command, hangar_environment
from tests.inside import Seen
from tests.journeys.wire import ModernWire

pytestmark = pytest.mark.anyio
PROVIDERS: dict[str, Any] = {
    "time": {"mode": "subprocess", "command": ["no-such-program-anywhere"]},
    "far": {"mode": "remote", "url": "http://127.0.0.1:9/mcp"},
}
STARTED = 120.0


def written(folder: Path, **sections: Any) -> Path:
    config = {
        "version": 1,
        "server": {"listen": "127.0.0.1:0"},
        "state": {"dir": str(folder / "state")},
        "audit": {"sink": "none"},
        "providers": PROVIDERS,
        **sections,
    }
    path = folder / "hangar.yaml"
    path.write_text(json.dumps(config))
    return path


def settings(folder: Path, **sections: Any) -> Settings:
    return load(written(folder, **sections), {})


def built(chosen: Settings, *subscribers: Seen) -> House:
    return House(chosen, environment={}, hash_key=b"k" * 32, state=None, subscribers=[*subscribers])


@pytest.fixture
def quiet_logs() -> Iterator[None]:
    """Puts back what `configure_logs` sets for the whole process."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


# -- wiring


async def test_each_configured_setting_reaches_the_part_it_is_for(tmp_path: Path) -> None:
    limits = {"parked": 7, "sessions": 11, "sessions_per_caller": 5, "batch": 3, "body_bytes": "1MiB", "depth": 9}
    house = built(
        settings(
            tmp_path,
            server={"limits": limits, "session_idle": "90s"},
            events={"backlog_bytes": "2MiB", "on_overflow": "drop"},
            expose={"hangar_tools": "all", "list_timeout": "2s"},
        )
    )
    assert house.questions._limit == 7
    assert (house.sessions._limit, house.sessions._per_caller, house.sessions._idle) == (11, 5, 90.0)
    assert house.tools._batch == 3
    assert set(house.tools.handlers) >= {"hangar_stop", "hangar_start"}
    assert house.methods._timeout == 2.0
    assert set(house.proxy.fleet.providers) == {"time", "far", "hangar"}
    await house.stop(0)


async def test_tool_rules_become_a_judge_and_without_rules_there_is_none(tmp_path: Path) -> None:
    plain = built(settings(tmp_path))
    assert plain.proxy.fleet.judges == ()
    providers = {"time": {**PROVIDERS["time"], "tools": {"deny": ["x"]}}}
    ruled = built(settings(tmp_path, providers=providers))
    assert len(ruled.proxy.fleet.judges) == 1
    for house in (plain, ruled):
        await house.stop(0)


async def test_each_configured_mode_has_its_launcher_and_no_other_has(tmp_path: Path) -> None:
    whole = settings(tmp_path)
    assert set(launchers(whole, {})) == {Mode.subprocess, Mode.remote}
    far = replace(whole, providers={"far": whole.providers["far"]})
    assert set(launchers(far, {})) == {Mode.remote}


async def test_every_loop_that_others_depend_on_runs_under_a_name(tmp_path: Path) -> None:
    house = built(settings(tmp_path))
    tasks = list(loops(house))
    names = {task.get_name() for task in tasks}
    assert names == {"drain the event log", "idle shutdown", "health", "deadlines", "sessions"}
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await house.stop(0)


async def test_a_loop_outlives_a_failure_of_its_work() -> None:
    done = asyncio.Event()
    runs = 0

    def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise KeyError("once")
        done.set()

    task = asyncio.create_task(every(0.0, work))
    await asyncio.wait_for(done.wait(), STARTED)
    task.cancel()


async def test_the_first_events_tell_what_runs_and_what_nothing_enforces(tmp_path: Path) -> None:
    seen = Seen()
    house = built(settings(tmp_path), seen)
    running_ = list(loops(house))
    house.announce()
    assert await house.log.flush(STARTED)
    types = [event["type"] for event in seen.events]
    assert types[:2] == ["system.started", "config.loaded"]
    assert types.count("provider.registered") == types.count("capability.unenforced") == 2
    for task in running_:
        task.cancel()
    await asyncio.gather(*running_, return_exceptions=True)
    await house.stop(0)


# -- what fails at boot


async def opened(chosen: Settings) -> None:
    async with serving._house(chosen, {}):
        raise AssertionError("it opened")


async def test_an_audit_file_that_cannot_be_written_keeps_the_doors_shut_and_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    chosen = settings(tmp_path, audit={"sink": str(tmp_path / "missing/deep/audit.jsonl")})
    (tmp_path / "missing").write_text("a file where a folder should be")
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ConfigError) as caught:
        await opened(chosen)
    (problem,) = caught.value.problems
    assert "audit" in problem.what and "audit.sink" in problem.fix and problem.file == str(chosen.file)
    assert not list((tmp_path / "state/run").iterdir()), "the run directory is gone again"
    assert set(Path("/proc/self/fd").iterdir()) <= before, "the state file is closed"


async def test_a_state_folder_that_cannot_be_used_keeps_the_doors_shut(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with pytest.raises(HangarError) as caught:
        await opened(settings(tmp_path))
    assert caught.value.code == "state_refused"


async def test_a_run_folder_that_cannot_be_used_keeps_the_doors_shut(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state/run").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"state\.dir"):
        await opened(settings(tmp_path))


async def test_a_house_that_cannot_be_built_closes_what_was_opened_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a part is missing")

    monkeypatch.setattr(serving, "House", broken)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(KeyError):
        await opened(settings(tmp_path, audit={"sink": str(tmp_path / "audit.jsonl")}))
    assert set(Path("/proc/self/fd").iterdir()) <= before
    assert not list((tmp_path / "state/run").iterdir())


async def test_an_operator_address_that_is_taken_keeps_the_agents_door_shut_too(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="something else does"):
            await serving.serve_http(settings(tmp_path, server={"listen": "127.0.0.1:0", "admin_listen": where}), {})
    assert not [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "http"]


@pytest.mark.parametrize("stdio", [False, True])
def test_serve_tells_a_person_what_is_wrong_and_ends(tmp_path: Path, stdio: bool) -> None:
    (tmp_path / "state").write_text("in the way")
    command = hangar_command(written(tmp_path), *(["--stdio"] if stdio else []))
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=STARTED,
        env=hangar_environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "state" in ended.stderr and "Traceback" not in ended.stderr


# -- what is said, and where


def test_on_stdio_nothing_but_mcp_is_on_stdout_not_even_the_audit_record(tmp_path: Path) -> None:
    path = written(tmp_path, audit={"sink": "stdout"})
    requests: list[dict[str, Any]] = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "time__now", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 3, "method": "ping"},
    ]
    process = subprocess.Popen(
        hangar_command(path, "--stdio"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=hangar_environment(HANGAR_LOG_LEVEL="debug"),
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        found: dict[int, Any] = {}
        for request in requests:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while "id" in request and request["id"] not in found:
                message = json.loads(process.stdout.readline())
                assert message["jsonrpc"] == "2.0"
                if "id" in message:
                    found[message["id"]] = message
        said, told = process.communicate(timeout=STARTED)
    finally:
        process.kill()
        process.wait()
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in said.splitlines())
    assert found[2]["error"]["data"]["code"] == "start_failed"
    assert b'"call.admitted"' in told, "the record went to stderr"
    assert process.returncode == 0


def test_on_stdio_a_subscription_gets_its_result_when_hangar_is_told_to_stop(tmp_path: Path) -> None:
    params = ModernWire("")._dress({"notifications": {"toolsListChanged": True}})
    listen = {"jsonrpc": "2.0", "id": "sub", "method": "subscriptions/listen", "params": params}
    with subprocess.Popen(
        hangar_command(written(tmp_path), "--stdio"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=hangar_environment(),
    ) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(listen).encode() + b"\n")
            process.stdin.flush()
            acknowledged = json.loads(process.stdout.readline())
            process.terminate()
            (end,) = map(json.loads, process.stdout)
            assert process.wait(STARTED) == 0
        finally:
            process.kill()
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert (end["id"], end["result"]["resultType"]) == ("sub", "complete")


def test_serve_says_where_it_is_on_stderr_only_and_ends_in_order_when_told(tmp_path: Path) -> None:
    command = hangar_command(written(tmp_path))
    environment = hangar_environment()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            process.terminate()
            said, _ = process.communicate(timeout=STARTED)
        finally:
            process.kill()
    assert re.search(rb"is ready at http://127\.0\.0\.1:\d+/mcp", first)
    assert (process.returncode, said) == (0, b"")
    assert not list((tmp_path / "state/run").iterdir())


# -- logs


def test_a_log_entry_is_one_line_without_secrets_or_local_variables(quiet_logs: None) -> None:
    lines = StringIO()
    configure_logs("info", {"hunter2-secret", "quo'te\\d"}, lines)
    log = structlog.get_logger("t")

    def broken() -> None:
        local = "a local value"
        raise ValueError(f"with hunter2-secret\nin two lines, {len(local)}")

    try:
        broken()
    except ValueError:
        log.exception("loop_failed", given="hunter2-secret", forged="a\nlevel='critical'", odd="quo'te\\d\x1b[2J")
        logging.getLogger("some.library").warning("%s", "hunter2-secret\nagain", exc_info=True)
    log.debug("not_told")
    ours, theirs = lines.getvalue().splitlines()
    for line in (ours, theirs):
        assert "hunter2" not in line and "***" in line
        assert "a local value" not in line
        assert "ValueError" in line and "broken" in line
        assert line.isprintable()
    assert "level='error'" in ours and "event='loop_failed'" in ours
    assert "quo" not in ours


@pytest.mark.parametrize(
    ("option", "variable", "level"),
    [(None, None, "info"), ("debug", "error", "debug"), (None, "ERROR", "error"), (None, "", "info")],
)
def test_the_level_is_the_options_then_the_variables(option: str | None, variable: str | None, level: str) -> None:
    assert chosen_level(option, {} if variable is None else {"HANGAR_LOG_LEVEL": variable}) == level


def test_a_level_that_is_none_is_an_error_that_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"--log-level is 'loud'\..*warning"):
        chosen_level("loud", {})
    with pytest.raises(ConfigError, match="HANGAR_LOG_LEVEL"):
        chosen_level(None, {"HANGAR_LOG_LEVEL": "loud"})


def test_entries_below_the_level_are_not_written(quiet_logs: None) -> None:
    lines = StringIO()
    configure_logs("error", (), lines)
    structlog.get_logger("t").warning("quiet")
    structlog.get_logger("t").error("loud")
    assert "quiet" not in lines.getvalue() and "loud" in lines.getvalue()
