# SPDX-License-Identifier: MIT
"""Pictures of what the code's own tables say: a provider's states, and the rooms that a call goes through.

Where a state stands on the picture is told here; what leads from one to another is `domain/lifecycle.py`'s. A state
that the table gains is an error until it has a place. The steps of a call are those of docs/life-of-a-tool-call.md,
which a test holds against a real call.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from mcp_hangar.domain.lifecycle import SERVING, TRANSITIONS, State

ROOT: Final = Path(__file__).resolve().parent.parent
STEP: Final = re.compile(r"^\| (\d+) \| `(\w+)/[\w/.]+` `([\w.]+)` \| (.*?) \|$", re.MULTILINE)
STYLE: Final = """\
<style>
  text { font-family: system-ui, sans-serif; font-size: 13px; fill: #1f2933; }
  .name { font-weight: 600; }
  .small { font-size: 11.5px; fill: #52606d; }
  .said { font-size: 11.5px; fill: #52606d; stroke: #fff; stroke-width: 5px; paint-order: stroke; }
  .box { fill: #eef2f7; stroke: #7b8794; }
  .serving { fill: #dff3e4; stroke: #3f9142; }
  .lane { fill: #f7f9fb; stroke: #e4e7eb; }
  .arrow { fill: none; stroke: #52606d; stroke-width: 1.5; marker-end: url(#tip); }
</style>
<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
  <path d="M0 0 L10 5 L0 10 z" fill="#52606d"/>
</marker>"""


def _drawing(width: float, height: float, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    ground = f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#ffffff"/>'
    note = "<!-- Drawn by scripts/pictures.py from the code; change the code instead. -->"
    return "\n".join([head, note, f"<title>{escape(title)}</title>", STYLE, ground, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


# states

PLACES: Final[dict[State, tuple[float, float]]] = {
    State.starting: (110, 70),
    State.ready: (640, 70),
    State.cold: (330, 165),
    State.degraded: (640, 350),
    State.dead: (110, 350),
}
WIDTH, HEIGHT = 112.0, 44.0
BEND: Final = 18.0
"""How far an arrow swings out to its left, so that two between the same states do not lie on each other."""


def states() -> str:
    """The lifecycle of an instance: every transition of the table, and none beside."""
    parts: list[str] = []
    for state, leads in TRANSITIONS.items():
        words: dict[State, list[str]] = {}
        for happening, target in leads.items():
            words.setdefault(target, []).append(happening.value)
        parts += [_arrow(PLACES[state], PLACES[target], ", ".join(said)) for target, said in words.items()]
    for state in State:
        x, y = PLACES[state]
        kind = "serving" if state in SERVING else "box"
        box = f'x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH:g}" height="{HEIGHT:g}"'
        parts += [f'<rect {box} rx="22" class="{kind}"/>', _text(x, y + 5, state.value, "name")]
    parts.append(_text(375, 425, "green: it serves calls", "small"))
    return _drawing(760, 440, "The states of a provider's instance, and what leads from one to another", parts)


def _arrow(start: tuple[float, float], end: tuple[float, float], words: str) -> str:
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1)
    left = ((y2 - y1) / length, -(x2 - x1) / length)
    middle = ((x1 + x2) / 2 + left[0] * BEND * 2, (y1 + y2) / 2 + left[1] * BEND * 2)
    (ax, ay), (bx, by) = _edge(start, middle), _edge(end, middle)
    at = ((ax + 2 * middle[0] + bx) / 4 + left[0] * 10, (ay + 2 * middle[1] + by) / 4 + left[1] * 10 + 4)
    anchor = "middle" if abs(left[1]) > 0.8 else "start" if left[0] > 0 else "end"
    curve = f"M{ax:.1f} {ay:.1f} Q{middle[0]:.1f} {middle[1]:.1f} {bx:.1f} {by:.1f}"
    return f'<path class="arrow" d="{curve}"/>' + _text(round(at[0], 1), round(at[1], 1), words, "said", anchor)


def _edge(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a box's centre leaves the box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = min(
        (WIDTH / 2 + 3) / abs(dx) if dx else math.inf,
        (HEIGHT / 2 + 3) / abs(dy) if dy else math.inf,
    )
    return centre[0] + dx * scale, centre[1] + dy * scale


# a call

ROOMS: Final = ("server", "application", "domain", "infrastructure")
LANE, MARGIN, ROW, TOP = 186.0, 76.0, 78.0, 62.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    number: int
    room: str
    function: str
    does: str


def steps(page: str) -> list[Step]:
    return [
        Step(number=int(number), room=room, function=function, does=does.replace("`", ""))
        for number, room, function, does in STEP.findall(page)
    ]


def call(page: str) -> str:
    """The functions of a warm call, each in its room, in the order of time."""
    taken = steps(page)
    width, bottom = 2 * MARGIN + LANE * len(ROOMS), TOP + ROW * len(taken)
    parts = []
    for number, room in enumerate(ROOMS):
        x = MARGIN + LANE * number
        parts.append(f'<rect x="{x + 3:g}" y="12" width="{LANE - 6:g}" height="{bottom - 8:g}" rx="6" class="lane"/>')
        parts.append(_text(x + LANE / 2, 36, room, "name"))
    places = {step.number: (_middle(step.room), TOP + ROW * index + 30) for index, step in enumerate(taken)}
    first, last = places[taken[0].number], places[taken[-1].number]
    parts.append(_line((MARGIN - 30, first[1]), (first[0] - 84, first[1])))
    parts += [_text(MARGIN - 34, first[1] - 12, "agent", "name"), _text(MARGIN - 34, last[1] - 12, "agent", "name")]
    for before, after in itertools.pairwise(taken):
        parts += _passage(before, after, places, width)
    parts.append(_line((last[0] - 84, last[1]), (MARGIN - 34, last[1])))
    for step in taken:
        parts += _box(step, places[step.number])
    return _drawing(width, bottom + 16, "A warm tool call, from the agent to the provider and back", parts)


def _middle(room: str) -> float:
    return MARGIN + LANE * (ROOMS.index(room) + 0.5)


def _passage(before: Step, after: Step, places: dict[int, tuple[float, float]], width: float) -> list[str]:
    start, end = places[before.number], places[after.number]
    if before.room == after.room == "infrastructure":
        edge = width - MARGIN + 42
        return [
            _line((start[0] + 84, start[1]), (edge, start[1])),
            _line((edge, end[1]), (end[0] + 84, end[1])),
            _text(edge - 6, (start[1] + end[1]) / 2 + 4, "provider", "name"),
        ]
    if start[0] == end[0]:
        return [_line((start[0], start[1] + 28), (end[0], end[1] - 30))]
    side = 84 if end[0] > start[0] else -84
    bend = f"M{start[0] + side:g} {start[1]:g} H{end[0]:g} V{end[1] - 30:g}"
    return [f'<path class="arrow" d="{bend}"/>']


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<path class="arrow" d="M{start[0]:g} {start[1]:g} L{end[0]:g} {end[1]:g}"/>'


def _box(step: Step, at: tuple[float, float]) -> list[str]:
    x, y = at
    lines = textwrap.wrap(re.split(r";| \(", step.does)[0], 25)[:2]
    name = step.function if len(step.function) < 17 else step.function.rpartition(".")[2]
    parts = [f'<rect x="{x - 84:g}" y="{y - 28:g}" width="168" height="56" rx="6" class="box"/>']
    parts.append(_text(x - 76, y - 10, f"{step.number}  {name}", "name", "start"))
    return parts + [_text(x - 76, y + 7 + 14 * row, line, "small", "start") for row, line in enumerate(lines)]
