# SPDX-License-Identifier: MIT
"""A promise is met by figures, broken by figures, and open where there are none."""

from __future__ import annotations

import dataclasses

from benchmarks.claims import Claim, judged
from benchmarks.idle import Idle
from benchmarks.measure import Figures
from benchmarks.shapes import LARGE, Shape
from benchmarks.stages import Row

IDLE = Idle(ready_seconds=1.0, resident_mb=90, cpu_percent=0.1)


def figures(cpu_us: float, p50_us: float = 200) -> Figures:
    return Figures(
        cpu_us=cpu_us, user_us=cpu_us, system_us=0, p50_us=p50_us, p99_us=500, calls=1, per_second=1, resident_mb=1
    )


def rows(hangar: float = 100, blankless: float = 155) -> list[Row]:
    costs = {
        "direct": figures(10, 50),
        "nginx": figures(30),
        "yardstick": figures(80),
        "starlette+httpx": figures(1_200),
        "hangar": figures(hangar),
        "earlier-hangar": figures(12_000),
        "fastmcp": figures(30_000),
        "contextforge": figures(60_000),
    }
    large = {"yardstick": figures(160), "hangar": figures(190)}
    blanks = [
        Row(
            stage="blanks",
            shape=Shape(request_bytes=65536, blanks=each),
            figures={"yardstick": figures(120), "hangar": figures(150 if each else blankless)},
        )
        for each in (True, False)
    ]
    return [
        Row(stage="m", shape=Shape(), figures=costs, upstream_requests={"hangar": 1}),
        Row(stage="l", shape=Shape(era="legacy"), figures=costs, upstream_requests={"hangar": 1}),
        Row(stage="m", shape=Shape(request_bytes=LARGE), figures=large),
        Row(stage="s", shape=Shape(stdio=True), figures={"direct": figures(20), "hangar": figures(200)}),
        *blanks,
    ]


def broken(claims: list[Claim]) -> set[str]:
    return {claim.text for claim in claims if claim.met is False}


def test_good_figures_meet_every_promise_and_the_ratio_to_nginx_is_only_told() -> None:
    claims = judged(rows(), IDLE)
    assert broken(claims) == set()
    assert [claim.text for claim in claims if claim.met is None] == [
        "CPU per call against the yardstick's, where each request has a traceparent of its own",
        "CPU per call against nginx's, which governs nothing",
    ]


def test_a_dear_call_breaks_the_promises_that_it_breaks() -> None:
    assert broken(judged(rows(hangar=250), IDLE)) == {
        "CPU per call, modern era, against the yardstick's",
        "CPU per call, legacy era, against the yardstick's",
        "CPU of starlette+httpx against Hangar's",
        "CPU of fastmcp against Hangar's",
    }


def test_a_second_upstream_request_is_seen() -> None:
    seen = rows()
    seen[1] = dataclasses.replace(seen[1], upstream_requests={"hangar": 1.05})
    assert broken(judged(seen, IDLE)) == {"upstream requests of a warm call"}


def test_text_without_blanks_may_not_cost_more() -> None:
    assert broken(judged(rows(blankless=400), IDLE)) == {"a 64 KiB argument without a blank"}


def test_rest_is_judged_too() -> None:
    restless = Idle(ready_seconds=1.6, resident_mb=121, cpu_percent=3)
    assert broken(judged(rows(), restless)) == {
        "memory with 100 cold providers",
        "CPU while idle",
        "start to ready with 100 providers",
    }


def test_what_was_not_measured_is_neither_met_nor_broken() -> None:
    assert {claim.met for claim in judged([], None)} == {None}
