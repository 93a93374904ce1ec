# SPDX-License-Identifier: MIT
"""Where and with what it was measured: a figure without that is a rumour."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import environments
from benchmarks.measure import ROOT, TargetFailed

OURS: Final = ("mcp-hangar", "uvicorn", "httptools", "uvloop", "msgspec")
PEERS: Final = {
    "starlette+httpx": ("starlette-httpx", ("starlette", "httpx", "uvicorn")),
    "fastmcp": ("fastmcp", ("fastmcp", "mcp")),
    "contextforge": ("contextforge", ("mcp-contextforge-gateway", "mcp")),
    "earlier-hangar": ("earlier-hangar", ("mcp-hangar", "mcp")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    processor: str
    cores: int
    memory_gb: float
    kernel: str
    system: str
    python: str
    date: str
    commit: str
    load_before: float
    """Of the last minute, before the run: what is far from 0 was a noisy machine."""
    versions: dict[str, str]


def described(*, peers: bool) -> Machine:
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read("/etc/os-release"), re.MULTILINE)
    processor = re.search(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return Machine(
        processor=processor[1] if processor else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        kernel=platform.release(),
        system=system[1] if system else platform.system(),
        python=platform.python_version(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        load_before=round(os.getloadavg()[0], 2),
        versions={name: importlib.metadata.version(name) for name in OURS} | (peer_versions() if peers else {}),
    )


def peer_versions() -> dict[str, str]:
    found = {}
    for peer, (environment, packages) in PEERS.items():
        versions = {package: environments.installed(environment, package) for package in packages}
        if said := ", ".join(f"{package} {version}" for package, version in versions.items() if version):
            found[peer] = said
    try:
        told = subprocess.run([environments.nginx(), "-v"], capture_output=True, text=True, check=False).stderr
        found["nginx"] = told.rpartition("/")[2].strip()
    except TargetFailed:
        pass
    return found


def _read(name: str) -> str:
    try:
        return Path(name).read_text()
    except OSError:
        return ""


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
