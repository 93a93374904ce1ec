# SPDX-License-Identifier: MIT
"""The parent of subprocess providers: whatever a provider starts ends with it, and all of it ends with Hangar.

`python -m mcp_hangar.supervisor` is a process (and a session) of its own, so that it outlives a `kill -9` of Hangar. It
forks one *keeper* per instance. Both are sub-reapers: a grandchild that left its process group or session, or that
double-forked, falls to its keeper; what a dead keeper leaves falls to the supervisor, which kills it. The provider
itself carries PR_SET_PDEATHSIG, so it never outlives its keeper.

How they talk. Hangar and the supervisor share a socket (the supervisor's standard input). A request is one `REQUEST`;
with `LAUNCH` come four descriptors: the keeper's *control socket* and the provider's stdin, stdout, stderr. The
supervisor never sees what is launched: Hangar writes that into the control socket, which only the keeper holds, so no
secret stands in an argument list or in a process that outlives the instance. Control messages are JSON, one a line:

    Hangar -> keeper    {"argv": [...], "env": {...}, "cwd": "", "title": "", "grace": 2.0}    once, first
                        {"end": 2.0}                    end the tree: SIGTERM, so many seconds, SIGKILL
    keeper -> Hangar    {"started": pid, "at": ticks}   or {"failed": "exec", "errno": 2} and the keeper is gone
                        {"exited": status}              the provider ended (negative: by that signal)
                        {"gone": true}                  nothing of the tree is left; the keeper exits

A control socket at its end means that Hangar is gone, however it went.

Nothing here looks at a clock to notice an exit: SIGCHLD is written into a pipe that stands in the same poll as the
socket, and whoever waits for a process hears of it at once, strays included. Only while a tree is being ended are
rounds made, since processes may be born meanwhile.

Standard library only, and run without site packages: a keeper costs what a forked interpreter costs. Where the kernel
has no sub-reapers (macOS) a tree is the provider's process group, and what leaves it is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, Final, NamedTuple, NoReturn

REQUEST: Final = struct.Struct("!cqq")
LAUNCH: Final = b"L"
SWEEP: Final = b"S"
"""End the session with this id whose leader started at this tick: its keeper and its supervisor were both killed."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_LINUX: Final = sys.platform == "linux"
_FIRST_ROUND: Final = 10
"""Milliseconds between two looks at a tree that is being ended; doubled while nobody new turns up, to the longest."""
_LONGEST_ROUND: Final = 1000
_SWEEP_ROUNDS: Final = 200


def command() -> list[str]:
    """How to run the supervisor: by path and isolated, so that neither site packages nor our own are loaded."""
    return [sys.executable, "-I", "-S", "-X", "utf8", os.path.abspath(__file__)]  # noqa: PTH100 pathlib is not for keepers


# --- the keeper -----------------------------------------------------------------------------------------------------


