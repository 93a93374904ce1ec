# SPDX-License-Identifier: MIT
"""The gate closes when a call has become dearer, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from benchmarks.gate import COUNTED, RECORDED, SHAPES, TOLERANCE, Measured, Recorded, fewer, judged

SHAPE = "modern, 227 B, json, 1 in flight"
RECORD = Measured(ratios={SHAPE: 1.4}, syscalls={SHAPE: {"read": 2, "write": 3}}, frames=12)


def test_what_was_recorded_passes() -> None:
    assert judged(RECORD, RECORD) == []


def test_noise_within_the_tolerance_passes() -> None:
    assert judged(replace(RECORD, ratios={SHAPE: 1.4 * TOLERANCE - 0.01}), RECORD) == []


def test_a_ratio_above_the_tolerance_closes_the_gate() -> None:
    (line,) = judged(replace(RECORD, ratios={SHAPE: 1.4 * TOLERANCE + 0.01}), RECORD)
    assert SHAPE in line and "1.76x" in line and "1.40x is recorded" in line


def test_one_more_system_call_closes_the_gate() -> None:
    (line,) = judged(replace(RECORD, syscalls={SHAPE: {"read": 2, "write": 4}}), RECORD)
    assert line == f"{SHAPE}: 4 write per call; 3 is recorded"


def test_a_system_call_of_a_new_kind_closes_the_gate() -> None:
    (line,) = judged(replace(RECORD, syscalls={SHAPE: {"read": 2, "write": 3, "futex": 1}}), RECORD)
    assert line == f"{SHAPE}: 1 futex per call; 0 is recorded"


def test_one_more_frame_closes_the_gate() -> None:
    assert judged(replace(RECORD, frames=13), RECORD) == ["13 frames per call; 12 is recorded"]


def test_a_shape_that_nobody_recorded_closes_the_gate() -> None:
    (line,) = judged(replace(RECORD, ratios={"legacy": 1.0}), RECORD)
    assert line == "legacy: nothing is recorded for it"


def test_less_of_everything_passes_and_asks_for_a_tighter_record() -> None:
    cheaper = Measured(ratios={SHAPE: 0.6}, syscalls={SHAPE: {"read": 2, "write": 2}}, frames=11)
    assert judged(cheaper, RECORD) == []
    assert fewer(cheaper, RECORD)
    assert not fewer(RECORD, RECORD)


def test_the_record_in_the_repository_covers_every_shape_and_says_why_it_is_so() -> None:
    recorded = msgspec.json.decode(RECORDED.read_bytes(), type=Recorded)
    assert recorded.measured.ratios.keys() == {shape.name for shape in SHAPES}
    assert recorded.measured.syscalls.keys() == {shape.name for shape in COUNTED}
    assert recorded.reason and recorded.machine.processor and recorded.machine.versions["uvicorn"]
