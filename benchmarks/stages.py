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
    together: bool = False
    """Whether the shapes' windows alternate too, because the shapes are to be compared with one another."""


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
    rows: list[Row] = []
    with standing(stage, say) as (upstream, started, left_out):

        def failed(name: str, error: TargetFailed) -> None:
            left_out[name] = str(error)
            say(f"{name} failed and is left out from here on: {error}")
            started.pop(name, None)

        for shapes in [stage.shapes] if stage.together else [(shape,) for shape in stage.shapes]:
            say(f"{stage.name}: {'; '.join(shape.name for shape in shapes)}")
            rows += _rows(stage, shapes, upstream, started, failed)
    return rows, left_out


def _rows(
    stage: Stage,
    shapes: tuple[Shape, ...],
    upstream: targets.Upstream,
    started: dict[str, targets.Running],
    failed: Callable[[str, TargetFailed], None],
) -> list[Row]:
    """These shapes at every target, in windows that alternate."""
    with contextlib.ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        keys = {f"{name} {at}": (name, shape) for at, shape in enumerate(shapes) for name in started}
        for key, (name, shape) in keys.items():
            if name not in started:  # it failed with another shape
                continue
            try:
                load = stack.enter_context(Loading(targets.job(shape, started[name])))
                pid = load.connect() or started[name].pid
            except (TargetFailed, OSError, http.client.HTTPException) as error:
                failed(name, TargetFailed(str(error) or type(error).__name__))
                continue
            subjects[key] = Subject(load, pid, SLOW_SECONDS if name in SLOW else None)
        figures = interleaved(
            subjects,
            windows=stage.windows,
            seconds=stage.seconds,
            failed=lambda key, error: failed(keys[key][0], error),
        )
        requests: dict[str, float] = {}
        for key in figures:
            name, shape = keys[key]
            if not shape.stdio:
                try:
                    requests[key] = _requests_per_call(upstream, subjects[key].load)
                except TargetFailed as error:
                    failed(name, error)
    return [
        Row(
            stage=stage.name,
            shape=shape,
            figures={keys[key][0]: each for key, each in figures.items() if keys[key][1] is shape},
            upstream_requests={keys[key][0]: each for key, each in requests.items() if keys[key][1] is shape},
        )
        for shape in shapes
    ]


def _requests_per_call(upstream: targets.Upstream, load: Loading) -> float:
    load.connect()
    before = sum(upstream.counts().values())
    made = load.run(calls=COUNTED).calls
    return (sum(upstream.counts().values()) - before) / made
