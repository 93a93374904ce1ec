# SPDX-License-Identifier: MIT
"""docs/reference/cli.md, from the commands themselves: what each takes, and what the exit status means."""

from __future__ import annotations

import re
from typing import Any, Final

import typer

from mcp_hangar.application.offered import ToolList
from mcp_hangar.application.queries import CallDetail, ProviderRow, StatusRow
from mcp_hangar.application.views import CallPage
from mcp_hangar.server.api.schemas import CallAnswer, Logs
from mcp_hangar.server.cli.failing import EXIT_STATUSES
from mcp_hangar.server.cli.main import build

INTRO: Final = """\
Commands print tables on a terminal and plain columns, parted by tabs, in a pipe; `--json` gives one JSON document for
scripts. What goes wrong is told on stderr (with `--json` as an object on stdout), with a stable code, a way out and a
link into [errors.md](errors.md). `NO_COLOR` turns colours off. `hangar --install-completion` makes bash, zsh and fish
complete commands and options, and the names of providers and tools of the Hangar that runs.

Commands that ask a running Hangar find the only one that runs on this machine, or the one that `--url` (or
`HANGAR_URL`) or `--pid` names. The admin token is read from `state.dir`, or is `HANGAR_ADMIN_TOKEN`."""


SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "init": ("config", "written", "providers", "left", "unreadable", "variables", "connected"),
    "status": StatusRow.__struct_fields__,
    "tools": ToolList.__struct_fields__,
    "call": CallAnswer.__struct_fields__,
    "calls": CallPage.__struct_fields__,
    "why": CallDetail.__struct_fields__,
    "logs": Logs.__struct_fields__,
    "start": ProviderRow.__struct_fields__,
    "stop": ProviderRow.__struct_fields__,
    "config check": ("ok", "file", "digest", "problems"),
}
"""The members of what `--json` prints. Those of commands that ask a running Hangar are REST's own answers."""
FAILURE: Final = ("code", "title", "why", "fix", "more")
PROBLEM: Final = ("code", "file", "line", "column", "what", "fix", "more")

JSON: Final = f"""\
`--json` prints one document: the members named with each command below are always there, others may join them. Commands
that ask a running Hangar print what REST answers; `/api/v1/docs` describes it in full. Where something fails, the
document has {", ".join(f"`{name}`" for name in FAILURE)} (and what else REST says of it); where the configuration is
wrong, `ok` is false and each of `problems` has {", ".join(f"`{name}`" for name in PROBLEM)}."""


def parts() -> list[str]:
    """The page, paragraph by paragraph."""
    root: Any = typer.main.get_command(build(["config"]))
    found = [
        INTRO,
        "## Exit status",
        "\n".join(
            [
                "| status | meaning |",
                "| --- | --- |",
                *(f"| {status} | {text} |" for status, text in EXIT_STATUSES.items()),
            ]
        ),
    ]
    found += ["## JSON", JSON]
    for name, command in root.commands.items():
        found += _command(f"hangar {name}", command)
    return found


def _command(name: str, command: Any) -> list[str]:
    inner = getattr(command, "commands", None)
    if inner:
        return [part for sub, one in inner.items() for part in _command(f"{name} {sub}", one)]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, *(_argument(one) for one in arguments)])
    found = [f"## {name}", f"`{usage}{' [OPTIONS]' if options else ''}`", _prose(command.help or "")]
    rows = [(f"`{_argument(one)}`", _prose(_words(one))) for one in arguments]
    rows += [(_option(one), _prose(_words(one))) for one in options]
    if rows:
        found.append("\n".join(["| | |", "| --- | --- |", *(f"| {left} | {right} |" for left, right in rows)]))
    shape = SHAPES.get(name.removeprefix("hangar "))
    if shape:
        found.append(f"JSON: {', '.join(f'`{member}`' for member in shape)}.")
    return found


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return name if one.required else f"[{name}]"


def _option(one: Any) -> str:
    """`--lines`, `-n` NUMBER."""
    names = sorted((name for name in one.opts if name.startswith("-")), key=len, reverse=True)
    value = "" if one.is_flag else f" {one.metavar}"
    return ", ".join(f"`{name}{value}`" if number == 0 else f"`{name}`" for number, name in enumerate(names))


def _words(one: Any) -> str:
    text = str(getattr(one, "help", "") or "")
    if getattr(one, "multiple", False):
        text += " May be repeated."
    default = one.default
    if default in (None, "", False, 0) or getattr(one, "multiple", False) or getattr(one, "is_flag", False):
        return text
    return f"{text} Default: `{default}`."


def _prose(text: str) -> str:
    text = re.sub(r"(\$\{[^}]*\}|(?<![\w/.])hangar\.yaml\b)", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")
