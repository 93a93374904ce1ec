# SPDX-License-Identifier: MIT
"""README.md and docs/ stay true: every fenced block is checked by its language, every link leads somewhere.

A block's language decides how it is read: `json`, `yaml`, `toml` and `ini` must parse, `python` must compile,
`bash` must have valid syntax; `text` and `console` are shown as they are. A second word asks for more:

- `yaml config`: `hangar config check` accepts it as a configuration, with the variables it names set.
- `bash run`, `python run`: it is executed in a scratch folder and must succeed.
- `console run`: each line after `$ ` is executed, and what it prints must equal the lines below it. `…` stands for
  anything within a line, a line of only `…` for any lines. Those of one page share a folder, in their order.
- `console hangar`: the same, while a Hangar runs with the quickstart's configuration. Pages say 127.0.0.1:8000; the one
  that runs has a port of its own, written so in commands and read back in what they print.
- `python hangar`: it is executed while that Hangar runs, and must succeed.
- `yaml served`: as `yaml config`, and a Hangar runs on it for the blocks of the page that are `console served`.

A block that needs `npx` is skipped, with one line, where there is no node, unless HANGAR_TEST_REQUIRE names it.

In a scratch folder, `hangar` and the real servers are on the PATH, and HOME is empty.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from scripts.repository import ROOT, files

LANGUAGES: Final = frozenset(
    {"bash", "console", "diff", "http", "ini", "json", "mermaid", "python", "text", "toml", "yaml"}
)
ASKED: Final = frozenset(
    {"yaml config", "bash run", "python run", "python hangar", "console run", "console hangar"}
    | {"yaml served", "console served"}
)
QUICKSTART: Final = "examples/quickstart/hangar.yaml"
LIMIT: Final = 120
"""Seconds for one block, and for Hangar to become ready."""

FENCE: Final = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2`* *$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
READY: Final = re.compile(r"is ready at http://(127\.0\.0\.1:\d+)/mcp")
PAGES_SAY: Final = "127.0.0.1:8000"
HEADING: Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    path: Path
    line: int
    info: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]


class Wrong(Exception):
    """A page says something that does not hold."""


def blocks(path: Path, text: str) -> list[Block]:
    found = []
    for fence in FENCE.finditer(text):
        indent = len(fence[1])
        body = "".join(line[indent:] if line[:indent].isspace() else line for line in fence[4].splitlines(True))
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(path=path, line=line, info=" ".join(fence[3].split()), text=body))
    return found


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in links to it, as GitHub does it."""
    prose = FENCE.sub("", text)
    seen: dict[str, int] = {}
    found = set()
    for heading in HEADING.findall(prose):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def broken_links(path: Path, text: str) -> Iterator[str]:
    for found in LINK.finditer(FENCE.sub("", text)):
        target = found[1] or found[2]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # another site: not ours to keep
        name, _, anchor = target.partition("#")
        page = ROOT / path.parent / name if name else ROOT / path
        if not page.exists():
            yield f"{path}: link to {target}: there is no such file"
        elif anchor and page.suffix == ".md" and anchor not in anchors(page.read_text()):
            yield f"{path}: link to {target}: no heading of that page is called so"


def read(block: Block) -> None:
    """What can be said of a block without running it."""
    if block.language not in LANGUAGES:
        raise Wrong(f"unknown language '{block.info}'; known: {', '.join(sorted(LANGUAGES))}")
    if " " in block.info and block.info not in ASKED:
        raise Wrong(f"unknown request '{block.info}'; known: {', '.join(sorted(ASKED))}")
    try:
        match block.language:
            case "json":
                json.loads(block.text)
            case "yaml":
                YAML(typ="safe").load(block.text)
            case "ini":
                configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
            case "toml":
                tomllib.loads(block.text)
            case "python":
                compile(block.text, block.place, "exec")
            case "bash":
                run(["bash", "-n", "-c", block.text], cwd=ROOT, env=dict(os.environ))
    except (ValueError, SyntaxError, YAMLError, configparser.Error) as error:
        raise Wrong(f"is not valid {block.language}: {error}") from error


