# SPDX-License-Identifier: MIT
"""Hangar as it is, and it counts its tasks when asked: `python -m benchmarks.counted FILE serve --config …`.

SIGUSR1 makes it write how many tasks and objects there are to the file, after a collection of garbage. Nothing else
differs from `hangar serve`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from mcp_hangar.server.cli.main import main


def tell(file: Path) -> None:
    gc.collect()
    try:
        tasks = [task.get_name() for task in asyncio.all_tasks()]
    except RuntimeError:  # between two turns of the loop
        tasks = []
    written = file.with_suffix(".new")
    written.write_text(json.dumps({"tasks": len(tasks), "names": sorted(tasks), "objects": len(gc.get_objects())}))
    written.replace(file)


if __name__ == "__main__":
    told = Path(sys.argv.pop(1))

    def heard(number: int, frame: FrameType | None) -> None:
        tell(told)

    signal.signal(signal.SIGUSR1, heard)
    main()
