# SPDX-License-Identifier: MIT
"""The supervisor by its effects: which processes are still there when something was killed.

A test never waits a fixed time: it holds a descriptor of every process and polls until the kernel says it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar import supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sub-reapers exist on Linux only")

PATIENCE = 60.0

TREE = r"""
import os, sys, time

def tell(name):
    with open(sys.argv[1], "a") as pids:
        pids.write(f"{name} {os.getpid()}\n")

def live(name, stubborn=False):
    import signal
    if stubborn:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    tell(name)
    while True:
        time.sleep(1000)

if os.fork() == 0:
    if os.fork() == 0:
        live("grandchild")
    live("child")
if os.fork() == 0:
    os.setsid()
    live("in a session of its own", stubborn=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.close(fd)
        live("daemon", stubborn=True)
    os._exit(0)
live("provider", stubborn=True)
"""
FAMILY = {"provider", "child", "grandchild", "in a session of its own", "daemon"}


class Life:
    """One process, held by a descriptor, so that its end is an event and its pid cannot be mistaken."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def ended(self, within: float = PATIENCE) -> bool:
        return bool(select.select([self.fd], [], [], within)[0])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was faster
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)


class Hangar:
    """Plays Hangar: holds the supervisor's socket, launches over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives: list[Life] = []
        self.kept: list[Kept] = []
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(supervisor.command(), stdin=theirs.fileno(), env={}, start_new_session=True)
        self.supervisor = self.hold(self.process.pid)

    def hold(self, pid: int) -> Life:
        life = Life(pid)
        self.lives.append(life)
        return life

    def launch(self, *argv: str, env: dict[str, str] | None = None, cwd: str = "", grace: float = 0.2) -> Kept:
        control, keeper = socket.socketpair()
        control.settimeout(PATIENCE)
        stdin, ours = os.pipe()
        stdout, theirs = os.pipe()
        self.kept.append(Kept(control, ours, stdout))
        with keeper, contextlib.ExitStack() as given:
            for fd in (stdin, theirs):
                given.callback(os.close, fd)
            fds = [keeper.fileno(), stdin, theirs, theirs]
            socket.send_fds(self.socket, [supervisor.REQUEST.pack(supervisor.LAUNCH, 0, 0)], fds)
        spec = {"argv": argv, "env": env or {"PATH": os.environ["PATH"]}, "cwd": cwd, "title": "t-1", "grace": grace}
        control.sendall(json.dumps(spec).encode() + b"\n")
        return self.kept[-1]

    def family(self, **options: Any) -> tuple[Kept, dict[str, Life]]:
        """A provider with children of every kind, all of them alive and held."""
        script, pids = self.folder / "tree.py", self.folder / "pids"
        script.write_text(TREE)
        kept = self.launch(sys.executable, "-S", str(script), str(pids), **options)
        kept.keeper = self.hold(parent(kept.expect("started")["started"]))
        found: dict[str, str] = {}
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = dict(line.rsplit(" ", 1) for line in pids.read_text().splitlines()) if pids.exists() else {}
            if len(found) == len(FAMILY):
                return kept, {name: self.hold(int(pid)) for name, pid in found.items()}
            time.sleep(0.01)
        raise AssertionError(f"only {sorted(found)} came to life")

    def die(self) -> None:
        """As after kill -9: every descriptor closed at once, nothing said."""
        self.socket.close()

    def close(self) -> None:
        self.socket.close()
        for life in self.lives:
            if not life.ended(0):
                life.kill()
            os.close(life.fd)
        self.process.wait()
        for kept in self.kept:
            kept.die()
            os.close(kept.stdin)
            os.close(kept.stdout)


class Kept:
    def __init__(self, control: socket.socket, stdin: int, stdout: int) -> None:
        self.control = control
        self.stdin = stdin
        self.stdout = stdout
        self.lines = control.makefile("rb")
        self.keeper: Life

    def hear(self) -> dict[str, Any] | None:
        line = self.lines.readline()
        return json.loads(line) if line else None

    def expect(self, what: str) -> dict[str, Any]:
        message = self.hear()
        assert message is not None
        assert what in message, message
        return message

    def end(self, grace: float) -> None:
        self.control.sendall(json.dumps({"end": grace}).encode() + b"\n")

    def die(self) -> None:
        self.lines.close()
        self.control.close()

    def lines_said(self, count: int) -> list[bytes]:
        """The next lines of its stdout. Reads byte by byte: what comes after them is left to others."""
        said = b""
        while said.count(b"\n") < count:
            assert select.select([self.stdout], [], [], PATIENCE)[0], said
            piece = os.read(self.stdout, 1)
            assert piece, said
            said += piece
        return said.splitlines()

    def output(self) -> bytes:
        chunks = iter(lambda: os.read(self.stdout, 65536), b"")
        return b"".join(chunks)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    """Zombies too."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and parent(int(entry.name)) == pid:
                found.append(int(entry.name))
    return found


