# SPDX-License-Identifier: MIT
"""Where a running Hangar can be found: `state.dir/run/{pid}/address`, so that the command line needs no address.

Several Hangars may run, since every MCP client that starts one over stdio starts one more. A folder whose process is
gone is removed by the next that starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

LONGEST_SOCKET_PATH: Final = 107
"""Bytes that fit into a Unix socket's address."""
_PREFIX: Final = "hangar-"


class RunDirectory:
    """Made at start, removed by `close`. `socket` is a path that fits, in the folder or (if that is too deep) in a
    private one of the system's folder for temporary files."""

    def __init__(self, state_dir: Path) -> None:
        pid = os.getpid()
        runs = state_dir / "run"
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(runs)
        self.path = runs / str(pid)
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.socket = self.path / "hangar.sock"
        self._elsewhere: Path | None = None
        if len(os.fsencode(self.socket.absolute())) > LONGEST_SOCKET_PATH:
            self._elsewhere = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self.socket = self._elsewhere / "hangar.sock"

    def announce(
        self, *, url: str = "", socket: str = "", config: str = "", token_file: str = "", version: str = ""
    ) -> None:
        """Tells where the operator plane listens (`url`, or the path of a `socket`), and which file holds the token."""
        pid = os.getpid()
        address = {
            "pid": pid,
            "started": process_start(pid),
            "url": url,
            "socket": socket,
            "config": config,
            "token_file": token_file,
            "version": version,
        }
        fresh = self.path / "address.new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump({key: value for key, value in address.items() if value not in ("", None)}, file)
        fresh.rename(self.path / "address")

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)


def process_start(pid: int) -> int | None:
    """When a process started, in the kernel's ticks: with its id it is unique. None where that is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return None


def is_running(pid: int, started: object) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    now = process_start(pid)
    return now is None or started is None or now == started


def _remove_stale(runs: Path) -> None:
    for path in runs.iterdir():
        if not path.name.isascii() or not path.name.isdigit() or path.is_symlink():
            continue
        address: dict[str, object] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads((path / "address").read_bytes())
            address = read if isinstance(read, dict) else {}
        pid = int(path.name)
        if pid != os.getpid() and is_running(pid, address.get("started")):
            continue
        elsewhere = Path(str(address.get("socket", ""))).parent
        if elsewhere.name.startswith(_PREFIX) and elsewhere.parent == Path(tempfile.gettempdir()):
            with contextlib.suppress(OSError):
                if elsewhere.stat().st_uid == os.geteuid():
                    shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)
