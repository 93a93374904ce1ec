# SPDX-License-Identifier: MIT
"""A stage: one upstream, the targets before it, and the shapes of call that they are measured with, side by side."""

from __future__ import annotations

import contextlib
import http.client
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import targets
from benchmarks.measure import Figures, Loading, Subject, TargetFailed, interleaved
from benchmarks.peers import PEERS, SLOW
from benchmarks.shapes import Shape

COUNTED: Final = 20
"""Calls that are counted at the upstream, outside of the windows."""

SLOW_SECONDS: Final = 1.5
TARGETS: Final = {**targets.OURS, **PEERS}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`shapes` share era and answer, and so their upstream."""

    name: str
    targets: tuple[str, ...]
    shapes: tuple[Shape, ...]
    windows: int = 4
    seconds: float = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one shape of call costs at each target."""

    stage: str
    shape: Shape
    figures: dict[str, Figures]
    upstream_requests: dict[str, float] = field(default_factory=dict)
    """Per call."""


@contextlib.contextmanager
def standing(stage: Stage, say: Say) -> Iterator[tuple[targets.Upstream, dict[str, targets.Running], dict[str, str]]]:
    """The upstream, every target that can be started, and why others could not. All are ended in the end."""
    shape = stage.shapes[0]
    left_out: dict[str, str] = {}
    started: dict[str, targets.Running] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hangar-bench-")))
        upstream = stack.enter_context(targets.upstream(shape, folder))
        for name in stage.targets:
            own = folder / name
            own.mkdir()
            try:
                started[name] = stack.enter_context(TARGETS[name](shape, upstream, own))
            except Exception as error:  # a peer may fail in any way; the others are measured
                left_out[name] = str(error) or type(error).__name__
                say(f"{name} is left out: {left_out[name]}")
        yield upstream, started, left_out


def run(stage: Stage, say: Say) -> tuple[list[Row], dict[str, str]]:
    """Every shape of a stage; with it, what was left out and why."""
    rows = []
    with standing(stage, say) as (upstream, started, left_out):

        def failed(name: str, error: TargetFailed) -> None:
            left_out[name] = str(error)
            say(f"{name} failed and is left out from here on: {error}")
            started.pop(name, None)

        for shape in stage.shapes:
            say(f"{stage.name}: {shape.name}")
            rows.append(_row(stage, shape, upstream, started, failed))
    return rows, left_out


def _row(
    stage: Stage,
    shape: Shape,
    upstream: targets.Upstream,
    started: dict[str, targets.Running],
    failed: Callable[[str, TargetFailed], None],
) -> Row:
    with contextlib.ExitStack() as stack:
        subjects = {}
        for name, running in list(started.items()):
            try:
                load = stack.enter_context(Loading(targets.job(shape, running)))
                pid = load.connect() or running.pid
            except (TargetFailed, OSError, http.client.HTTPException) as error:
                failed(name, TargetFailed(str(error) or type(error).__name__))
                continue
            subjects[name] = Subject(load, pid, SLOW_SECONDS if name in SLOW else None)
        figures = interleaved(subjects, windows=stage.windows, seconds=stage.seconds, failed=failed)
        requests = {}
        for name in [] if shape.stdio else list(figures):
            try:
                requests[name] = _requests_per_call(upstream, subjects[name].load)
            except TargetFailed as error:
                failed(name, error)
    return Row(stage=stage.name, shape=shape, figures=figures, upstream_requests=requests)


def _requests_per_call(upstream: targets.Upstream, load: Loading) -> float:
    load.connect()
    before = sum(upstream.counts().values())
    made = load.run(calls=COUNTED).calls
    return (sum(upstream.counts().values()) - before) / made
