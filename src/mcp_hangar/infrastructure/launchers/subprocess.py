# SPDX-License-Identifier: MIT
"""Providers as processes of this machine, over stdio.

Each instance has a keeper (`mcp_hangar.supervisor`), which starts it, tells at once how it ended, and leaves nothing of
its tree behind, whatever happens to Hangar. This file is Hangar's end of that: it starts the supervisor with the first
provider, hands over descriptors, and turns what a kernel says about a failed start into what a person can do about it.

A provider inherits `INHERITED` and its own `env`, nothing else: Hangar's environment holds secrets of other providers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Final, cast

from mcp_hangar.domain.errors import StartFailed
from mcp_hangar.domain.provider import Provider, SubprocessLaunch
from mcp_hangar.infrastructure.transports.stdio import StdioConnection, uncut
from mcp_hangar.supervisor import LAUNCH, REQUEST, SWEEP, command

INHERITED: Final = (
    # where programs and the user's files are
    "PATH", "HOME", "SHELL", "USER", "LOGNAME", "TMPDIR",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    # language, time, terminal
    "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TERM",
    # whom TLS trusts
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""What a provider inherits of Hangar's environment. Proxy variables are not among them: they may hold a password."""

_LINES: Final = 500
_LINE_BYTES: Final = 1024
_LAST_LINES: Final = 5
_ORPHAN_GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL when nobody waits: Hangar is gone, or the provider ended and left others."""
_DRAIN_BYTES: Final = 1024 * 1024
_SUPERVISOR_WAIT: Final = 10.0
_SECRET: Final = re.compile("KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|DSN", re.IGNORECASE)


class SubprocessLauncher:
    """Keeps the `Launcher` port for mode `subprocess`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._inherited = {name: environment[name] for name in INHERITED if name in environment}
        self._supervisor: _Supervisor | None = None
        self._logs: dict[str, _Log] = {}
        self._live: set[StdioConnection] = set()
        self._asked: list[tuple[float, int, int]] = []
        """What the supervisor was asked to sweep: when, session, and when that started."""
        self._closed = False

    def wires(self, provider: Provider) -> tuple[str, ...]:
        return ("stdio",)

    async def launch(self, provider: Provider, instance: str, wire: str) -> StdioConnection:
        launch = provider.launch
        assert isinstance(launch, SubprocessLaunch)
        if self._closed:
            raise _failure(provider, "Hangar is stopping.", "Try again once it is back.")
        env = self._inherited | launch.env
        log = self._logs.setdefault(provider.name, _Log())
        log.mask(value for name, value in launch.env.items() if _SECRET.search(name))
        process = _KeptProcess(log, self._sweep)
        connection = StdioConnection(
            provider.name, provider.limits.message_bytes, provider.lifecycle.stop_grace, process
        )
        spec = {
            "argv": list(launch.command),
            "env": env,
            "cwd": launch.cwd,
            "title": instance,
            "grace": min(provider.lifecycle.stop_grace, _ORPHAN_GRACE),
        }
        with contextlib.ExitStack() as pipes:
            try:
                stdin, stdout, stderr = await self._hand_over(pipes, process)
                await process.follow(stderr)  # before it starts: it may end, with last words, at once
                await process.start(spec)
                await connection.open(stdin, stdout)
                pipes.pop_all()
            except OSError as error:
                await process.close()
                raise _failure(provider, *_kernel_says("pipes", error.errno or 0, launch, env)) from None
            except _NotStarted as error:
                await process.close()
                detail, fix = _kernel_says(error.stage, error.number, launch, env)
                raise _failure(provider, detail, fix) from None
            except BaseException:
                await process.close()
                raise
        if process.exit:
            await connection.close()
            raise _failure(provider, process.exit, "Run the command by hand to see what it needs.")
        self._live.add(connection)
        process.on_released = lambda: self._live.discard(connection)
        return connection

    async def _hand_over(self, pipes: contextlib.ExitStack, process: _KeptProcess) -> list[IO[bytes]]:
        """Give the supervisor the provider's ends of three pipes, keep ours."""
        with contextlib.ExitStack() as theirs:
            ours: list[IO[bytes]] = []
            given: list[int] = []
            control, keeper = socket.socketpair()
            pipes.callback(control.close)
            theirs.callback(keeper.close)
            for writes in (True, False, False):
                reading, writing = os.pipe()
                mine, other = (writing, reading) if writes else (reading, writing)
                theirs.callback(os.close, other)
                given.append(other)
                ours.append(pipes.enter_context(os.fdopen(mine, "wb" if writes else "rb", buffering=0)))
            self._request(LAUNCH, fds=[keeper.fileno(), *given])
        await process.attach(control)
        return ours

    def _request(self, kind: bytes, session: int = 0, started: int = 0, fds: list[int] | None = None) -> None:
        message = REQUEST.pack(kind, session, started)
        if self._supervisor is not None and self._supervisor.send(message, fds or []):
            return
        self._supervisor = _Supervisor(self._sweep_again)
        if not self._supervisor.send(message, fds or []):
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _sweep(self, session: int, started: int) -> None:
        """A keeper was killed. What it leaves falls to its supervisor, unless that was killed too: then a new one ends
        whatever stayed in the provider's session."""
        if not self._closed:
            with contextlib.suppress(OSError):
                self._request(SWEEP, session, started)
            self._asked = [*self._lately_asked(), (asyncio.get_running_loop().time(), session, started)]

    def _sweep_again(self) -> None:
        """A supervisor was killed, and may not have lived to read what it was just asked to sweep."""
        for _, session, started in self._lately_asked():
            self._sweep(session, started)

    def _lately_asked(self) -> list[tuple[float, int, int]]:
        """No longer than that: a session's number may be somebody else's one day."""
        lately = asyncio.get_running_loop().time() - _SUPERVISOR_WAIT
        return [asked for asked in self._asked if asked[0] > lately]

    def logs(self, provider: str) -> list[str]:
        log = self._logs.get(provider)
        return log.lines() if log else []

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*[connection.close() for connection in list(self._live)])
        if self._supervisor is not None:
            await self._supervisor.close()


