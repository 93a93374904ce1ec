# SPDX-License-Identifier: MIT
"""What the page of growth and soak says: of made-up figures, since it is only how they are told."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest

from benchmarks.curves import Curve
from benchmarks.dimensions import DIMENSIONS, Fact
from benchmarks.growth import IMAGES, LATEST, PAGE
from benchmarks.growth_page import TITLES, Growth, drawn, page, plain, shown
from benchmarks.machine import Machine
from benchmarks.refusals import Refusal
from benchmarks.soak_page import LATEST as SOAKED
from benchmarks.soak_page import Sample, Soak, Wave, grown
from benchmarks.soak_page import plain as plain_soak

MACHINE = Machine(
    processor="a processor",
    cores=2,
    memory_gb=8.0,
    kernel="6",
    system="Debian",
    python="3.11",
    date="2026-11-28 12:00 UTC",
    commit="abc",
    load_before=0.1,
    versions={"mcp-hangar": "3.0.0"},
)
FLAT = Curve(of="CPU of a call", unit="us", over="tools", points=[(1.0, 80.0), (10.0, 81.0), (1000.0, 80.0)])
STEEP = Curve(of="memory", unit="MB", over="tools", points=[(1.0, 1.0), (100.0, 100.0), (1000.0, 10_000.0)])
GROWTH = Growth(
    machine=MACHINE,
    curves={"tools": [drawn(FLAT), drawn(STEEP)]},
    facts=[Fact(text="requests", bound="exactly 1", measured="2", met=False)],
    refusals=[Refusal(bound="too deep", answer="400", refused_us=50.0, served_us=100.0)],
    left_out={"payload": "it was too heavy"},
)
CALM = Sample(memory_mb=70.0, descriptors=40, threads=7, tasks=13, objects=80_000)
WAVE = Wave(sessions=1000, before=CALM, top=replace(CALM, memory_mb=75.0, objects=95_000), after=CALM)
SOAK = Soak(
    machine=MACHINE,
    seconds=60.0,
    rounds=12,
    done={"calls": 7200, "sessions": 360, "vanished": 36, "cancelled": 12, "changes": 12, "errors": 12},
    samples=[CALM] * 12,
    waves=[WAVE, WAVE],
)


def test_a_page_has_each_curve_with_its_slope_and_verdict() -> None:
    said = page(GROWTH, None)
    assert re.search(r"\| CPU of a call, us \| 80 \| 81 \| 80 \| -?0[.\d]* us per 1,000 more \| flat \|", said)
    assert re.search(r"\| memory, MB \| 1 \| 100 \| 10,000 \| .* \| worse than linear \|", said)
    assert "![Tools: CPU of a call: flat; memory: worse than linear](images/growth-tools.svg)" in said
    assert "| requests | exactly 1 | 2 | NOT met |" in said
    assert "| too deep | 400 | 50 | 100 | yes |" in said
    assert "- payload: it was too heavy" in said


def test_the_same_figures_give_the_same_page_also_when_they_come_from_a_file() -> None:
    kept = msgspec.json.decode(msgspec.json.encode(GROWTH), type=Growth)
    soaked = msgspec.json.decode(msgspec.json.encode(SOAK), type=Soak)
    assert page(kept, soaked) == page(GROWTH, SOAK)


def test_each_dimension_with_curves_has_a_title() -> None:
    assert set(TITLES) == set(DIMENSIONS) - {"fifty"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12345.6, "12,346"), (99.96, "100"), (0.00012345, "0.000123"), (-0.0, "0"), (2.5, "2.5")],
)
def test_figures_are_short(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_terminal_shows_one_table_for_what_grows_with_the_same_thing() -> None:
    assert [line.split()[0] for line in plain(GROWTH.curves["tools"]).splitlines()] == ["tools", "CPU", "memory,"]


def test_a_soak_says_what_it_did_and_that_nothing_grew() -> None:
    assert grown(SOAK) == []
    said = page(GROWTH, SOAK)
    assert "7,200 calls, 360 legacy sessions" in said
    assert "2 calls a second, a session each 10 s, a client that vanishes each 100 s" in said
    assert "| verdict | steady | steady | steady | steady | steady |" in said
    assert "keeps of it once it has expired: nothing" in said


@pytest.mark.parametrize("what", ["memory_mb", "descriptors", "threads", "tasks", "objects"])
def test_whatever_grows_round_by_round_is_named(what: str) -> None:
    rising = [replace(CALM, **{what: getattr(CALM, what) * (1 + 0.1 * number)}) for number in range(12)]
    found = grown(replace(SOAK, samples=rising))
    assert found == [what.removesuffix("_mb")]
    assert "grows" in plain_soak(replace(SOAK, samples=rising))


def test_sessions_that_leave_something_behind_are_named() -> None:
    leaky = replace(WAVE, after=replace(CALM, objects=94_000))
    assert grown(replace(SOAK, waves=[leaky])) == ["what expired sessions leave behind"]
    hungry = replace(WAVE, top=replace(WAVE.top, memory_mb=80.0))
    assert grown(replace(SOAK, waves=[WAVE, hungry])) == ["memory from wave to wave"]


def test_the_page_is_made_from_the_kept_results_and_its_plots_are_there() -> None:
    growth = msgspec.json.decode(LATEST.read_bytes(), type=Growth)
    soak = msgspec.json.decode(SOAKED.read_bytes(), type=Soak)
    assert PAGE.read_text() == page(growth, soak), "make bench-growth and make bench-soak write both"
    for name in growth.curves:
        for kind in ("svg", "png"):
            assert (IMAGES / f"growth-{name}.{kind}").exists()
