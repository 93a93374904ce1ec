# SPDX-License-Identifier: MIT
"""System calls per call, seen by strace: a cost that is the same on every machine.

A call's own are those between the reads of two requests, with one call in flight. Timers and the record's batches fall
into some of these stretches and not into others, and the kernel may wake a loop once more than it must, so what
nearly every call makes is what counts.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Loading, TargetFailed

CALLS: Final = 400
NEARLY_EVERY: Final = 50
"""All calls but one in so many make at least what is told."""

_ENTERED: Final = re.compile(r"^\d+\s+(\w+)\(")
_REQUEST: Final = re.compile(r'^\d+\s+(?:read|readv|recvfrom|recvmsg)\(.*"POST')


class NotAllowed(Exception):
    """This machine has no strace, or does not let it look."""


def counted(pid: int, load: Loading) -> dict[str, int]:
    """By name, for a target whose only load this is."""
    load.connect()
    with tempfile.TemporaryDirectory(prefix="hangar-bench-") as folder:
        trace = Path(folder) / "trace"
        command = ["strace", "-f", "-s", "4", "-o", str(trace), "-p", str(pid)]
        try:
            tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise NotAllowed(f"strace cannot be run ({error}); install it") from None
        with tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            if "attached" not in said:
                tracer.kill()
                raise NotAllowed(f"{said.strip()}; it may need root (kernel.yama.ptrace_scope)")
            try:
                load.run(calls=CALLS)
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.communicate(timeout=30)
        stretches = stretches_of(trace.read_text(errors="replace").splitlines())
    if len(stretches) < CALLS // 2:
        raise TargetFailed(f"strace saw {len(stretches)} requests of {CALLS}")
    return least(stretches)


def stretches_of(lines: Sequence[str]) -> list[Counter[str]]:
    """What was called from the read of one request to that of the next; the unfinished first and last are left out."""
    stretches: list[Counter[str]] = []
    for line in lines:
        if _REQUEST.match(line):
            stretches.append(Counter())
        if stretches and (entered := _ENTERED.match(line)):
            stretches[-1][entered[1]] += 1
    return stretches[:-1]


def least(stretches: Sequence[Counter[str]]) -> dict[str, int]:
    """How often each is called by nearly every call."""
    found = {}
    for name in sorted({name for stretch in stretches for name in stretch}):
        counts = sorted(stretch[name] for stretch in stretches)
        if fewest := counts[len(counts) // NEARLY_EVERY]:
            found[name] = fewest
    return found
