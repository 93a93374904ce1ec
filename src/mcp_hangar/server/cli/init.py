# SPDX-License-Identifier: MIT
"""`hangar init`: from the MCP servers that this machine's clients have to a hangar.yaml, and Hangar into the clients.

What it may be told is here, and the order of things; all the rest is `onboarding/`.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mcp_hangar.domain.errors import HangarError
from mcp_hangar.server.cli.failing import telling
from mcp_hangar.server.cli.output import print_json, safe, tell
from mcp_hangar.server.cli.reach import AsJson


class ClientName(StrEnum):
    claude_desktop = "claude-desktop"
    claude_code = "claude-code"
    cursor = "cursor"
    vscode = "vscode"


def init(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The file to write.")] = Path(
        "hangar.yaml"
    ),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take all that is found, and ask nothing.")] = False,
    no_try: Annotated[bool, typer.Option("--no-try", help="Do not start the servers to see whether they do.")] = False,
    try_for: Annotated[
        int, typer.Option("--try-for", metavar="SECONDS", min=1, max=600, help="How long one may take to start.")
    ] = 60,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="Copy the secrets that clients have into this file (readable by you alone), for `hangar serve`.",
        ),
    ] = None,
    connect: Annotated[
        list[ClientName] | None,
        typer.Option(
            "--connect",
            metavar="CLIENT",
            help="Put Hangar into the configuration of this client, in place of the servers it took over: "
            "claude-desktop, claude-code, cursor or vscode.",
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put every client's configuration back as it was before --connect.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite the file; with --undo, restore every byte though it was changed since."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a hangar.yaml with the MCP servers that Claude, Cursor and VS Code have on this machine."""
    with telling(as_json):
        if undo:
            _undo(force, as_json)
            return
        from mcp_hangar.server.cli.onboarding.report import Report

        report = Report(config=config, as_json=as_json)
        fresh = force or not config.exists()
        if not fresh and not connect:
            raise HangarError("config_exists", path=config)
        report.look()
        if fresh:
            report.choose(yes)
            report.try_them(None if no_try else try_for)
            report.write(env_file)
            if env_file is not None and not env_file.exists():
                env_file = None  # no client had a secret, so there is no such file to name
        if connect:
            report.connect([one.value for one in connect], env_file)
        report.tell(fresh, env_file)


def _undo(force: bool, as_json: bool) -> None:
    from mcp_hangar.server.cli.onboarding import clients, connect

    done = connect.undo(clients.places(Path.home(), Path.cwd(), os.environ), force=force)
    if not done:
        raise HangarError("nothing_to_undo")
    if as_json:
        print_json({"restored": [{"path": str(one.path), "whole": one.whole} for one in done]})
        return
    for one in done:
        if one.whole:
            tell(f"{safe(one.path)} is as it was before Hangar.")
        else:
            tell(f"{safe(one.path)} was changed since: Hangar's entry is out, and the servers are back in.")