# --- the keeper, from here ------------------------------------------------------------------------------------------


class _NotStarted(Exception):
    def __init__(self, stage: str, number: int) -> None:
        self.stage = stage
        self.number = number


class _KeptProcess(asyncio.Protocol):
    """Hangar's end of one control socket; the `Process` of a `StdioConnection`."""

    def __init__(self, log: _Log, sweep: Callable[[int, int], None]) -> None:
        self.on_exit: Callable[[str], None] = lambda how: None
        self.on_released: Callable[[], None] = lambda: None
        self.exit = ""
        """How it ended, in words; empty while it runs."""
        self._log = log
        self._sweep = sweep
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._control: asyncio.Transport | None = None
        self._stderr: _Stderr | None = None
        self._unread = b""
        self._pid = 0
        self._at = 0

    async def attach(self, control: socket.socket) -> None:
        await uncut(asyncio.get_running_loop().create_unix_connection(lambda: self, sock=control))

    async def start(self, spec: dict[str, Any]) -> None:
        """Returns once the program runs."""
        assert self._control is not None
        self._control.write(json.dumps(spec).encode() + b"\n")
        await self._started

    async def follow(self, stderr: IO[bytes]) -> None:
        self._stderr = _Stderr(self._log, stderr)
        await self._stderr.attach()

    async def gone(self, within: float) -> bool:
        if not self._gone.done():
            await asyncio.wait([self._gone], timeout=within)
        return self._gone.done()

    def end(self, grace: float) -> None:
        if self._control is not None and not self._control.is_closing():
            self._control.write(json.dumps({"end": grace}).encode() + b"\n")

    async def close(self) -> None:
        """Without its control socket a keeper ends what is left by itself."""
        if self._stderr is not None:
            await self._stderr.close()
        if self._control is not None:
            self._control.close()
            await asyncio.wait([self._closed])

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._control = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        if "started" in message:
            self._pid, self._at = message["started"], message["at"]
            if not self._started.done():
                self._started.set_result(None)
        elif "failed" in message:
            self._gone.set_result(None)
            if not self._started.done():
                self._not_started(message["failed"], message["errno"] or 0)
        elif "exited" in message:
            self._exited(_exit_says(message["exited"]))
        elif "gone" in message:
            self._gone.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._started.done():
            self._not_started("keeper", 0)
        elif not self._gone.done() and self._pid:
            self._exited("Its keeper was killed, and the provider with it.")
            self._sweep(self._pid, self._at)
        if not self._gone.done():
            self._gone.set_result(None)
        self._closed.set_result(None)
        self.on_released()

    def _not_started(self, stage: str, number: int) -> None:
        self._started.set_exception(_NotStarted(stage, number))
        self._started.exception()  # seen, even if whoever asked has given up

    def _exited(self, how: str) -> None:
        if self.exit:
            return
        if self._stderr is not None:
            self._stderr.drain()
            how += self._stderr.last_words()
        self.exit = how
        self.on_exit(how)


