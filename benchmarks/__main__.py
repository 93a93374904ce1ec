# SPDX-License-Identifier: MIT
"""`python -m benchmarks`: measures, prints, and writes what the docs show. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

import msgspec

from benchmarks import environments, idle, machine, plan, report, stages
from benchmarks.claims import judged
from benchmarks.environments import PLACE
from benchmarks.measure import ROOT, TargetFailed
from benchmarks.report import Results
from benchmarks.stages import TARGETS, Row, Stage

LATEST: Final = ROOT / "benchmarks/results/latest.json"
PAGE: Final = ROOT / "docs/benchmarks.md"
README: Final = ROOT / "README.md"
PARTS: Final = PLACE / "parts"

BEGAN: Final = time.monotonic()


class Part(msgspec.Struct):
    """A finished stage, kept so that a run which was interrupted can go on."""

    stage: Stage
    rows: list[Row]
    left_out: dict[str, str]


def say(line: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {line}", file=sys.stderr, flush=True)


def show(rows: list[Row]) -> None:
    for row in rows:
        print(f"\n{row.shape.name}\n{report.plain_table(row)}", flush=True)


def finished(stage: Stage, resume: bool) -> Part:
    """The stage's figures: of an earlier run with the same plan if one is to be resumed, else measured now."""
    path = PARTS / f"{stage.name}.json"
    if resume and path.exists():
        part = msgspec.json.decode(path.read_bytes(), type=Part)
        if part.stage == stage:
            say(f"{stage.name}: measured before")
            return part
    part = Part(stage, *stages.run(stage, say))
    PARTS.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(part))
    return part


def full(windows: int, resume: bool) -> int:
    for failure in environments.make_all():
        say(f"not here: {failure}")
    described = machine.described(peers=True)
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for stage in plan.full(windows):
        part = finished(stage, resume)
        show(part.rows)
        rows += part.rows
        left_out |= {f"{name} ({stage.name})": why for name, why in part.left_out.items()}
    say("idle, with cold providers")
    try:
        rest = idle.measured()
    except TargetFailed as error:
        rest, left_out["idle"] = None, str(error)
    results = Results(machine=described, rows=rows, left_out=left_out, idle=rest)
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    render(results)
    return 1 if any(name.split(" ")[0] in plan.OURS for name in left_out) else 0


def render(results: Results) -> None:
    PAGE.write_text(report.page(results))
    README.write_text(report.with_table(README.read_text(), results))
    print(f"\n{report.plain_claims(judged(results.rows, results.idle))}")
    say(f"written: {PAGE.relative_to(ROOT)}, README.md")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    options.add_argument("--quick", action="store_true", help="a few shapes, printed only; under a minute with ours")
    options.add_argument("--targets", default=",".join(plan.OURS), help=f"with --quick, of: {', '.join(TARGETS)}")
    options.add_argument("--windows", type=int, default=4, help="of each target and shape; the best is quoted")
    options.add_argument("--resume", action="store_true", help="keep the stages that an earlier full run has finished")
    options.add_argument("--render", action="store_true", help="measure nothing; write the docs anew")
    chosen = options.parse_args()
    if chosen.render:
        render(msgspec.json.decode(LATEST.read_bytes(), type=Results))
        return 0
    if not chosen.quick:
        return full(chosen.windows, chosen.resume)
    names = tuple(chosen.targets.split(","))
    if unknown := set(names) - set(TARGETS):
        options.error(f"no such target: {', '.join(sorted(unknown))}")
    for stage in plan.quick(names, chosen.windows):
        show(stages.run(stage, say)[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
