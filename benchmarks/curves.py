# SPDX-License-Identifier: MIT
"""How a cost grows: points, the straight line through them, and whether it is flat, linear or worse. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

FLAT: Final = 0.25
"""From the least to the most, the line rises by no more than this part of what it begins with: flat but for noise."""
STEEPEST: Final = 1.25
"""The power with which a linear cost may seem to grow over its last decade; a quadratic one shows 2."""
DECADE: Final = 10

Verdict = Literal["flat", "linear", "worse than linear", "too few points"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One cost over one number that grows."""

    of: str
    """What was measured."""
    unit: str
    over: str
    """What grew."""
    points: list[Point]

    @property
    def line(self) -> tuple[float, float]:
        return line(self.points)

    @property
    def verdict(self) -> Verdict:
        return judged(self.points)


def line(points: Sequence[Point]) -> tuple[float, float]:
    """Where the straight line begins and how steep it is, by least squares of the relative error.

    Relative, since the points are decades apart: else only the last one would count.
    """
    if len(points) < 2:
        return (points[0][1] if points else 0.0), 0.0
    weights = [1 / max(abs(y), 1e-9) ** 2 for _, y in points]
    total = sum(weights)
    middle_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    middle_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - middle_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    if not spread:
        return middle_y, 0.0
    both = sum(w * (x - middle_x) * (y - middle_y) for w, (x, y) in zip(weights, points, strict=True))
    slope = both / spread
    return middle_y - slope * middle_x, slope


def power(points: Sequence[Point]) -> float:
    """With which power of x the cost over the first point grows, seen over the last decade; 0 where too little of it
    rises out of the noise."""
    (_, base), (last_x, last_y) = points[0], points[-1]
    for x, y in points[1:-1]:
        if x * DECADE >= last_x and min(y, last_y) > base * (1 + 2 * FLAT):
            return math.log((last_y - base) / (y - base)) / math.log(last_x / x)
    return 0.0


def judged(points: Sequence[Point]) -> Verdict:
    if len(points) < 3:
        return "too few points"
    begin, slope = line(points)
    first, last = points[0], points[-1]
    start = max(begin + slope * first[0], 1e-9)
    if max(slope * (last[0] - first[0]) / start, last[1] / max(first[1], 1e-9) - 1) <= FLAT:
        return "flat"
    # What rises little in all may seem to rise steeply where its noise is: the line over all points is asked too.
    steep = power(points) > STEEPEST and last[1] > (begin + slope * last[0]) * (1 + FLAT / 2)
    return "worse than linear" if steep else "linear"


# What is watched for hours


SettledVerdict = Literal["steady", "grows", "too few samples"]


def settled(samples: Sequence[float], *, part: float = 0.0, whole: float = 0.0) -> SettledVerdict:
    """Whether something that was sampled again and again grows, once the first third of the samples is past.

    It does if the straight line through the rest rises by more than `part` of its beginning and by more than `whole`.
    """
    rest = list(samples[len(samples) // 3 :])
    if len(rest) < 4:
        return "too few samples"
    points = [(float(number), value) for number, value in enumerate(rest)]
    slope = unweighted_slope(points)
    rise = slope * (len(rest) - 1)
    middle = sorted(rest)[len(rest) // 2]
    return "grows" if rise > max(part * middle, whole) else "steady"


def unweighted_slope(points: Sequence[Point]) -> float:
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