class Keeper:
    """One instance: starts it, tells how it ends, leaves nothing behind."""

    def __init__(self, control: socket.socket, stdio: list[int]) -> None:
        self._control = control
        self._stdio = stdio
        self._unread = b""
        self._grace = 0.0
        self._provider = 0
        self._kill_at: float | None = None
        """When SIGTERM has had its time; None while the tree may live."""
        self._told: set[tuple[int, int, int]] = set()
        self._pause = _FIRST_ROUND

    def run(self) -> None:
        wake = _wake_on_exit()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        spec = self._spec()
        if spec is None:
            return
        _rename(spec["title"])
        self._grace = float(spec["grace"])
        try:
            self._provider = _start(spec, self._stdio)
        except _StartError as error:
            _tell(self._control, failed=error.stage, errno=error.number)
            return
        at = next((p.started for p in _processes() if p.pid == self._provider), 0)
        _tell(self._control, started=self._provider, at=at)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while self._reap():
            for fd, _ in poll.poll(self._round()):
                if fd == wake:
                    _drain(wake)
                elif not self._listen():
                    poll.unregister(self._control)
        _tell(self._control, gone=True)

    def _spec(self) -> dict[str, Any] | None:
        while b"\n" not in self._unread:
            data = self._control.recv(65536)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        spec: dict[str, Any] = json.loads(line)
        return spec

    def _listen(self) -> bool:
        """Take commands; False once Hangar is gone."""
        try:
            data = self._control.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._end(self._grace)
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._end(float(json.loads(line)["end"]))
        return True

    def _end(self, grace: float) -> None:
        """The tree is to end within `grace` seconds; asked again, the earlier end holds."""
        kill_at = time.monotonic() + grace
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)

    def _reap(self) -> bool:
        """Collect what ended; False when nothing is left."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._provider:
                    self._provider = 0
                    _tell(self._control, exited=os.waitstatus_to_exitcode(status))
                    self._end(self._grace)
        return False

    def _round(self) -> int | None:
        """Signal what is to end, and say after how many milliseconds to look again; None: when something happens."""
        if self._kill_at is None:
            return None
        left = round((self._kill_at - time.monotonic()) * 1000)
        if self._signal(signal.SIGTERM if left > 0 else signal.SIGKILL):
            self._pause = _FIRST_ROUND
        else:
            self._pause = min(self._pause * 2, _LONGEST_ROUND)
        return min(self._pause, left) if left > 0 else self._pause

    def _signal(self, number: signal.Signals) -> bool:
        """Signal the whole tree, SIGTERM once each, SIGKILL every time. Whether somebody was met for the first time."""
        if not _LINUX:
            if self._provider:
                os.killpg(self._provider, number)
            return False
        met = len(self._told)
        for process in _descendants(os.getpid()):
            key = (process.pid, process.started, int(number))
            if number is signal.SIGKILL or key not in self._told:
                _send(process, number)
                if number is signal.SIGTERM:
                    _send(process, signal.SIGCONT)
            self._told.add(key)
        return len(self._told) > met


def _tell(control: socket.socket, **message: object) -> None:
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


class _StartError(Exception):
    def __init__(self, stage: str, number: int) -> None:
        self.stage = stage
        self.number = number


def _start(spec: dict[str, Any], stdio: list[int]) -> int:
    """Fork and execute; returns once the new program runs. Raises with the step that failed and its errno."""
    report, error = os.pipe()
    keeper = os.getpid()
    try:
        pid = os.fork()
    except OSError as failure:
        raise _StartError("fork", failure.errno or 0) from None
    if pid == 0:
        _become(spec, stdio, error, keeper)
    for fd in (*stdio, error):
        os.close(fd)
    failed = os.read(report, 64)
    os.close(report)
    if failed:
        os.waitpid(pid, 0)
        stage, _, number = failed.decode().partition(" ")
        raise _StartError(stage, int(number))
    return pid


def _become(spec: dict[str, Any], stdio: list[int], error: int, keeper: int) -> NoReturn:
    stage = "prepare"
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        for handled in signal.valid_signals():
            if signal.getsignal(handled) not in (signal.SIG_DFL, None):
                signal.signal(handled, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        if error != 3:
            os.dup2(error, 3, inheritable=False)
            error = 3
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        if spec["cwd"]:
            stage = "cwd"
            os.chdir(spec["cwd"])
        stage = "exec"
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 what the operator configured, without a shell
    except OSError as failure:
        os.write(error, f"{stage} {failure.errno or 0}".encode())
    except (ValueError, TypeError, LookupError):
        os.write(error, f"{stage} 22".encode())
    finally:
        os._exit(127)


# --- the supervisor -------------------------------------------------------------------------------------------------


class Supervisor:
    def __init__(self, hangar: socket.socket) -> None:
        self._hangar = hangar
        self._keepers: set[int] = set()

    def run(self) -> None:
        """Until Hangar is gone and nothing is left."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        wake = _wake_on_exit()
        poll = select.poll()
        poll.register(self._hangar, select.POLLIN)
        poll.register(wake, select.POLLIN)
        alive, strays, pause = True, 0, _FIRST_ROUND
        while alive or self._keepers or strays:
            for fd, _ in poll.poll(pause if strays else None):
                if fd == wake:
                    _drain(wake)
                elif not self._serve():
                    poll.unregister(self._hangar)
                    alive = False
            ended = self._reap()
            if ended or strays:
                strays = self._kill_strays()
                pause = _FIRST_ROUND if ended else min(pause * 2, _LONGEST_ROUND)

    def _serve(self) -> bool:
        """One request; False once Hangar is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._hangar, REQUEST.size, 4)
        except OSError:
            return False
        if len(data) < REQUEST.size:
            return False
        kind, session, started = REQUEST.unpack(data)
        if kind == LAUNCH and len(fds) == 4:
            self._fork_keeper(socket.socket(fileno=fds[0]), fds[1:])
        elif kind == SWEEP:
            _sweep(session, started)
        else:
            for fd in fds:
                os.close(fd)
        return True

    def _fork_keeper(self, control: socket.socket, stdio: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as failure:
            _tell(control, failed="fork", errno=failure.errno)
            pid = -1
        if pid == 0:
            status = 1
            try:
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, self._hangar.fileno())
                os.close(null)
                Keeper(control, stdio).run()
                status = 0
            except Exception as defect:  # nobody sees a keeper's stderr: what broke it must still be told
                _tell(control, failed="keeper", errno=0, detail=repr(defect))
            finally:
                os._exit(status)
        if pid > 0:
            self._keepers.add(pid)
        control.close()
        for fd in stdio:
            os.close(fd)

    def _reap(self) -> int:
        """Collect what ended, and say how many."""
        ended = 0
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                self._keepers.discard(pid)
                ended += 1
        return ended

    def _kill_strays(self) -> int:
        """Kill what dead keepers left: every child of ours that is no keeper. Its own children fall to us in turn."""
        me = os.getpid()
        strays = [p for p in _processes() if p.parent == me and p.pid not in self._keepers]
        for process in strays:
            _send(process, signal.SIGKILL)
        return len(strays)


def _sweep(session: int, started: int) -> None:
    """Kill a session that is not ours, as long as it surely is the one that was meant: its id is not given anew while a
    member lives, and a leader with another start time means that it was."""
    for _ in range(_SWEEP_ROUNDS):
        members = [p for p in _processes() if session in (p.session, p.group)]
        if not members or any(p.pid == session and p.started != started for p in members):
            return
        for process in members:
            _send(process, signal.SIGKILL)
        time.sleep(_FIRST_ROUND / 1000)


# --- the kernel -----------------------------------------------------------------------------------------------------


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int
    started: int
    """In clock ticks since boot: with the pid, a name that is not given twice."""


def _processes() -> list[_Process]:
    """All that run, zombies left out. /proc has no list of children on every kernel, so the parents are read."""
    found: list[_Process] = []
    if not _LINUX:
        return found
    for name in os.listdir("/proc"):  # noqa: PTH208 pathlib is not for keepers
        if name.isdigit() and (process := _process(int(name))):
            found.append(process)
    return found


def _process(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 pathlib is not for keepers
            stat = file.read()
    except OSError:
        return None
    # The name in parentheses may itself hold anything, a closing parenthesis too: fields count from the last one.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return _Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def _descendants(root: int) -> list[_Process]:
    children: dict[int, list[_Process]] = {}
    for process in _processes():
        children.setdefault(process.parent, []).append(process)
    found: list[_Process] = []
    open_ = [root]
    while open_:
        below = children.pop(open_.pop(), [])
        found += below
        open_ += [process.pid for process in below]
    return found


def _send(process: _Process, number: signal.Signals) -> None:
    """Signal exactly this process: the descriptor holds on to it while its start time is compared, so a pid that was
    given to somebody else meanwhile is left alone."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        now = _process(process.pid)
        if now and now.started == process.started:
            signal.pidfd_send_signal(fd, number)
    except OSError:
        pass
    finally:
        os.close(fd)


def _wake_on_exit() -> int:
    """A descriptor that is readable when a child ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _prctl(option: int, argument: int | bytes) -> None:
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _LINUX and _libc.prctl(option, value, *[ctypes.c_ulong(0)] * 3):
        raise OSError(ctypes.get_errno(), "prctl")


_libc = ctypes.CDLL(None, use_errno=True)


def _rename(title: str) -> None:
    """Show `title` in `ps`, by writing over the argument list that the kernel shows for us."""
    if not _LINUX:
        return
    _prctl(_PR_SET_NAME, b"hangar-keeper")
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 pathlib is not for keepers
        stat = file.read()
    fields = stat[stat.rfind(b")") + 2 :].split()
    start, end = int(fields[45]), int(fields[46])
    if end > start > 0:
        ctypes.memset(start, 0, end - start)
        text = f"hangar-keeper {title}".encode()[: end - start - 1]
        ctypes.memmove(start, text, len(text))


def main() -> None:
    # A service manager or a terminal that signals everybody at once must not end the keepers before their providers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    gc.disable()
    gc.freeze()
    hangar = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    Supervisor(hangar).run()


if __name__ == "__main__":
    main()
