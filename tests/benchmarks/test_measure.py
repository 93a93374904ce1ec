# SPDX-License-Identifier: MIT
"""The kernel's counters, and what is made of windows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.load import Result
from benchmarks.measure import TICK_NS, Cpu, Window, best, cpu, parse_stat, resident_bytes, tree


def one(calls: int, cpu_ms: float, *, p50: float = 100, user: int = 3, system: int = 1) -> Window:
    return Window(Result(calls=calls, seconds=1, p50_us=p50, p99_us=2 * p50), Cpu(int(cpu_ms * 1e6), user, system))


def test_the_best_window_is_quoted_and_each_figure_has_its_own_best() -> None:
    figures = best([one(100, 30, p50=90), one(100, 20, p50=95), one(300, 90, p50=99)])
    assert figures.cpu_us == 200
    assert figures.p50_us == 90
    assert figures.per_second == 300
    assert figures.calls == 500


def test_user_and_system_part_by_the_ticks_of_all_windows_together() -> None:
    figures = best([one(100, 20, user=1, system=0), one(100, 40, user=2, system=1)])
    assert figures.user_us == pytest.approx(150)
    assert figures.system_us == pytest.approx(50)


def test_threads_that_ended_are_counted_by_their_ticks() -> None:
    assert Cpu(10 * TICK_NS, 6, 4).used_ns == 10 * TICK_NS
    assert Cpu(10 * TICK_NS, 60, 40).used_ns == 100 * TICK_NS


def test_a_process_may_have_any_name() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_stat(f"7 (a (b) c) R {fields}") == (14, 15)


def test_a_tree_holds_children_of_children_and_their_work_is_counted() -> None:
    script = (
        "import subprocess, sys; inner = 'for n in range(10**6): pass\\nprint(1, flush=True); input()';"
        "subprocess.run([sys.executable, '-c', inner])"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        pids = tree(process.pid)
        assert len(pids) == 2
        assert cpu(pids).total_ns > cpu([process.pid]).total_ns > 0
        assert resident_bytes(pids) > 1_000_000
        process.stdin.close()


def test_what_is_gone_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cpu([process.pid]) == Cpu()
    assert resident_bytes([process.pid]) == 0
    assert tree(os.getpid())[0] == os.getpid()
