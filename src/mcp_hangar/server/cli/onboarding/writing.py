# SPDX-License-Identifier: MIT
"""hangar.yaml with comments, from what was found. No secret is in it: those are references."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from mcp_hangar.domain.errors import ConfigError
from mcp_hangar.server.cli.onboarding.adoption import Candidate, Left, Variable
from mcp_hangar.server.cli.onboarding.references import Parts, written
from mcp_hangar.server.cli.onboarding.trial import Outcome
from mcp_hangar.server.cli.output import cell
from mcp_hangar.server.config import load

HEAD = """\
# Configuration of MCP Hangar. Every key: docs/reference/config.md, or `hangar config schema` for an editor.
# `hangar config check` checks this file, `hangar serve` starts Hangar on it.

version: 1

server:
  listen: 127.0.0.1:8000
"""

EXAMPLE = """\
# Nothing was found in the clients of this machine. An example:
#   time:
#     mode: subprocess
#     command: [uvx, mcp-server-time]
#   search:
#     mode: remote
#     url: https://mcp.example.com/mcp
#     headers: {Authorization: "Bearer ${SEARCH_TOKEN}"}
providers: {}
"""


def render(
    chosen: Sequence[Candidate],
    *,
    left: Sequence[Left] = (),
    outcomes: Mapping[str, Outcome] | None = None,
    variables: Sequence[Variable] = (),
    home: Path | None = None,
) -> str:
    """The whole file. What did not start stands in it as a comment."""
    tried = outcomes or {}
    lines = HEAD.splitlines()
    if variables:
        lines += [
            "",
            "# No secret is in this file. Set these variables where `hangar serve` starts, or name a file that",
        ]
        lines += ["# sets them: `hangar serve --env-file FILE`."]
        lines += [f"#   {variable.name}: {cell('; '.join(variable.uses))}" for variable in variables]
    failed = {candidate.name for candidate in chosen if candidate.name in tried and not tried[candidate.name].started}
    if not chosen:
        lines += ["", *EXAMPLE.splitlines()]
    else:
        lines += ["", "providers:" if len(failed) < len(chosen) else "providers: {}"]
    for candidate in chosen:
        outcome = tried.get(candidate.name)
        lines += [f"  # {line}" for line in _about(candidate, outcome, home)]
        block = [f"  {line}" for line in _block(candidate).splitlines()]
        lines += [f"  # {line[2:]}" for line in block] if candidate.name in failed else block
        lines.append("")
    if left:
        lines += ["", "# Left as they are in their clients:"]
        lines += [f"#   {cell(one.found.name)} ({one.found.place.title}): {cell(one.why)}." for one in left]
    return "\n".join(lines).rstrip("\n") + "\n"


def shown_path(path: Path, home: Path | None) -> str:
    if home is not None and path.is_relative_to(home):
        return f"~/{path.relative_to(home)}"
    return str(path)


def _about(candidate: Candidate, outcome: Outcome | None, home: Path | None) -> list[str]:
    places = dict.fromkeys(f"{one.place.title} ({shown_path(one.place.path, home)})" for one in candidate.found)
    lines = [f"From {', '.join(places)}."]
    names = dict.fromkeys(cell(one.name) for one in candidate.found if one.name != candidate.name)
    if names:
        lines.append(f"Called {', '.join(names)} there.")
    if outcome is None:
        return lines
    if not outcome.started:
        lines.append(f"It did not start, so it is left out: {cell(outcome.why)}")
        lines.append(f"{cell(outcome.fix)} Once it does, take away the marks in front of these lines.".lstrip())
    elif outcome.tools is not None:
        lines.append(f"It started, and offers {outcome.tools} tool{'' if outcome.tools == 1 else 's'}.")
    if outcome.destructive:
        names_text = ", ".join(cell(name) for name in outcome.destructive[:10])
        lines.append(f"May destroy something, by its own word: {names_text}.")
        lines.append("`tools: {deny: [NAME]}` hides a tool and refuses calls to it.")
    return lines


def _block(candidate: Candidate) -> str:
    about: Any = CommentedMap()
    about["mode"] = candidate.mode
    if candidate.mode == "subprocess":
        command = CommentedSeq(word.replace("${", "$${") for word in candidate.command)
        command.fa.set_flow_style()
        about["command"] = command
        if candidate.cwd:
            about["cwd"] = candidate.cwd
        if candidate.env:
            about["env"] = _texts(candidate.env)
    else:
        about["url"] = _quoted(candidate.url)
        if candidate.headers:
            about["headers"] = _texts(candidate.headers)
    yaml: Any = YAML()
    yaml.default_flow_style = False
    yaml.width = 10**6
    yaml.allow_unicode = True
    out = io.StringIO()
    yaml.dump(CommentedMap({candidate.name: about}), out)
    return out.getvalue()


def _texts(rows: Mapping[str, Parts]) -> CommentedMap:
    return CommentedMap({key: _quoted(value) for key, value in rows.items()})


def _quoted(parts: Parts) -> str:
    text = written(parts)
    return DoubleQuotedScalarString(text) if "${" in text else text


def as_written(path: Path) -> dict[str, dict[str, Any]]:
    """The providers of a valid file with their references as they stand."""
    yaml: Any = YAML(typ="safe", pure=True)
    return dict(yaml.load(path.read_text(encoding="utf-8")).get("providers") or {})


def problem_of(candidate: Candidate, folder: Path) -> str:
    """What the configuration's own check says against a candidate; empty if nothing."""
    path = folder / "hangar.yaml"
    path.write_text(render([candidate]))
    try:
        load(path, dict.fromkeys(candidate.names, "x") | {"HOME": str(folder)})
    except ConfigError as error:
        return re.sub(r"\.$", "", error.problems[0].what)
    return ""
