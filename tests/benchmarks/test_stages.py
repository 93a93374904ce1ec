# SPDX-License-Identifier: MIT
"""A stage measures real processes, counts what reaches the upstream, and leaves none of them behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import stages, targets
from benchmarks.measure import Loading, TargetFailed
from benchmarks.shapes import Door, Shape
from benchmarks.stages import Stage
from benchmarks.targets import Running, Upstream


@pytest.mark.parametrize("shape", [Shape(), Shape(era="legacy", answer="sse", in_flight=4), Shape(stdio=True)])
def test_a_call_through_hangar_costs_cpu_and_is_one_upstream_request(shape: Shape) -> None:
    names = ("direct", "hangar") if shape.stdio else ("direct", "yardstick", "hangar")
    said: list[str] = []
    (row,), left_out = stages.run(Stage(name="s", targets=names, shapes=(shape,), windows=1, seconds=0.3), said.append)
    assert not left_out, said
    assert set(row.figures) == set(names)
    for figures in row.figures.values():
        assert figures.calls > 0 and figures.cpu_us > 0 and figures.p50_us > 0
    if not shape.stdio:
        assert row.upstream_requests == dict.fromkeys(names, 1.0)


def test_a_target_that_cannot_be_started_is_left_out_and_its_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def lacking(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
        raise TargetFailed("it needs what this machine lacks")
        yield

    monkeypatch.setitem(stages.TARGETS, "lacking", lacking)
    stage = Stage(name="s", targets=("lacking", "direct"), shapes=(Shape(),), windows=1, seconds=0.1)
    (row,), left_out = stages.run(stage, lambda line: None)
    assert left_out == {"lacking": "it needs what this machine lacks"}
    assert set(row.figures) == {"direct"}


def test_shapes_that_are_to_be_compared_are_measured_together() -> None:
    shapes = (Shape(request_bytes=2048), Shape(request_bytes=2048, blanks=False))
    stage = Stage(name="s", targets=("direct",), shapes=shapes, windows=1, seconds=0.1, together=True)
    rows, left_out = stages.run(stage, lambda line: None)
    assert not left_out
    assert [row.shape for row in rows] == list(shapes)
    assert all(row.figures["direct"].calls and row.upstream_requests == {"direct": 1.0} for row in rows)


def test_a_wrong_answer_ends_the_measurement(tmp_path: Path) -> None:
    shape = Shape()
    with targets.upstream(shape, tmp_path) as upstream:
        job = targets.job(shape, Running(upstream.pid, Door(port=upstream.port)))
        job.proof = b"what it never says"
        with Loading(job) as load, pytest.raises(TargetFailed, match="asked with id"):
            load.connect()