@pytest.fixture
def hangar(tmp_path: Path) -> Iterator[Hangar]:
    hangar = Hangar(tmp_path)
    yield hangar
    hangar.close()


def assert_gone(lives: dict[str, Life]) -> None:
    assert [name for name, life in lives.items() if not life.ended()] == []


def test_the_end_of_hangar_ends_every_process_of_the_tree(hangar: Hangar) -> None:
    kept, family = hangar.family()
    kept.die()
    hangar.die()
    assert_gone({**family, "keeper": kept.keeper, "supervisor": hangar.supervisor})


def test_a_killed_keeper_leaves_nothing_behind(hangar: Hangar) -> None:
    kept, family = hangar.family()
    kept.keeper.kill()
    assert_gone(family)
    assert kept.hear() is None, "Hangar hears of it at once: the control socket ends"
    assert not hangar.supervisor.ended(0), "the supervisor goes on"


def test_a_killed_supervisor_leaves_keepers_at_work(hangar: Hangar) -> None:
    kept, family = hangar.family()
    hangar.supervisor.kill()
    assert hangar.supervisor.ended()
    assert not any(life.ended(0) for life in family.values())
    kept.die()
    hangar.die()
    assert_gone({**family, "keeper": kept.keeper})


def test_with_keeper_and_supervisor_killed_the_provider_dies_and_a_sweep_ends_its_session(
    hangar: Hangar, tmp_path: Path
) -> None:
    kept, family = hangar.family()
    stat = Path(f"/proc/{family['provider'].pid}/stat").read_text().rpartition(")")[2].split()
    hangar.supervisor.kill()
    assert hangar.supervisor.ended()
    kept.keeper.kill()
    assert family["provider"].ended()
    successor = Hangar(tmp_path)
    try:
        request = supervisor.REQUEST.pack(supervisor.SWEEP, family["provider"].pid, int(stat[19]))
        successor.socket.sendall(request)
        assert_gone({name: family[name] for name in ("provider", "child", "grandchild")})
    finally:
        successor.close()


def test_a_sweep_spares_a_session_that_only_has_the_same_number(hangar: Hangar) -> None:
    _, family = hangar.family()
    hangar.socket.sendall(supervisor.REQUEST.pack(supervisor.SWEEP, family["provider"].pid, 1))
    assert "started" in (hangar.launch(sys.executable, "-c", "pass").hear() or {}), "the request before it was served"
    assert not any(life.ended(0) for life in family.values())


def test_an_ended_tree_is_gone_when_its_keeper_says_so(hangar: Hangar) -> None:
    kept, family = hangar.family()
    kept.end(0.1)
    assert kept.expect("exited") == {"exited": -signal.SIGKILL}, "it ignores SIGTERM"
    kept.expect("gone")
    assert [name for name, life in family.items() if not life.ended(0)] == []
    assert kept.hear() is None


def test_sigterm_reaches_the_whole_tree_first(hangar: Hangar) -> None:
    code = (
        "import os, signal\n"
        "child = os.fork()\n"
        "if not child: os.setsid()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "os.write(1, b'ready\\n')\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "os.write(1, b'polite\\n')\n"
        "os._exit(0)\n"
    )
    kept = hangar.launch(sys.executable, "-S", "-c", code)
    kept.expect("started")
    assert kept.lines_said(2) == [b"ready", b"ready"]
    kept.end(PATIENCE)
    assert kept.expect("exited") == {"exited": 0}
    kept.expect("gone")
    assert kept.output() == b"polite\npolite\n"


def test_a_stopped_process_hears_sigterm_too(hangar: Hangar) -> None:
    code = "import os, signal; os.write(1, b'x'); os.kill(os.getpid(), signal.SIGSTOP)"
    kept = hangar.launch(sys.executable, "-S", "-c", code)
    kept.expect("started")
    assert os.read(kept.stdout, 1) == b"x"
    kept.end(PATIENCE)
    kept.expect("exited")
    kept.expect("gone")


def test_what_a_wrapper_left_behind_ends_with_it(hangar: Hangar) -> None:
    kept = hangar.launch("/bin/sh", "-c", "sleep 1000 & echo $!; read go; exit 7")
    kept.expect("started")
    left = hangar.hold(int(kept.lines_said(1)[0]))
    os.write(kept.stdin, b"go\n")
    assert kept.expect("exited") == {"exited": 7}
    kept.expect("gone")
    assert left.ended(0)


def test_a_killed_wrapper_takes_its_child_along(hangar: Hangar) -> None:
    kept = hangar.launch("/bin/sh", "-c", "sleep 1000 & echo $!; wait")
    wrapper = hangar.hold(kept.expect("started")["started"])
    child = hangar.hold(int(kept.lines_said(1)[0]))
    wrapper.kill()
    assert kept.expect("exited") == {"exited": -signal.SIGKILL}
    kept.expect("gone")
    assert child.ended(0)


