# SPDX-License-Identifier: MIT
"""Which stages a run has. Pure."""

from __future__ import annotations

from typing import Final

from benchmarks.peers import SLOW
from benchmarks.shapes import LARGE, Answer, Era, Shape
from benchmarks.stages import TARGETS, Stage

IN_FLIGHT: Final = (1, 16, 64)
FAST: Final = tuple(name for name in TARGETS if name not in SLOW)
OURS: Final = ("direct", "yardstick", "hangar")
BLANKS: Final = 64 * 1024


def _at_each(shape: Shape) -> tuple[Shape, ...]:
    return tuple(shape.at(in_flight) for in_flight in IN_FLIGHT)


def _fast(era: Era, answer: Answer) -> Stage:
    small = Shape(era=era, answer=answer)
    large = Shape(era=era, answer=answer, request_bytes=LARGE)
    return Stage(name=f"{era}-{answer}", targets=FAST, shapes=(*_at_each(small), *_at_each(large)))


def quick(names: tuple[str, ...], windows: int) -> list[Stage]:
    """Both eras with the small call, one and sixteen in flight, and the large call once."""
    modern = Shape()
    shapes = (modern, modern.at(16), Shape(request_bytes=LARGE))
    return [
        Stage(name="modern", targets=names, shapes=shapes, windows=windows),
        Stage(name="legacy", targets=names, shapes=(Shape(era="legacy"),), windows=windows),
    ]


def full(windows: int) -> list[Stage]:
    """What fast targets cost in every dimension, then the slow ones beside ours, then the odd questions."""
    text = Shape(request_bytes=BLANKS)
    modern, legacy = Shape(stdio=True), Shape(era="legacy", stdio=True)
    stages = [
        _fast("modern", "json"),
        _fast("legacy", "json"),
        _fast("modern", "sse"),
        _fast("legacy", "sse"),
        Stage(name="peers-modern", targets=(*OURS, *sorted(SLOW)), shapes=_at_each(Shape())),
        Stage(name="peers-legacy", targets=(*OURS, *sorted(SLOW)), shapes=_at_each(Shape(era="legacy"))[:2]),
        Stage(name="stdio-modern", targets=("direct", "hangar"), shapes=(modern, modern.at(16))),
        Stage(name="stdio-legacy", targets=("direct", "hangar"), shapes=(legacy, legacy.at(16))),
        Stage(
            name="blanks",
            targets=OURS,
            shapes=(text, Shape(request_bytes=BLANKS, blanks=False)),
            together=True,
        ),
        Stage(name="traced", targets=OURS, shapes=_at_each(Shape(traced=True))),
        Stage(name="large-answer", targets=FAST, shapes=_at_each(Shape(answer_bytes=LARGE))[:2]),
    ]
    return [Stage(name=stage.name, targets=stage.targets, shapes=stage.shapes, windows=windows) for stage in stages]
