# SPDX-License-Identifier: MIT
"""`python -m benchmarks`: measures what it is asked to, and prints it."""

from __future__ import annotations

import argparse
import sys

from benchmarks import report, stages
from benchmarks.shapes import LARGE, SMALL, Shape
from benchmarks.stages import Stage
from benchmarks.targets import TARGETS


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def quick(names: tuple[str, ...], windows: int) -> list[Stage]:
    """Both eras with the small call, one and sixteen in flight, and the large call once."""
    modern = Shape()
    shapes = (modern, modern.at(16), Shape(request_bytes=LARGE))
    return [
        Stage(name="modern", targets=names, shapes=shapes, windows=windows),
        Stage(name="legacy", targets=names, shapes=(Shape(era="legacy", request_bytes=SMALL),), windows=windows),
    ]


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    options.add_argument("--targets", default="", help=f"of {', '.join(TARGETS)}; all if none is named")
    options.add_argument("--quick", action="store_true", help="under a minute: a few shapes, no peers")
    options.add_argument("--windows", type=int, default=4, help="of each target and shape; the best is quoted")
    chosen = options.parse_args()
    names = tuple(chosen.targets.split(",")) if chosen.targets else ("direct", "yardstick", "hangar")
    if unknown := set(names) - set(TARGETS):
        options.error(f"no such target: {', '.join(sorted(unknown))}")
    for stage in quick(names, chosen.windows):
        rows, _ = stages.run(stage, say)
        for row in rows:
            print(f"\n{row.shape.name}\n{report.plain_table(row)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
