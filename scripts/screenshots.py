# SPDX-License-Identifier: MIT
"""Takes the pictures that the pages show of a terminal and a browser, from a Hangar that runs the quickstart.

`python -m scripts.screenshots` takes them anew. Times and ids in them are of the moment, so CI does not
compare them; the pages' own blocks (`console hangar`) are what holds. Needs `make setup`.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from scripts.check_docs import PAGES_SAY, running, scratch
from scripts.repository import ROOT

IMAGES: Final = ROOT / "docs/images"
WIDTH: Final = 104
THEME: Final = TerminalTheme(
    (27, 32, 40),
    (214, 220, 228),
    [
        *((69, 78, 92), (239, 113, 120), (137, 202, 120), (229, 192, 123)),
        *((104, 170, 240), (206, 137, 226), (86, 194, 206), (214, 220, 228)),
    ],
)
# Rich's own frame fetches a font from elsewhere; this one takes what the reader has.
FRAME: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
  <!-- Taken by scripts/screenshots.py. -->
  <title>TITLE</title>
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px; line-height: {line_height}px;
    }}
    {styles}
  </style>
  <defs>
    {lines}
  </defs>
  <rect width="{width}" height="{height}" rx="10" fill="#1b2028"/>
  <g transform="translate({terminal_x}, {terminal_y})">
    {backgrounds}
    <g class="{unique_id}-matrix">{matrix}</g>
  </g>
</svg>
"""
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--window-size=1100,820"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DOCS_LINK: Final = re.compile(r"http://\S+/api/v1/docs\?code=\S+")
"""As `hangar serve` prints it; it opens once."""
PREPARED: Final = (
    "hangar tools",
    "hangar call time get_current_time --arg timezone=UTC",
    "hangar call git git_log --arg repo_path=.",
    "hangar call git git_commit --arg repo_path=. --arg message=no || true",
)
"""What happened before the pictures, so that they show something."""
DENIED: Final = "$(hangar calls --outcome denied --limit 1 | tail -1 | cut -f 8)"
PICTURES: Final = {
    "status": "hangar status",
    "tools": "hangar tools",
    "calls": "hangar calls",
    "why": f"hangar why {DENIED}",
}
TOUR: Final = (
    "hangar tools --query time",
    "hangar call time get_current_time --arg timezone=Asia/Tokyo",
    "hangar call git git_commit --arg repo_path=. --arg message=no",
    f"hangar why {DENIED} | head -4",
)
"""What is shown one after the other, in a picture that moves once and then stands."""
PAUSE: Final = 1.2
"""Seconds from one thing to the next."""
MOVING: Final = """\
    @keyframes hangar-shown { from { opacity: 0 } }
    @media (prefers-reduced-motion: reduce) { * { animation: none !important } }"""


def on_a_terminal(command: str, env: dict[str, str], cwd: Path) -> str:
    """What a person sees: the command believes in a terminal of `WIDTH` columns, and colours."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # how Linux tells that the last one has hung up
            while read := os.read(ours, 65536):
                said += read
    os.close(ours)
    return said.decode().replace("\r\n", "\n")


def picture(name: str, talk: list[tuple[str, str]], *, moving: bool = False) -> str:
    """Commands with what they said. If it moves, each command and each answer appears in its time."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    starts = []
    for command, said in talk:
        for shown in (Text.assemble(("$ ", "bold green"), (command, "bold")), Text.from_ansi(said.rstrip())):
            starts.append(console.export_text(clear=False).count("\n"))
            console.print(shown)
    drawn = console.export_svg(theme=THEME, code_format=FRAME, unique_id=f"hangar-{name}")
    if moving:
        drawn = re.sub(r'clip-path="url\(#[\w-]+-line-(\d+)\)"', lambda line: _late(line, starts), drawn)
        drawn = drawn.replace("<style>", f"<style>\n{MOVING}", 1)
    return drawn.replace("TITLE", escape(talk[0][0]), 1)


def _late(line: re.Match[str], starts: list[int]) -> str:
    """A line of text, with the moment at which it appears."""
    turn = bisect.bisect_right(starts, int(line[1])) - 1
    return f'{line[0]} style="animation: hangar-shown 0.2s {turn * PAUSE:.1f}s both"'


def browser() -> str | None:
    """Where Chromium is, if it is."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page(chromium: str, address: str, there: Path) -> None:
    """A page as a browser shows it, one that keeps nothing and calls nobody."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [chromium, *FLAGS, f"--user-data-dir={profile}", f"--screenshot={there}", address],
            check=True,
            capture_output=True,
            timeout=60,
        )


def main() -> int:
    IMAGES.mkdir(exist_ok=True)
    with scratch() as (env, cwd), running(env, cwd) as told:
        for command in PREPARED:
            subprocess.run(["bash", "-c", command], cwd=cwd, env=told, check=True, stdout=subprocess.DEVNULL)
        seen = {name: value for name, value in told.items() if name != "NO_COLOR"}
        seen |= {"COLUMNS": str(WIDTH), "LINES": "50", "TERM": "xterm-256color", "COLORTERM": "truecolor"}

        def asked(command: str) -> tuple[str, str]:
            denied = on_a_terminal(f"echo {DENIED}", told, cwd).strip()
            command = command.replace(DENIED, denied)
            return command, on_a_terminal(command, seen, cwd).replace(told["HANGAR_LISTEN"], PAGES_SAY)

        drawn = {name: picture(name, [asked(command)]) for name, command in PICTURES.items()}
        drawn["tour"] = picture("tour", [asked(command) for command in TOUR], moving=True)
        for name, text in drawn.items():
            (IMAGES / f"{name}.svg").write_text(text, encoding="utf-8")
            print(f"docs/images/{name}.svg")
        address = DOCS_LINK.search((cwd / "serve.log").read_text())
        if (chromium := browser()) and address:
            page(chromium, address[0], IMAGES / "rest.png")
            print("docs/images/rest.png")
        else:
            print("docs/images/rest.png stays as it is: there is no Chromium here (apt-get install chromium)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