def test_processes_born_while_the_tree_is_ended_end_too(hangar: Hangar) -> None:
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.write(1, b'x')\n"
        "for _ in range(3000):\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "time.sleep(1000)\n"
    )
    kept = hangar.launch(sys.executable, "-S", "-c", code, grace=0.0)
    kept.expect("started")
    kept.expect("exited")
    kept.expect("gone")
    assert kept.output() == b"x", "nobody holds the pipe any more"


def test_no_zombie_stays_while_the_provider_lives(hangar: Hangar) -> None:
    code = (
        "import os, sys\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "os.write(1, b'x')\n"
        "sys.stdin.read()\n"
    )
    kept = hangar.launch(sys.executable, "-S", "-c", code)
    provider = kept.expect("started")["started"]
    assert os.read(kept.stdout, 1) == b"x"
    children: list[int] = []
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        children = children_of(parent(provider))
        if children == [provider]:
            return
        time.sleep(0.01)
    raise AssertionError(f"the keeper still has {children}")


@pytest.mark.parametrize(
    ("argv", "cwd", "stage", "number"),
    [
        (["no-such-program-anywhere"], "", "exec", 2),
        (["/no/such/program"], "", "exec", 2),
        (["/etc/passwd"], "", "exec", 13),
        ([sys.executable], "/no/such/folder", "cwd", 2),
        ([sys.executable], "/etc/passwd", "cwd", 20),
        ([sys.executable, "a\0b"], "", "exec", 22),
    ],
)
def test_a_failed_start_says_which_step_and_why(
    hangar: Hangar, argv: list[str], cwd: str, stage: str, number: int
) -> None:
    kept = hangar.launch(*argv, cwd=cwd)
    assert kept.hear() == {"failed": stage, "errno": number}
    assert kept.hear() is None


def test_a_provider_starts_clean(hangar: Hangar, tmp_path: Path) -> None:
    """Its own session, three descriptors, nothing blocked, nothing ignored, its working directory, its environment."""
    code = (
        "import os, json\n"
        "fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))\n"
        "status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
        "print(json.dumps([fds[:3], len(fds), status['SigBlk'].strip(), status['SigIgn'].strip(),"
        " os.getsid(0) == os.getpid(), os.getcwd(), dict(os.environ)]))\n"
    )
    kept = hangar.launch(
        "/bin/sh", "-c", f'exec "{sys.executable}" -I -S -c "$CODE"', env={"CODE": code}, cwd=str(tmp_path)
    )
    kept.expect("started")
    fds, count, blocked, ignored, leader, cwd, env = json.loads(kept.output())
    assert (fds, count) == ([0, 1, 2], 4), "and the one that lists them"
    assert int(blocked, 16) == 0
    # Python ignores SIGPIPE (13) and SIGXFSZ (25) for itself once it runs; 32 and 33 are the C library's own, and
    # nobody can set them.
    assert int(ignored, 16) & ~(1 << 12 | 1 << 24 | 1 << 31 | 1 << 32) == 0
    assert leader
    assert cwd == str(tmp_path)
    assert {name for name in env if name not in ("PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE")} == {"CODE"}


def test_ps_shows_a_title_and_no_secret(hangar: Hangar) -> None:
    kept = hangar.launch("/bin/sh", "-c", "read line", env={"API_KEY": "hunter2-hunter2"})
    keeper = parent(kept.expect("started")["started"])
    shown = Path(f"/proc/{keeper}/cmdline").read_bytes()
    assert shown.rstrip(b"\0") == b"hangar-keeper t-1"
    for pid in (keeper, hangar.process.pid):
        for what in ("cmdline", "environ"):
            assert b"hunter2" not in Path(f"/proc/{pid}/{what}").read_bytes()


def test_keepers_and_supervisor_outlive_a_sigterm_to_everybody(hangar: Hangar) -> None:
    code = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('up', flush=True); signal.sigwait([15])"
    )
    kept = hangar.launch(sys.executable, "-S", "-c", code)
    provider = hangar.hold(kept.expect("started")["started"])
    assert kept.lines_said(1) == [b"up"]
    for pid in (hangar.process.pid, parent(provider.pid)):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    kept.end(PATIENCE)
    assert kept.expect("exited") == {"exited": 0}
    kept.expect("gone")
    assert not hangar.supervisor.ended(0)


def test_the_supervisor_waits_for_what_is_still_ending(hangar: Hangar) -> None:
    kept, family = hangar.family(grace=0.0)
    hangar.socket.shutdown(socket.SHUT_WR)
    assert not hangar.supervisor.ended(0)
    kept.die()
    assert hangar.supervisor.ended()
    assert [name for name, life in family.items() if not life.ended(0)] == []
    assert hangar.process.wait() == 0


def test_it_runs_as_a_module_too() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [sys.executable, "-m", "mcp_hangar.supervisor"], stdin=theirs.fileno(), env=environment
        )
    ours.close()
    assert process.wait(PATIENCE) == 0


def test_it_loads_nothing_of_ours() -> None:
    code = f"import runpy, sys; runpy.run_path({supervisor.__file__!r}); print([m for m in sys.modules if 'mcp' in m])"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
