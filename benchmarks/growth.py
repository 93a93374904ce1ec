# SPDX-License-Identifier: MIT
"""`python -m benchmarks.growth`: what grows, what it costs then, and what a refusal costs. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import dimensions, environments, growth_page, machine, refusals, soak_page
from benchmarks.dimensions import DIMENSIONS, Effort, Fact
from benchmarks.growth_page import Drawn, Growth, drawn
from benchmarks.measure import ROOT, TargetFailed
from benchmarks.refusals import Refusal

LATEST: Final = ROOT / "benchmarks/results/growth.json"
PAGE: Final = ROOT / "docs/growth.md"
IMAGES: Final = ROOT / "docs" / growth_page.IMAGES
QUICK: Final = Effort(windows=2, seconds=0.15, repeats=3, sizes=3)
REFUSALS: Final = "refusals"
FAILURES: Final = (TargetFailed, OSError, TimeoutError)

BEGAN: Final = time.monotonic()


def say(line: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {line}", file=sys.stderr, flush=True)


def measure(names: list[str], effort: Effort) -> Growth:
    """Each dimension on its own; one that fails is left out, and the page says why."""
    described = machine.described(peers=False)
    curves: dict[str, list[Drawn]] = {}
    facts: list[Fact] = []
    refused: list[Refusal] = []
    left_out: dict[str, str] = {}
    for name in names:
        say(name)
        with tempfile.TemporaryDirectory(prefix="hangar-bench-") as place:
            try:
                if name == REFUSALS:
                    refused = refusals.measured(effort, Path(place))
                    print(f"\n{growth_page.plain_refusals(refused)}\n", flush=True)
                    continue
                found, more = DIMENSIONS[name](effort, Path(place))
            except FAILURES as error:
                left_out[name] = str(error)
                say(f"{name} is left out: {error}")
                continue
        facts += more
        if found:
            curves[name] = [drawn(each) for each in found]
            print(f"\n{growth_page.plain(curves[name])}\n", flush=True)
        if more:
            print(f"\n{growth_page.plain_facts(more)}\n", flush=True)
    return Growth(machine=described, curves=curves, facts=facts, refusals=refused, left_out=left_out)


def render(growth: Growth) -> None:
    soak = (
        msgspec.json.decode(soak_page.LATEST.read_bytes(), type=soak_page.Soak) if soak_page.LATEST.exists() else None
    )
    PAGE.write_text(growth_page.page(growth, soak))
    plots = ROOT / "benchmarks/plots.py"
    subprocess.run([environments.binaries("plots") / "python", plots, LATEST, IMAGES], check=True)
    say(f"written: {PAGE.relative_to(ROOT)}, {IMAGES.relative_to(ROOT)}/growth-*")


def render_latest() -> None:
    render(msgspec.json.decode(LATEST.read_bytes(), type=Growth))


def main() -> int:
    known = [*DIMENSIONS, REFUSALS]
    options = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n")[0])
    options.add_argument("--quick", action="store_true", help="small sizes and short windows; prints only")
    options.add_argument("--only", default=",".join(known), help=f"of: {', '.join(known)}; prints only")
    options.add_argument("--render", action="store_true", help="measure nothing; write the page and the plots anew")
    chosen = options.parse_args()
    names = chosen.only.split(",")
    if unknown := set(names) - set(known):
        options.error(f"no such dimension: {', '.join(sorted(unknown))}")
    if chosen.render:
        render_latest()
        return 0
    growth = measure(names, QUICK if chosen.quick else dimensions.FULL)
    if not chosen.quick and names == known:
        LATEST.parent.mkdir(exist_ok=True)
        LATEST.write_bytes(msgspec.json.format(msgspec.json.encode(growth), indent=1) + b"\n")
        render(growth)
    return 1 if growth.left_out else 0


if __name__ == "__main__":
    sys.exit(main())