class _Supervisor:
    """The supervisor, started with the first provider; a socket that it alone holds tells both sides of the other."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command(),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        self._socket.setblocking(False)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._socket.fileno(), self._over)

    def send(self, message: bytes, fds: list[int]) -> bool:
        """False if it is gone."""
        if self._ended.done():
            return False
        try:
            socket.send_fds(self._socket, [message], fds)
        except (BrokenPipeError, ConnectionResetError):
            self._over()
            return False
        return True

    def _over(self) -> None:
        """Its end of the socket closed: only death does that, so waiting for it takes no time."""
        if self._ended.done():
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._process.wait()
        self._ended.set_result(None)
        self._loop.call_soon(self._on_end)

    async def close(self) -> None:
        """It goes when its keepers are gone."""
        if not self._ended.done():
            self._socket.shutdown(socket.SHUT_WR)
            await asyncio.wait([self._ended], timeout=_SUPERVISOR_WAIT)


# --- stderr ---------------------------------------------------------------------------------------------------------


class _Log:
    """The newest lines of all instances of one provider: bounded in number and length, so a flood costs no memory."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_LINES)
        self._masked: tuple[str, ...] = ()

    def mask(self, secrets: Iterable[str]) -> None:
        """Values that are never shown, although the provider may print them."""
        self._masked = tuple({*self._masked, *(value for value in secrets if len(value) >= 4)})

    def add(self, line: bytes) -> None:
        self._lines.append(line)

    def lines(self) -> list[str]:
        return [self.show(line) for line in self._lines]

    def show(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace")
        for secret in self._masked:
            text = text.replace(secret, "***")
        return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


class _Stderr(asyncio.Protocol):
    """One instance's stderr. Always read, whatever it writes, or the provider would block."""

    def __init__(self, log: _Log, pipe: IO[bytes]) -> None:
        self._log = log
        self._pipe = pipe
        self._partial = b""
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._transport: asyncio.ReadTransport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def attach(self) -> None:
        await uncut(asyncio.get_running_loop().connect_read_pipe(lambda: self, self._pipe))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        # Split from the end: of a flood only what the log can hold is ever looked at.
        first, *others = data.rsplit(b"\n", _LINES)
        skipped = first.rfind(b"\n")
        if skipped >= 0:
            self._partial, first = b"", first[skipped + 1 :]
        if len(self._partial) < _LINE_BYTES:
            self._partial += first[: _LINE_BYTES - len(self._partial)]
        for piece in others:
            self._end_line()
            self._partial = piece[:_LINE_BYTES]

    def _end_line(self) -> None:
        line = self._partial.rstrip()
        if line:
            self._log.add(line)
            self._last.append(line)
        self._partial = b""

    def connection_lost(self, error: Exception | None) -> None:
        self._end_line()
        self._closed.set_result(None)

    def drain(self) -> None:
        """Take what the process wrote before it ended; the loop may not have come to it yet."""
        read = 0
        with contextlib.suppress(OSError, ValueError):
            while read < _DRAIN_BYTES and (data := os.read(self._pipe.fileno(), 65536)):
                read += len(data)
                self.data_received(data)
        self._end_line()

    def last_words(self) -> str:
        if not self._last:
            return " It wrote nothing to stderr."
        return " Its last lines on stderr: " + " | ".join(self._log.show(line)[:200] for line in self._last)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait([self._closed])


# --- words ----------------------------------------------------------------------------------------------------------


def _failure(provider: Provider, detail: str, fix: str) -> StartFailed:
    return StartFailed("start_failed", provider=provider.name, detail=detail, fix=fix)


def _exit_says(status: int) -> str:
    if status >= 0:
        return f"It exited with status {status}."
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    memory = " (often the kernel, for want of memory)" if name == "SIGKILL" else ""
    return f"It was ended by {name}{memory}."


def _kernel_says(stage: str, number: int, launch: SubprocessLaunch, env: Mapping[str, str]) -> tuple[str, str]:
    """What a failed start means, and what to do about it."""
    program = launch.command[0]
    said = os.strerror(number) if number else "no reason given"
    if stage == "cwd":
        return f"Its working directory {launch.cwd} cannot be entered: {said}.", "Create it, or correct cwd."
    if stage == "exec":
        path = env.get("PATH", os.defpath)
        found = shutil.which(program, mode=os.F_OK, path=path)
        if number == errno.ENOENT and found is None:
            if "/" in program:
                return f"There is no program at {program}.", "Correct the path in command, or install it."
            return (
                f"Command not found: {program}.",
                "Install it, or give its full path in command (it is sought in PATH).",
            )
        if number == errno.ENOENT:
            return f"{found} names an interpreter in its first line that does not exist.", "Install that interpreter."
        if number in (errno.EACCES, errno.EPERM):
            return (
                f"{found or program} may not be executed: {said}.",
                f"Make it executable: chmod +x {found or program}",
            )
        if number == errno.ENOEXEC:
            return f"{found or program} is no program this machine can run.", "Start it with #! and its interpreter."
        if number == errno.E2BIG:
            return "Its arguments and env are larger than the kernel accepts.", "Shorten args or env."
        if number == errno.EINVAL:
            return "Its command or env holds what the kernel does not take (a NUL, or = in a name).", "Correct it."
    if stage == "keeper":
        return "The process that was to watch over it ended.", "Try again; if it stays so, look for want of memory."
    if number in (errno.EMFILE, errno.ENFILE):
        return "Hangar has too many open files.", "Raise the limit (ulimit -n), or run fewer instances."
    return f"The operating system refused ({stage}): {said}.", "Check memory and process limits (ulimit -u)."
