# SPDX-License-Identifier: MIT
"""Draws the curves of `results/growth.json` as SVG and PNG: `python plots.py growth.json FOLDER`.

Runs in an environment of its own (`environments/plots.txt`); imports nothing of ours. The same figures give the same
files: no date, no random ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

INK, LINE, FAINT = "#24292f", "#0969da", "#d0d7de"
STYLE = {
    "svg.hashsalt": "mcp-hangar",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
}


def draw(name: str, curves: list[dict[str, Any]], folder: Path) -> None:
    """The curves of one dimension beside one another."""
    figure, places = plt.subplots(1, len(curves), figsize=(3.4 * len(curves), 2.9), squeeze=False)
    for place, curve in zip(places[0], curves, strict=True):
        xs, ys = zip(*curve["points"], strict=True)
        begin, slope = curve["begin"], curve["slope"]
        place.plot(xs, [begin + slope * x for x in xs], color=FAINT, linewidth=3, zorder=1)
        place.plot(xs, ys, color=LINE, marker="o", markersize=4, linewidth=1.4, zorder=2)
        place.set_xscale("log")
        if max(ys) > 20 * min(ys) > 0:
            place.set_yscale("log")
        else:
            place.set_ylim(0, 1.25 * max(ys))
        place.set_title(f"{curve['of']}, {curve['unit']}", fontsize=9, color=INK, loc="left", wrap=True)
        place.set_xlabel(f"{curve['over']}\n{curve['verdict']}")
        place.grid(visible=True, which="major", axis="both")
    figure.tight_layout()
    figure.savefig(folder / f"growth-{name}.svg", metadata={"Date": None, "Creator": None})
    figure.savefig(folder / f"growth-{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    results, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, curves in results["curves"].items():
            draw(name, curves, folder)


if __name__ == "__main__":
    main()
