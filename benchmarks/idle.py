# SPDX-License-Identifier: MIT
"""What Hangar costs while nobody calls: time from start to ready, memory and CPU with a hundred cold providers."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import TargetFailed, cpu, resident_bytes, tree
from benchmarks.targets import RULES, free_port, hangar_command, hangar_config, last_words, process

PROVIDERS: Final = 100
STARTS: Final = 5
SETTLE_SECONDS: Final = 3.0
IDLE_SECONDS: Final = 20.0
READY_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    ready_seconds: float
    """From the start of the process to the first answer of its health door; the best of several starts."""
    resident_mb: float
    cpu_percent: float
    """Of one core."""


def cold_providers(count: int) -> dict[str, Any]:
    """Half of them programs, half of them remote; none is there, and none is asked before it is called."""
    providers: dict[str, Any] = {}
    for number in range(count):
        if number % 2:
            providers[f"program-{number}"] = {"mode": "subprocess", "command": [sys.executable], "tools": RULES}
        else:
            providers[f"remote-{number}"] = {"mode": "remote", "url": "http://127.0.0.1:9/mcp", "tools": RULES}
    return providers


def healthy(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        finally:
            connection.close()
    return False


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A Hangar with cold providers, and how many seconds passed until it was ready."""
    port = free_port()
    config = hangar_config(folder, port, cold_providers(PROVIDERS))
    log = folder / "hangar.log"
    began = time.monotonic()
    with process(hangar_command(config), log) as running:
        while not healthy(port):
            if running.poll() is not None or time.monotonic() - began > READY_PATIENCE:
                raise TargetFailed(f"Hangar was not ready: {last_words(log)}")
            time.sleep(0.005)
        yield running, time.monotonic() - began


def measured() -> Idle:
    ready = []
    with tempfile.TemporaryDirectory(prefix="hangar-bench-") as name:
        folder = Path(name)
        for _ in range(STARTS - 1):
            with started(folder) as (_, seconds):
                ready.append(seconds)
        with started(folder) as (running, seconds):
            ready.append(seconds)
            time.sleep(SETTLE_SECONDS)
            pids = tree(running.pid)
            before = cpu(pids)
            time.sleep(IDLE_SECONDS)
            used = (cpu(pids) - before).used_ns / 1e9
            return Idle(
                ready_seconds=min(ready),
                resident_mb=resident_bytes(pids) / 1e6,
                cpu_percent=100 * used / IDLE_SECONDS,
            )
