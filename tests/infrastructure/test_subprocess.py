# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_hangar.application.ports.connection import Connection, Outgoing
from mcp_hangar.domain.errors import ProviderDied, StartFailed, Unsent
from mcp_hangar.domain.mcp.envelope import notification, request
from mcp_hangar.domain.provider import Lifecycle, Mode, Provider, Sharing, SubprocessLaunch
from mcp_hangar.infrastructure.launchers.subprocess import INHERITED, SubprocessLauncher
from tests.ports import script
from tests.ports.connection_suite import PATIENCE, Heard, ask, read
from tests.test_supervisor import FAMILY, TREE

pytestmark = pytest.mark.anyio

SECRET = "correct-horse-battery-staple"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/home/somebody",
    "LANG": "C.UTF-8",
    "OPENAI_API_KEY": SECRET,
    "HTTPS_PROXY": f"http://user:{SECRET}@proxy",
    "PYTHONPATH": f"/{SECRET}",
}


def provider(*command: str, cwd: str = "", stop_grace: float = 0.2, env: dict[str, str] | None = None) -> Provider:
    return Provider(
        name="scripted",
        mode=Mode.subprocess,
        sharing=Sharing.shared,
        launch=SubprocessLaunch(command=command, cwd=cwd, env=env or {}),
        lifecycle=Lifecycle(stop_grace=stop_grace),
    )


def python(code: str, **options: Any) -> Provider:
    return provider(sys.executable, "-S", "-u", "-c", code, **options)


def scripted(**options: Any) -> Provider:
    return provider(sys.executable, "-S", "-u", script.__file__, **options)


@pytest.fixture
async def launcher() -> AsyncIterator[SubprocessLauncher]:
    launcher = SubprocessLauncher(ENVIRONMENT)
    yield launcher
    await launcher.close()


def parent(pid: int) -> int:
    return int(shown(pid, "stat").rpartition(")")[2].split()[1])


