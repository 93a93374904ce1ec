# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from mcp_hangar.infrastructure.run_directory import LONGEST_SOCKET_PATH, RunDirectory, is_running, process_start


def test_a_running_hangar_can_be_found_and_leaves_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.announce(url="http://127.0.0.1:8000", token_file="/t", version="3")
    path = tmp_path / "run" / str(os.getpid()) / "address"
    address = json.loads(path.read_text())
    assert (address["pid"], address["url"], address["token_file"]) == (os.getpid(), "http://127.0.0.1:8000", "/t")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    run.close()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_deep_state_folder_still_gets_a_socket_that_can_be_bound(tmp_path: Path) -> None:
    for deep in ("s", "d" * 120):
        run = RunDirectory(tmp_path / deep)
        assert len(os.fsencode(run.socket)) <= LONGEST_SOCKET_PATH
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(run.socket))
        assert run.socket.parent.stat().st_mode & 0o777 == 0o700
        run.close()
        assert not run.socket.parent.exists()


def test_what_a_dead_hangar_left_is_removed_and_the_living_stays(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from mcp_hangar.infrastructure.run_directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
run.socket.touch()
run.announce(socket=str(run.socket))
print(run.socket, flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""
    state = tmp_path / ("d" * 120)
    arguments = [sys.executable, "-c", script, str(state)]
    dead = subprocess.run([*arguments, "die"], stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    with subprocess.Popen([*arguments, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout is not None
        socket_of_living = Path(living.stdout.readline().strip())
        (state / "run" / "notes").mkdir()
        run = RunDirectory(state)
        assert {path.name for path in (state / "run").iterdir()} == {str(os.getpid()), str(living.pid), "notes"}
        assert not Path(dead.stdout.strip()).parent.exists()
        assert socket_of_living.exists()
        run.close()
        living.communicate()
    RunDirectory(state).close()
    assert {path.name for path in (state / "run").iterdir()} == {"notes"}
    assert not socket_of_living.parent.exists()


def test_a_process_number_given_to_another_process_is_not_taken_for_hangar() -> None:
    started = process_start(os.getpid())
    assert is_running(os.getpid(), started)
    if started is not None:
        assert not is_running(os.getpid(), started - 1)
