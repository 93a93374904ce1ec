# SPDX-License-Identifier: MIT
"""What all tests share: the event loop, and the strangers (node, real servers) that some of them need.

Where a stranger is missing its tests are skipped with one line. `HANGAR_TEST_REQUIRE=node,servers` names what must
be there: then such a skip is a failure. Look-up: `HANGAR_TEST_NODE_MODULES` and `HANGAR_TEST_SERVERS` (a folder of
npm packages, a folder of programs), else what `make setup` installs under `.tools/`, else PATH for the programs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = frozenset(part for part in os.environ.get("HANGAR_TEST_REQUIRE", "").replace(" ", "").split(",") if part)
OLDEST_NODE = 22


# A process that a shell starts in the background ignores SIGINT, and so would everything that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Properties are tried on other examples each time; at the gate on the same ones, so that what it says is no luck. How
# fast examples come says something about the machine only.
for profile, same in (("explore", False), ("gate", True)):
    settings.register_profile(profile, derandomize=same, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HANGAR_TEST_PROPERTIES", "explore"))


def missing(thing: str, why: str) -> NoReturn:
    """Skip, or fail where `HANGAR_TEST_REQUIRE` names `thing`."""
    if thing in REQUIRED:
        pytest.fail(f"{why} (HANGAR_TEST_REQUIRE names {thing})", pytrace=False)
    pytest.skip(why)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A skip for whatever reason of a test that needs something required is a failure too."""
    report = yield
    needs = {mark.name for mark in item.iter_markers()} & REQUIRED
    if report.skipped and needs and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though HANGAR_TEST_REQUIRE names {', '.join(sorted(needs))}: {call.excinfo}"
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@dataclass(frozen=True)
class Node:
    """Node, and the npm packages of tests/node."""

    program: Path
    modules: Path

    def package(self, name: str) -> list[str]:
        """The command that runs a package's program, without npx: the process is node itself."""
        link = self.modules / ".bin" / name
        assert link.exists(), f"{name} is not installed in {self.modules}"
        return [str(self.program), str(link.resolve())]


def find_node() -> Node:
    modules = Path(os.environ.get("HANGAR_TEST_NODE_MODULES") or ROOT / ".tools/node/node_modules")
    if not (modules / ".bin").is_dir():
        missing("node", f"no npm packages in {modules}; `make setup` installs them")
    for candidate in (modules / "node/bin/node", modules / ".bin/node", shutil.which("node")):
        if candidate is None or not Path(candidate).exists():
            continue
        asked = subprocess.run([str(candidate), "--version"], capture_output=True, text=True, timeout=30, check=False)
        major = asked.stdout.strip().removeprefix("v").partition(".")[0]
        if major.isdigit() and int(major) >= OLDEST_NODE:
            return Node(Path(candidate), modules)
    missing("node", f"no node {OLDEST_NODE} or newer; `make setup` installs one where npm is")


@pytest.fixture(scope="session")
def node() -> Node:
    return find_node()


@dataclass(frozen=True)
class RealServers:
    """Strangers' servers from PyPI, as programs."""

    time: str
    git: str
    fetch: str


@pytest.fixture(scope="session")
def real_servers() -> RealServers:
    folders = [os.environ.get("HANGAR_TEST_SERVERS", ""), str(ROOT / ".tools/servers/bin"), os.environ.get("PATH", "")]
    found = {}
    for name in ("time", "git", "fetch"):
        path = shutil.which(f"mcp-server-{name}", path=os.pathsep.join(folder for folder in folders if folder))
        if path is None:
            missing("servers", f"mcp-server-{name} is not installed; `make setup` installs it")
        found[name] = path
    return RealServers(**found)


def make_repository(place: Path) -> Path:
    """A git repository with one commit, for mcp-server-git."""
    folder = place / "repository"
    folder.mkdir()
    (folder / "README").write_text("A repository for one test.\n")
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    env = {"PATH": os.environ["PATH"], "HOME": str(place)}
    for step in (["init", "-q", "-b", "main"], ["add", "README"], [*who, "commit", "-q", "-m", "The first commit"]):
        subprocess.run(["git", *step], cwd=folder, check=True, timeout=60, env=env)
    return folder