def run(command: list[str], *, cwd: Path, env: dict[str, str]) -> str:
    """Both streams, as a terminal shows them. Raises `Wrong` if it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        raise Wrong(f"did not end within {LIMIT} s: {command[-1]}") from error
    if done.returncode:
        raise Wrong(f"ended with {done.returncode}: {command[-1]}\n{done.stdout}")
    return done.stdout


def dialogue(text: str) -> list[tuple[str, list[str]]]:
    """Commands of a console block, each with the lines it is said to print."""
    spoken: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            spoken.append((line[2:], []))
        elif spoken and not spoken[-1][1] and (line.startswith("> ") or spoken[-1][0].endswith("\\")):
            spoken[-1] = (f"{spoken[-1][0]}\n{line.removeprefix('> ')}", [])
        elif spoken:
            spoken[-1][1].append(line)
        else:
            raise Wrong("a console block begins with '$ ' and a command")
    return spoken


def matches(said: list[str], printed: str) -> bool:
    """Whether what was printed is what the page says. An ellipsis stands for anything."""
    pattern = ""
    for line in said:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part.rstrip()) for part in line.split("…")) + r"[ ]*\n"
    shown = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    return re.fullmatch(pattern + r"\n*", shown) is not None


def execute(block: Block, env: dict[str, str], cwd: Path) -> None:
    match block.info:
        case "yaml config" | "yaml served":
            (cwd / "hangar.yaml").write_text(block.text)
            # 32 bytes in hex: what a key has to be, and a token may be.
            env = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "ab" * 32) | env
            run(["hangar", "config", "check", "--config", str(cwd / "hangar.yaml")], cwd=cwd, env=env)
        case "bash run":
            run(["bash", "-euo", "pipefail", "-c", block.text], cwd=cwd, env=env)
        case "python run" | "python hangar":
            run([sys.executable, "-c", block.text], cwd=cwd, env=env)
        case "console run" | "console hangar" | "console served":
            for command, said in dialogue(block.text):
                address = env.get("HANGAR_LISTEN", PAGES_SAY)
                printed = run(["bash", "-c", command.replace(PAGES_SAY, address)], cwd=cwd, env=env)
                printed = printed.replace(address, PAGES_SAY)
                if not matches(said, printed):
                    raise Wrong(f"$ {command}\nprinted:\n{printed}\nbut the page says:\n" + "\n".join(said))


@contextmanager
def scratch() -> Iterator[tuple[dict[str, str], Path]]:
    """An empty home, and a folder that looks like the checkout where pages refer to its files."""
    with tempfile.TemporaryDirectory(prefix="hangar-docs-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        shutil.copytree(ROOT / "examples", folder / "checkout" / "examples")
        (folder / "checkout" / ".tools").symlink_to(ROOT / ".tools")
        (folder / "checkout" / "node_modules").symlink_to(ROOT / ".tools/node/node_modules")
        path = [ROOT / ".tools/servers/bin", ROOT / ".tools/node/node_modules/node/bin"]
        path += [ROOT / ".tools/node/node_modules/.bin", Path(sys.executable).parent]
        yield (
            {
                "PATH": ":".join([*map(str, path), os.environ.get("PATH", "/usr/bin:/bin")]),
                "HOME": str(folder / "home"),
                "LANG": "C.UTF-8",
                "COLUMNS": "120",
                "NO_COLOR": "1",
            },
            folder / "checkout",
        )


@contextmanager
def running(env: dict[str, str], cwd: Path, config: str = QUICKSTART) -> Iterator[dict[str, str]]:
    """A Hangar with this configuration, ready to take calls; gives the environment that tells where."""
    log = cwd / "serve.log"
    with log.open("w") as output:
        hangar = subprocess.Popen(
            ["hangar", "serve", "--config", config],
            cwd=cwd,
            env={**env, "HANGAR_LISTEN": "127.0.0.1:0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            for _ in range(LIMIT * 5):
                if ready := READY.search(log.read_text()):
                    break
                if hangar.poll() is not None:
                    raise Wrong(f"hangar serve ended with {hangar.returncode}:\n{log.read_text()}")
                time.sleep(0.2)
            else:
                raise Wrong(f"hangar serve was not ready within {LIMIT} s:\n{log.read_text()}")
            yield {**env, "HANGAR_LISTEN": ready[1]}
        finally:
            hangar.send_signal(signal.SIGTERM)
            try:
                hangar.wait(timeout=30)
            except subprocess.TimeoutExpired:
                hangar.kill()
                hangar.wait()


def lacks_node(block: Block) -> bool:
    """Whether the block cannot run here. Where node is required it is run all the same, and fails."""
    there = shutil.which("npx") is not None and (ROOT / ".tools/node/node_modules").exists()
    if "npx " not in block.text or there or "node" in os.environ.get("HANGAR_TEST_REQUIRE", "").split(","):
        return False
    print(f"{block.place}: skipped, there is no node here (apt-get install npm; make setup)")
    return True


def by_page(asked: list[Block], info: str) -> dict[Path, list[Block]]:
    """The blocks of this kind, in their order."""
    found: dict[Path, list[Block]] = {}
    for block in asked:
        if block.info == info:
            found.setdefault(block.path, []).append(block)
    return found


def check(pages: list[Path]) -> list[str]:
    problems: list[str] = []
    found: list[Block] = []
    for path in pages:
        text = (ROOT / path).read_text()
        problems += broken_links(path, text)
        found += blocks(path, text)

    def tried(block: Block, env: dict[str, str], cwd: Path) -> None:
        try:
            execute(block, env, cwd)
        except Wrong as error:
            problems.append(f"{block.place}: {error}")

    for block in found:
        try:
            read(block)
        except Wrong as error:
            problems.append(f"{block.place}: {error}")
    asked = [block for block in found if block.info in ASKED and not lacks_node(block)]
    for alone in asked:
        if alone.info.startswith("console ") or alone.info.endswith(" hangar"):
            continue
        with scratch() as (env, cwd):
            tried(alone, env, cwd)
    for talk in by_page(asked, "console run").values():
        with scratch() as (env, cwd):
            for block in talk:
                tried(block, env, cwd)

    def lived(talk: list[Block], config: str = QUICKSTART, text: str = "") -> None:
        """All of them while one Hangar runs."""
        with scratch() as (env, cwd):
            if text:
                (cwd / config).write_text(text.replace(PAGES_SAY, "127.0.0.1:0"))
            try:
                with running(env, cwd, config) as told:
                    for block in talk:
                        tried(block, told, cwd)
            except Wrong as error:
                problems.append(f"{talk[0].place}: {error}")

    if live := [block for block in asked if block.info.endswith(" hangar")]:
        lived(live)
    for path, talk in by_page(asked, "console served").items():
        configs = [block.text for block in asked if block.path == path and block.info == "yaml served"]
        if len(configs) == 1:
            lived(talk, "served.yaml", configs[0])
        else:
            problems.append(f"{path}: `console served` needs one block `yaml served` on the page, not {len(configs)}")
    print(f"docs: {len(pages)} pages, {len(found)} blocks read, {len(asked)} of them executed, {len(problems)} wrong")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="default: README.md, docs/ and the other pages of the root")
    chosen: list[Path] = parser.parse_args().pages
    problems = check(
        chosen or [path for path in files(".md") if path.parts[0] in {"docs", "enterprise"} or len(path.parts) == 1]
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
