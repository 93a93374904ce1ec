# SPDX-License-Identifier: MIT
"""What is called flat, linear or worse, and what grows while it is watched."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.curves import Point, judged, line, power, settled

SIZES = (1, 10, 100, 1_000, 10_000)
FEW = (10, 100, 500, 1_000, 2_500, 5_000)


def along(cost: Callable[[float], float], sizes: tuple[int, ...] = SIZES) -> list[Point]:
    """Points with a noise of a few percent, the same in each run."""
    return [(float(x), cost(x) * (1 + 0.04 * (-1) ** number)) for number, x in enumerate(sizes)]


def test_the_line_through_points_on_a_line_is_that_line() -> None:
    begin, slope = line([(float(x), 3 + 0.5 * x) for x in SIZES])
    assert (begin, slope) == (pytest.approx(3), pytest.approx(0.5))


def test_one_point_is_a_level_line() -> None:
    assert line([(7.0, 3.0)]) == (3.0, 0.0)
    assert line([(7.0, 3.0), (7.0, 3.0)]) == (pytest.approx(3.0), 0.0)


@pytest.mark.parametrize("sizes", [SIZES, FEW])
@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        (lambda x: 100.0, "flat"),
        (lambda x: 100 + x / 1_000, "flat"),
        (lambda x: 100 - x / 200, "flat"),
        (lambda x: 1 + x / 100, "linear"),
        (lambda x: 0.01 * x, "linear"),
        (lambda x: 60 + 0.02 * x, "linear"),
        (lambda x: 5 * x**0.5, "linear"),
        (lambda x: 1 + (x / 200) ** 2, "worse than linear"),
        (lambda x: x**1.5, "worse than linear"),
        (lambda x: 50 + x / 100 + (x / 100) ** 2, "worse than linear"),
    ],
)
def test_a_cost_is_called_what_it_is(cost: Callable[[float], float], verdict: str, sizes: tuple[int, ...]) -> None:
    assert judged(along(cost, sizes)) == verdict


def test_two_points_are_no_curve() -> None:
    assert judged([(1.0, 1.0), (10.0, 100.0)]) == "too few points"


def test_the_power_is_that_of_what_grows_and_not_of_what_was_there_before() -> None:
    assert power([(1.0, 1_000.0), (1_000.0, 2_000.0), (10_000.0, 101_000.0)]) == pytest.approx(2, abs=0.01)


def test_a_rise_within_the_noise_has_no_power() -> None:
    assert power([(1.0, 100.0), (1_000.0, 100.1), (10_000.0, 120.0)]) == 0


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([70.0] * 30, "steady"),
        ([50.0 + min(number, 9) * 2 for number in range(30)], "steady"),  # a warm-up
        ([70.0 + 3 * (number % 2) for number in range(30)], "steady"),
        ([90.0 - number for number in range(30)], "steady"),
        ([70.0 + number * 0.5 for number in range(30)], "grows"),
        ([70.0, 71.0, 72.0], "too few samples"),
    ],
)
def test_what_grows_after_the_warm_up_is_told(samples: list[float], verdict: str) -> None:
    assert settled(samples, part=0.03, whole=2.0) == verdict


def test_a_rise_must_exceed_both_allowances() -> None:
    rising = [100.0 + number * 0.2 for number in range(30)]  # by 3.8 in the last two thirds
    assert settled(rising, part=0.03, whole=5.0) == "steady"
    assert settled(rising, part=0.05, whole=2.0) == "steady"
    assert settled(rising, part=0.03, whole=2.0) == "grows"
