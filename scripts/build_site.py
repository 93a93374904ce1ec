# SPDX-License-Identifier: MIT
"""Builds the documentation site from docs/ into .tools/site, with zensical.toml; fails on any warning.

Pages are written for people who read them in the repository too, so they are prepared first, in .tools/pages: what a
fence asks of check_docs.py (`yaml config`) is no business of a reader's, and a link that leaves docs/ has no target
there. Then: every page is in the menu, and a built page fetches nothing from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from scripts.check_docs import FENCE, LINK
from scripts.repository import ROOT, files

DOCS: Final = Path("docs")
PAGES: Final = ROOT / ".tools/pages"
SITE: Final = ROOT / ".tools/site"
COMMENT: Final = re.compile(r"\A(<!--.*?-->\s*)+", re.DOTALL)
FETCHED: Final = re.compile(
    r"<(?:script|img|iframe|source|object|embed)\b[^>]*?\b(?:src|data)=[\"']?((?:https?:)?//[^\"' >]*)"
    r"|<link\b(?![^>]*\brel=[\"']?canonical)[^>]*?\bhref=[\"']?((?:https?:)?//[^\"' >]*)"
    r"|@import\s+(?:url\()?[\"']?((?:https?:)?//[^\"' )]*)"
    r"|\burl\([\"']?((?:https?:)?//[^\"' )]*)"
)
"""What a browser gets by itself when it opens a page, as opposed to links that a reader follows."""


def prepared(path: Path, text: str) -> str:
    """A page of docs/ as the site takes it."""
    pieces, end = [], 0
    for fence in FENCE.finditer(text):
        pieces += [_links(path, text[end : fence.start()]), _fence(fence)]
        end = fence.end()
    pieces.append(_links(path, text[end:]))
    return COMMENT.sub("", "".join(pieces))


def _fence(fence: re.Match[str]) -> str:
    language = fence[3].split(" ")[0]
    return fence[0].replace(f"{fence[2]}{fence[3]}", f"{fence[2]}{language}", 1)


def _links(path: Path, text: str) -> str:
    return LINK.sub(lambda link: link[0] if _stays(path, link[1] or link[2]) else _words(link[0]), text)


def _stays(path: Path, target: str) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
        return True
    there = (ROOT / path.parent / target.partition("#")[0]).resolve()
    return there.is_relative_to(ROOT / DOCS)


def _words(link: str) -> str:
    return link[1 : link.rindex("](")]


def pages() -> list[Path]:
    return [path for path in files() if path.parts[0] == DOCS.name]


def stage() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    for path in pages():
        there = PAGES / path.relative_to(DOCS)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            there.write_text(prepared(path, (ROOT / path).read_text()))
        else:
            shutil.copyfile(ROOT / path, there)


def listed(menu: list[Any]) -> Iterator[str]:
    """The pages that a menu names, whatever stands above them."""
    for entry in menu:
        for value in entry.values() if isinstance(entry, dict) else (entry,):
            yield from listed(value) if isinstance(value, list) else (value,)


def not_in_menu(menu: list[Any], there: list[Path]) -> list[str]:
    named = set(listed(menu))
    written = {str(path.relative_to(DOCS)) for path in there if path.suffix == ".md"}
    return sorted(
        [f"docs/{name} is not in the menu: name it under nav in zensical.toml" for name in written - named]
        + [f"zensical.toml: the menu names docs/{name}, which does not exist" for name in named - written]
    )


def fetched(text: str) -> list[str]:
    return sorted({next(filter(None, found.groups())) for found in FETCHED.finditer(text)})


def fetches() -> Iterator[str]:
    for suffix in ("html", "css", "svg"):
        for path in sorted(SITE.rglob(f"*.{suffix}")):
            for address in fetched(path.read_text()):
                yield f"{path.relative_to(ROOT)}: fetches {address} when it is opened; a page has all it needs"


def main() -> int:
    menu = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    problems = not_in_menu(menu, pages())
    stage()
    built = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    if built.returncode or "Warning" in built.stdout:
        problems.append(built.stdout.partition("Traceback")[0])
    else:
        problems += fetches()
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"site: {len(list(listed(menu)))} pages, no warning; open {(SITE / 'index.html').relative_to(ROOT)}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