def shown(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text(errors="replace")


def alive(pid: int) -> bool:
    """Or a zombie."""
    return Path(f"/proc/{pid}").exists()


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def ended(*pids: int) -> None:
    """Until these processes are no more."""

    def wait() -> list[int]:
        left = []
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            if not select.select([fd], [], [], PATIENCE)[0]:
                left.append(pid)
            os.close(fd)
        return left

    assert await asyncio.to_thread(wait) == []


async def tell(connection: Connection) -> Any:
    """What a provider has to tell: its answer to the first line it gets."""
    heard = Heard(connection)
    await connection.post(notification("tell"))
    await heard.until(lambda: bool(heard.messages))
    return json.loads(bytes(heard.messages[0].params))


TELL = """
import json, os, sys

def tell(what):
    sys.stdin.readline()
    print(json.dumps({"method": "told", "params": what}), flush=True)

"""


async def test_a_provider_inherits_a_short_safe_list_and_its_own_env(launcher: SubprocessLauncher) -> None:
    code = TELL + "tell(dict(os.environ)); sys.stdin.read()"
    connection = await launcher.launch(python(code, env={"MODE": "test", "LANG": "C"}), "env-1", "stdio")
    seen = await tell(connection)
    seen.pop("LC_CTYPE", None)  # Python's own doing
    assert seen == {"PATH": os.environ["PATH"], "HOME": "/home/somebody", "LANG": "C", "MODE": "test"}
    assert SECRET not in json.dumps(seen)


def test_nothing_inherited_could_hold_a_secret() -> None:
    assert not [name for name in INHERITED if any(word in name for word in ("KEY", "TOKEN", "PASS", "PROXY", "SOCK"))]


async def test_a_secret_stands_in_no_argument_list_and_in_no_environment_but_its_own(
    launcher: SubprocessLauncher,
) -> None:
    code = TELL + "tell([os.getpid(), os.getppid()]); sys.stdin.read()"
    connection = await launcher.launch(python(code, env={"API_KEY": SECRET}), "secret-1", "stdio")
    pid, keeper = await tell(connection)
    supervisor = parent(keeper)
    for other in (keeper, supervisor):
        assert SECRET not in shown(other, "environ")
    for any_of in (pid, keeper, supervisor):
        assert SECRET not in shown(any_of, "cmdline")


@pytest.mark.parametrize(
    ("command", "cwd", "detail", "fix"),
    [
        (["no-such-program"], "", "Command not found: no-such-program.", "Install it"),
        (["/no/such/program"], "", "There is no program at /no/such/program.", "Correct the path"),
        (["/etc/passwd"], "", "/etc/passwd may not be executed", "chmod +x /etc/passwd"),
        (["{tmp}/script"], "", "names an interpreter in its first line that does not exist", "Install that"),
        (["{tmp}/noise"], "", "is no program this machine can run", "#!"),
        ([sys.executable], "/no/such/folder", "Its working directory /no/such/folder cannot be entered", "cwd"),
        ([sys.executable, "x" * 3_000_000], "", "larger than the kernel accepts", "Shorten"),
    ],
)
async def test_a_failed_start_says_what_to_do(
    launcher: SubprocessLauncher, tmp_path: Path, command: list[str], cwd: str, detail: str, fix: str
) -> None:
    for name, text in (("script", "#!/no/such/interpreter\n"), ("noise", "\x01\x02")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    failing = provider(*(part.format(tmp=tmp_path) for part in command), cwd=cwd)
    before = descriptors()
    for attempt in range(2):
        with pytest.raises(StartFailed) as raised:
            await launcher.launch(failing, "failing-1", "stdio")
        assert detail in str(raised.value.facts["detail"])
        assert fix in str(raised.value.facts["fix"])
        assert SECRET not in raised.value.why + raised.value.fix
        if attempt:
            assert descriptors() <= before, "nothing is left open"
        before = descriptors()


async def test_a_cancelled_launch_leaves_nothing_behind(launcher: SubprocessLauncher, tmp_path: Path) -> None:
    await (await launcher.launch(scripted(), "first-1", "stdio")).close()
    before = descriptors()
    for turns in range(12):
        launching = asyncio.create_task(launcher.launch(scripted(), f"cancelled-{turns}", "stdio"))
        for _ in range(turns):
            await asyncio.sleep(0)
        launching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await launching).close()
    assert descriptors() <= before
    assert (await read(await ask(await launcher.launch(scripted(), "after-1", "stdio")))).is_response


async def test_one_supervisor_serves_all_and_goes_when_the_launcher_closes(launcher: SubprocessLauncher) -> None:
    code = TELL + "tell([os.getpid(), os.getppid()]); sys.stdin.read()"
    connections = await asyncio.gather(*[launcher.launch(python(code), f"many-{n}", "stdio") for n in range(5)])
    pids = await asyncio.gather(*map(tell, connections))
    supervisors = {parent(keeper) for _, keeper in pids}
    assert len(supervisors) == 1
    await launcher.close()
    for pid in (*supervisors, *(pid for pair in pids for pid in pair)):
        assert not alive(pid), "not even as a zombie"
    with pytest.raises(StartFailed):
        await launcher.launch(scripted(), "late-1", "stdio")


async def test_a_server_that_leaves_at_the_end_of_its_stdin_is_not_signalled(
    launcher: SubprocessLauncher, tmp_path: Path
) -> None:
    code = (
        TELL + "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1], 'a').write('signalled '))\n"
        "tell(1)\n"
        "sys.stdin.read()\n"
        "open(sys.argv[1], 'a').write('left')\n"
    )
    note = tmp_path / "note"
    leaving = provider(sys.executable, "-S", "-c", code, str(note), stop_grace=PATIENCE)
    connection = await launcher.launch(leaving, "leaving-1", "stdio")
    await tell(connection)
    await connection.close()
    assert note.read_text() == "left"


async def test_a_server_that_heeds_neither_stdin_nor_sigterm_is_killed_with_its_children(
    launcher: SubprocessLauncher,
) -> None:
    code = (
        TELL + "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child: tell([os.getpid(), child])\n"
        "else: os.setsid()\n"
        "time.sleep(1000)"
    )
    connection = await launcher.launch(python(code), "stubborn-1", "stdio")
    pids = await tell(connection)
    await connection.close()
    assert [pid for pid in pids if alive(pid)] == []


async def test_what_a_provider_writes_while_it_stops_does_not_hold_it_up(launcher: SubprocessLauncher) -> None:
    code = "import sys; sys.stdin.read(); sys.stdout.write('x' * 5000000); sys.stderr.write('left')"
    connection = await launcher.launch(python(code, stop_grace=PATIENCE), "chatty-1", "stdio")
    await connection.close()
    assert launcher.logs("scripted") == ["left"]


async def test_the_next_launch_starts_a_new_supervisor(launcher: SubprocessLauncher) -> None:
    code = TELL + "tell(os.getppid()); sys.stdin.read()"
    first = await launcher.launch(python(code), "first-1", "stdio")
    keeper = await tell(first)
    supervisor = parent(keeper)
    os.kill(supervisor, signal.SIGKILL)
    await ended(supervisor)
    second = await launcher.launch(scripted(), "second-1", "stdio")
    assert (await read(await ask(second))).is_response
    await first.close()
    await ended(keeper)


async def test_a_killed_keeper_is_a_dead_provider(launcher: SubprocessLauncher) -> None:
    code = TELL + "import time\nchild = os.fork()\nif child: tell([os.getpid(), os.getppid(), child])\ntime.sleep(1000)"
    connection = await launcher.launch(python(code), "orphan-1", "stdio")
    pid, keeper, child = await tell(connection)
    exchange = await connection.send(Outgoing(1, "m", request(1, "m", b"{}")))
    os.kill(keeper, signal.SIGKILL)
    with pytest.raises(ProviderDied) as raised:
        await read(exchange)
    assert "keeper was killed" in str(raised.value.facts["detail"])
    await ended(pid, keeper, child)
    with pytest.raises(Unsent):
        await connection.send(Outgoing(2, "m", request(2, "m", b"{}")))


async def test_keeper_and_supervisor_killed_leave_nothing_of_the_session(launcher: SubprocessLauncher) -> None:
    code = TELL + "import time\nchild = os.fork()\nif child: tell([os.getpid(), os.getppid(), child])\ntime.sleep(1000)"
    connection = await launcher.launch(python(code), "orphan-1", "stdio")
    pid, keeper, child = await tell(connection)
    supervisor = parent(keeper)
    os.kill(supervisor, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    await ended(pid, keeper, child, supervisor)


async def test_what_a_supervisor_did_not_live_to_sweep_is_left_to_the_next(launcher: SubprocessLauncher) -> None:
    code = TELL + "import time\nchild = os.fork()\nif child: tell([os.getpid(), os.getppid(), child])\ntime.sleep(1000)"
    connection = await launcher.launch(python(code), "orphan-1", "stdio")
    pid, keeper, child = await tell(connection)
    supervisor = parent(keeper)
    heard = Heard(connection)
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(keeper, signal.SIGKILL)
    await heard.until(lambda: bool(heard.closed))
    os.kill(supervisor, signal.SIGKILL)
    await ended(pid, keeper, child, supervisor)


async def test_a_provider_that_ends_at_once_is_a_failed_start_or_a_dead_connection(
    launcher: SubprocessLauncher,
) -> None:
    code = "import sys; print('no config', file=sys.stderr); sys.exit(2)"

    async def call() -> None:
        connection = await launcher.launch(python(code), "brief-1", "stdio")
        await read(await connection.send(Outgoing(1, "m", request(1, "m", b"{}"))))

    with pytest.raises((StartFailed, Unsent, ProviderDied)) as raised:
        await call()
    assert "exited with status 2" in str(raised.value.facts["detail"])
    assert "no config" in str(raised.value.facts["detail"])


async def test_a_program_that_is_no_server_is_told_by_its_exit_and_not_by_the_pipe_that_broke(
    launcher: SubprocessLauncher,
) -> None:
    launch = SubprocessLaunch(command=("/bin/echo", "hello there"))
    provider = Provider(name="scripted", mode=Mode.subprocess, sharing=Sharing.shared, launch=launch)

    async def ask_it(number: int) -> None:
        connection = await launcher.launch(provider, f"echo-{number}", "stdio")
        while True:  # before, while and after its pipes break
            await read(await connection.send(Outgoing(1, "m", request(1, "m", b"{}"))))

    for number in range(10):
        with pytest.raises((StartFailed, Unsent, ProviderDied)) as raised:
            await ask_it(number)
        assert "exited with status 0" in str(raised.value.facts["detail"])


HANGAR = """
import asyncio, os, sys
from mcp_hangar.domain.provider import Mode, Provider, Sharing, SubprocessLaunch
from mcp_hangar.infrastructure.launchers.subprocess import SubprocessLauncher

async def main():
    launch = SubprocessLaunch(command=(sys.executable, "-S", sys.argv[1], sys.argv[2]))
    provider = Provider(name="tree", mode=Mode.subprocess, sharing=Sharing.shared, launch=launch)
    launcher = SubprocessLauncher(os.environ)
    connection = await launcher.launch(provider, "tree-1", "stdio")
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_kill_9_of_hangar_leaves_no_process(tmp_path: Path) -> None:
    tree, pids = tmp_path / "tree.py", tmp_path / "pids"
    tree.write_text(TREE)
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    hangar = subprocess.Popen([sys.executable, "-c", HANGAR, str(tree), str(pids)], env=environment)
    try:
        family: dict[str, int] = {}
        until = time.monotonic() + PATIENCE
        while family.keys() != FAMILY and time.monotonic() < until:
            time.sleep(0.01)
            lines = pids.read_text().splitlines() if pids.exists() else []
            family = {name: int(pid) for name, pid in (line.rsplit(" ", 1) for line in lines)}
        assert family.keys() == FAMILY
        family["keeper"] = parent(family["provider"])
        family["supervisor"] = parent(family["keeper"])
    finally:
        hangar.kill()
        hangar.wait()
    asyncio.run(ended(*family.values()))


async def test_logs_keep_the_newest_lines_of_all_instances(launcher: SubprocessLauncher) -> None:
    code = "import sys; sys.stdin.read(); [print('line', n, file=sys.stderr) for n in range(2000)]"
    for instance in ("log-1", "log-2"):
        await (await launcher.launch(python(code, stop_grace=PATIENCE), instance, "stdio")).close()
    lines = launcher.logs("scripted")
    assert lines[-1] == "line 1999"
    assert lines == [f"line {n}" for n in range(2000 - len(lines), 2000)]
    assert launcher.logs("somebody else") == []


async def test_a_flood_of_stderr_neither_blocks_the_provider_nor_grows_memory(launcher: SubprocessLauncher) -> None:
    code = """
import sys, json
for line in sys.stdin:
    message = json.loads(line)
    for _ in range(100):
        sys.stderr.write(("error: " + "y" * 92 + "\\n") * 5000 + "z" * 500000)
    sys.stdout.write('{"jsonrpc":"2.0","id":%d,"result":{}}\\n' % message["id"])
    sys.stdout.flush()
"""
    connection = await launcher.launch(python(code, stop_grace=PATIENCE), "flood-1", "stdio")
    exchange = await connection.send(Outgoing(1, "m", request(1, "m", b"{}")))
    turns = 0
    reading = asyncio.ensure_future(exchange.next())
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await reading).is_response
    assert turns > 100, "the loop turned while the flood was read"
    await connection.close()
    lines = launcher.logs("scripted")
    assert len(lines) <= 500
    assert sum(map(len, lines)) < 1_000_000
    assert lines[-2].startswith(("error: y", "z"))


async def test_logs_show_neither_secrets_nor_control_characters(launcher: SubprocessLauncher) -> None:
    code = "import os, sys; sys.stdin.read(); print('\\x1b[31mkey', os.environ['API_KEY'], file=sys.stderr)"
    connection = await launcher.launch(
        python(code, env={"API_KEY": SECRET, "LEVEL": "31mk"}, stop_grace=PATIENCE), "masked-1", "stdio"
    )
    await connection.close()
    (line,) = launcher.logs("scripted")
    assert line == "\N{REPLACEMENT CHARACTER}[31mkey ***"


@pytest.mark.parametrize("uvloop", [False, True])
def test_it_works_on_either_loop(uvloop: bool) -> None:
    async def run() -> None:
        launcher = SubprocessLauncher(ENVIRONMENT)
        connection = await launcher.launch(scripted(), "loop-1", "stdio")
        answer = await read(await ask(connection, {"big": 2_000_000}))
        assert len(answer.result) > 2_000_000
        dying = await ask(connection, {"die": 1})
        with pytest.raises(ProviderDied):
            await read(dying)
        await connection.close()
        await launcher.close()

    if uvloop:
        import uvloop as loop

        loop.run(run())
    else:
        asyncio.run(run())
