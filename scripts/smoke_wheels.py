# SPDX-License-Identifier: MIT
"""Builds both distributions and uses them as a stranger would: from the wheels, in an environment of their own.

The core alone comes first (it must not need the enterprise), then both. Our own packages are found with `--no-index
--find-links` only, since the public index holds an earlier project under our name; dependencies come from
`constraints/runtime.txt`, by hash.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import venv
import zipfile
from pathlib import Path
from typing import Any, Final

from scripts.repository import ROOT

LIMIT: Final = 300
"""Seconds for one command; nothing here waits for ever."""

CONFIG: Final = """\
version: 1
state: {dir: state}
audit: {sink: none}
providers:
  time:
    mode: subprocess
    command: [mcp-server-time, --local-timezone, UTC]
    tools: {deny: [convert_time]}
"""

REQUESTS: Final = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "smoke", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/call", "params": {"name": "time__get_current_time", "arguments": {"timezone": "UTC"}}},
    {"id": 3, "method": "tools/call", "params": {"name": "time__convert_time", "arguments": {}}},
)


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, check=False, text=True, timeout=LIMIT
    )
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(project: Path, dist: Path) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, project)
    (wheel,) = dist.glob(f"{'mcp_hangar_enterprise' if project.name == 'enterprise' else 'mcp_hangar'}-*.whl")
    return wheel


def check_contents(wheel: Path, package: str, licence: str) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    strangers = [name for name in names if name.split("/")[0] != package and ".dist-info/" not in name]
    if strangers:
        raise SystemExit(f"{wheel.name} holds files outside of {package}: {strangers}")
    for wanted in (f"{package}/py.typed", f"licenses/{licence}"):
        if not any(name.endswith(wanted) for name in names):
            raise SystemExit(f"{wheel.name} lacks {wanted}")


class Installed:
    """A fresh environment, cut off from this checkout and from whatever pip is configured for."""

    def __init__(self, folder: Path, servers: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.home = folder / "home"
        self.home.mkdir()
        venv.create(folder / "venv", with_pip=True)
        self.env = {
            "PATH": f"{self.bin}:{servers}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
        }

    def dependencies(self) -> None:
        """From the index that pip is configured for, so with the environment as it is."""
        run(self.bin / "python", "-m", "pip", "install", "-q", "--require-hashes", "-r", "constraints/runtime.txt")

    def ours(self, name: str, dist: Path) -> None:
        """Resolved for real, with nothing to resolve from but our own wheels and what is installed already."""
        offline = {**self.env, "PIP_CONFIG_FILE": os.devnull}
        pip = (self.bin / "python", "-m", "pip")
        run(*pip, "install", "-q", "--no-index", "--find-links", dist, name, cwd=self.home, env=offline)
        run(*pip, "check", cwd=self.home, env=offline)

    def python(self, code: str) -> str:
        return run(self.bin / "python", "-I", "-c", code, cwd=self.home, env=self.env).strip()

    def hangar(self, *arguments: str) -> str:
        return run(self.bin / "hangar", *arguments, cwd=self.home, env=self.env)

    def talk(self, config: Path) -> dict[int, dict[str, Any]]:
        """Speak MCP to `hangar serve --stdio`; answers by id. Everything on its stdout must be MCP."""
        hangar = subprocess.Popen(
            [self.bin / "hangar", "serve", "--stdio", "--config", config],
            cwd=self.home,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        answers: dict[int, dict[str, Any]] = {}
        with hangar:
            assert hangar.stdin is not None
            assert hangar.stdout is not None
            watchdog = threading.Timer(LIMIT, hangar.kill)
            watchdog.start()
            try:
                for request in REQUESTS:
                    hangar.stdin.write(json.dumps({"jsonrpc": "2.0", **request}) + "\n")
                    hangar.stdin.flush()
                    while "id" in request and request["id"] not in answers:
                        line = hangar.stdout.readline()
                        if not line:
                            raise SystemExit(f"hangar serve --stdio ended before it answered {request['method']}")
                        message = json.loads(line)
                        if "id" in message:
                            answers[message["id"]] = message
                hangar.stdin.close()
                hangar.wait(timeout=60)
            finally:
                watchdog.cancel()
                if hangar.poll() is None:
                    hangar.kill()
        if hangar.returncode:
            raise SystemExit(f"hangar serve --stdio ended with {hangar.returncode} after its input was closed")
        return answers


def use(installed: Installed, version: str) -> None:
    shown = installed.hangar("--version").strip()
    if version not in shown:
        raise SystemExit(f"hangar --version says {shown!r}, expected {version}")
    config = installed.home / "hangar.yaml"
    config.write_text(CONFIG)
    installed.hangar("config", "check", "--config", str(config))
    answers = installed.talk(config)
    result = answers[2].get("result", {})
    if result.get("isError") or "UTC" not in json.dumps(result):
        raise SystemExit(f"the allowed call did not answer with a time: {answers[2]}")
    if "error" not in answers[3] and not answers[3]["result"].get("isError"):
        raise SystemExit(f"the denied call went through: {answers[3]}")


def main() -> int:
    servers = ROOT / ".tools" / "servers" / "bin"
    if not (servers / "mcp-server-time").exists():
        print("mcp-server-time is not installed: run `make setup` first", file=sys.stderr)
        return 1
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    core, enterprise = build(ROOT, dist), build(ROOT / "enterprise", dist)
    check_contents(core, "mcp_hangar", "LICENSE")
    check_contents(enterprise, "mcp_hangar_enterprise", "LICENSE.BSL")
    version = core.name.split("-")[1]
    print(f"built {core.name}, {enterprise.name}")

    with tempfile.TemporaryDirectory(prefix="hangar-smoke-") as folder:
        installed = Installed(Path(folder), servers)
        installed.dependencies()
        installed.ours(f"mcp-hangar=={version}", dist)
        place = installed.python("import mcp_hangar; print(mcp_hangar.__file__)")
        if not place.startswith(folder):
            raise SystemExit(f"mcp_hangar was imported from {place}, not from the wheel")
        if installed.python("import importlib.util as u; print(u.find_spec('mcp_hangar_enterprise'))") != "None":
            raise SystemExit("the core's environment holds the enterprise")
        use(installed, version)
        print("core alone: installed, checked a config, made one call, denied another")

        installed.ours(f"mcp-hangar-enterprise=={version}", dist)
        found = installed.python(
            "from importlib.metadata import entry_points as e\n"
            "print([p.load().__name__ for p in e(group='mcp_hangar.extensions')])"
        )
        if found != "['extend']":
            raise SystemExit(f"the entry point mcp_hangar.extensions gives {found}")
        use(installed, version)
        print("core and enterprise: the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
