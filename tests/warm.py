# SPDX-License-Identifier: MIT
"""The command `hangar`, run many times: one process imports it, and forks for each run.

What runs is the real command with its own arguments, environment, folder, output and exit status; only the start of the
interpreter is shared.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVER = """
import json, os, signal, sys
from mcp_hangar.server.cli.main import build, main
import httpx, jsonschema_rs, mcp_hangar.client, mcp_hangar.server.cli.config, mcp_hangar.server.cli.init
import mcp_hangar.server.bootstrap.serving, mcp_hangar.server.cli.onboarding.writing

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 70
        signal.alarm(asked["limit"])  # one that should have failed and goes on is ended
        try:
            os.chdir(asked["cwd"])
            for number, path in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
                handle = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                os.dup2(handle, number)
            os.environ.clear()
            os.environ.update(asked["env"])
            sys.argv = ["hangar", *asked["arguments"]]
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    pass
            os._exit(code)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)
"""


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: str
    stderr: str


class Warm:
    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def __call__(self, *arguments: str, cwd: Path, env: Mapping[str, str], limit: int = 90) -> Ran:
        out, err = self._folder / "out", self._folder / "err"
        asked: dict[str, Any] = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "limit": limit}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asked, "out": str(out), "err": str(err)}) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        return Ran(code, out.read_text(), err.read_text())


@contextlib.contextmanager
def warm(folder: Path) -> Iterator[Warm]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        try:
            yield Warm(process, folder)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)
