# SPDX-License-Identifier: MIT
"""Completion as shells do it: the script that `hangar` prints is sourced by the real shell, and asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.test_cli import RUN, Hangar


@pytest.fixture
def hangar(tmp_path: Path) -> Iterator[Hangar]:
    program = tmp_path / "bin/hangar"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{RUN}\n")
    program.chmod(0o755)
    made = Hangar(tmp_path / "state", command=None)
    yield made
    made.close()


def ask(hangar: Hangar, shell: str, script: str) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    env = {name: value for name, value in os.environ.items() if not name.startswith("HANGAR_")}
    env |= {"HANGAR_STATE_DIR": str(hangar.state), "PATH": f"{hangar.state.parent / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, "-c", script], env=env | {"HOME": str(hangar.state)}, capture_output=True, text=True, timeout=120,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


LINES = [("st", {"start", "status", "stop"}), ("logs ti", {"time"}), ("call time n", {"now"})]


@pytest.mark.parametrize(("typed", "expected"), LINES)
def test_bash_completes_commands_providers_and_tools(hangar: Hangar, typed: str, expected: set[str]) -> None:
    words = " ".join(f"'{word}'" for word in typed.split(" "))
    script = f"""source <(_HANGAR_COMPLETE=source_bash hangar)
complete -p hangar >&2
COMP_WORDS=(hangar {words}); COMP_CWORD={len(typed.split(" "))}
_hangar_completion hangar
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    assert {line.strip() for line in ask(hangar, "bash", script)} - {""} == expected


@pytest.mark.parametrize(("typed", "expected"), LINES)
def test_fish_completes_commands_providers_and_tools(hangar: Hangar, typed: str, expected: set[str]) -> None:
    script = f"_HANGAR_COMPLETE=source_fish hangar | source; complete -C 'hangar {typed}'"
    assert {line.split("\t")[0] for line in ask(hangar, "fish", script)} == expected


@pytest.mark.parametrize(("typed", "expected"), LINES)
def test_zsh_completes_commands_providers_and_tools(hangar: Hangar, typed: str, expected: set[str]) -> None:
    # What the function would hand to zsh's own menu is shown instead.
    script = f"""autoload -U compinit; compinit -u -D
source <(_HANGAR_COMPLETE=source_zsh hangar)
(( $+_comps[hangar] )) || exit 3
_arguments() {{ print -r -- "$@" }}
_describe() {{ print -r -- ${{(P)2}} }}
words=(hangar {typed}); CURRENT=$#words
$_comps[hangar]
"""
    shown = " ".join(ask(hangar, "zsh", script))
    assert {name for name in ("start", "status", "stop", "time", "now") if f'"{name}"' in shown} == expected


def test_without_a_running_hangar_nothing_is_completed_and_nothing_printed(hangar: Hangar) -> None:
    script = """source <(_HANGAR_COMPLETE=source_bash hangar)
export HANGAR_STATE_DIR=/nowhere COMP_WORDS COMP_CWORD
COMP_WORDS=(hangar logs ""); COMP_CWORD=2
_hangar_completion hangar 2>&1
printf '%s' "${COMPREPLY[@]}"
"""
    assert ask(hangar, "bash", script) == []
