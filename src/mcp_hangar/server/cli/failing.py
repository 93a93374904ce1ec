# SPDX-License-Identifier: MIT
"""How a command fails: what, why and how to fix it on stderr (with `--json` as one object on stdout), where the docs
tell of it, and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import typer

from mcp_hangar.domain.errors import CODES, REFERENCE, ConfigError, ConfigProblem, HangarError
from mcp_hangar.domain.operator_codes import FAILED, NOT_RUNNING, USAGE
from mcp_hangar.server.cli.output import print_json, safe, tell

__all__ = ["EXIT_STATUSES", "FAILED", "NOT_RUNNING", "USAGE", "telling"]

EXIT_STATUSES: Final = {
    0: "It was done.",
    FAILED: "It failed: a tool's own error, a denial, a provider that cannot start, a configuration with problems.",
    USAGE: "The command was called wrongly, or it has to be said which Hangar is meant. Nothing was done.",
    NOT_RUNNING: "No running Hangar was found, or the one that was named cannot be reached.",
    130: "It was interrupted (Ctrl-C).",
}
"""What the exit status of every command means."""


@contextmanager
def telling(as_json: bool = False) -> Iterator[None]:
    """What is raised inside is told, and ends the command."""
    try:
        yield
    except ConfigError as error:
        _tell_problems(error, as_json)
        raise typer.Exit(FAILED) from None
    except HangarError as error:
        _tell({"title": error.what, **error.data}, as_json)
        raise typer.Exit(error.row.exit) from None
    except BrokenPipeError:
        # The reader (`head`, a pager) has enough. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, typer.Abort):
        raise typer.Exit(130) from None
    except Exception as error:
        problem = _from_client(error)
        if problem is None:
            raise
        _tell(problem, as_json)
        raise typer.Exit(CODES[problem["code"]].exit if problem["code"] in CODES else FAILED) from None


def _from_client(error: Exception) -> dict[str, Any] | None:
    """What the REST client raises, as a problem; None for anything else."""
    client = sys.modules.get("mcp_hangar.client")
    if client is None or not isinstance(error, client.HangarError):
        return None
    if isinstance(error, client.Refused):
        return {"code": "no_answer", "title": str(error), **error.problem}
    row = CODES[error.code]
    what = "Several Hangars are running." if isinstance(error, client.Ambiguous) else str(error)
    if isinstance(error, client.Ambiguous):
        places = "; ".join(f"--pid {one.pid} ({one.url or one.socket})" for one in error.addresses)
        return {"code": error.code, "title": what, "why": row.why, "fix": f"{row.fix} Running: {places}."}
    return {"code": error.code, "title": what, "why": row.why, "fix": row.fix}


def _tell(problem: Mapping[str, Any], as_json: bool) -> None:
    more = f"{REFERENCE}#{problem['code']}"
    if as_json:
        print_json({**problem, "more": more})
        return
    tell(safe(f"{problem['title']} {problem.get('why', '')}".strip()), sys.stderr)
    if problem.get("fix"):
        tell(f"Fix: {safe(problem['fix'])}", sys.stderr)
    call = problem.get("callId")
    print(f"See {f'`hangar why {safe(call)}` and ' if call else ''}{more}", file=sys.stderr)


def _tell_problems(error: ConfigError, as_json: bool) -> None:
    if as_json:
        rows = [
            {"code": one.code, "file": one.file, "line": one.line, "column": one.column, "what": one.what}
            | {"fix": one.fix, "more": one.link}
            for one in error.problems
        ]
        print_json({"ok": False, "problems": rows})
        return
    print(described(error, with_lines=sys.stderr.isatty()), file=sys.stderr)
    print(f"See {', '.join(dict.fromkeys(one.link for one in error.problems))}", file=sys.stderr)


def described(error: ConfigError, *, with_lines: bool) -> str:
    """The problems as a compiler tells them; `with_lines` adds the line and a caret. Secrets in the line are masked."""
    parts: list[str] = []
    for problem in error.problems:
        parts.append(str(problem))
        if with_lines and problem.line:
            parts += _pointer(problem)
    return "\n".join(parts)


def _pointer(problem: ConfigProblem) -> list[str]:
    # The configuration's own libraries are loaded by then; commands that read none do not load them.
    from mcp_hangar.server.config.problems import excerpt
    from mcp_hangar.server.config.text import FILE_BYTES

    try:
        with Path(problem.file).open("rb") as file:
            text = file.read(FILE_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return []
    line, column = excerpt(text, problem.line, problem.column)
    if not line.strip():
        return []
    # Tabs stay tabs, so that the caret stands below what it points at.
    before = "".join(char if char == "\t" else " " for char in line[: column - 1])
    return [f"    {line}", f"    {before}^"]
