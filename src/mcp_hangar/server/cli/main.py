# SPDX-License-Identifier: MIT
"""The command `hangar`: one file per command. What a command needs is imported when it is the one that runs, so that
`hangar --help` answers at once."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mcp_hangar import __version__
from mcp_hangar.domain.errors import REFERENCE
from mcp_hangar.domain.operator_codes import USAGE
from mcp_hangar.server.cli.call import call
from mcp_hangar.server.cli.calls import calls
from mcp_hangar.server.cli.init import init
from mcp_hangar.server.cli.logs import logs
from mcp_hangar.server.cli.providers import start, stop
from mcp_hangar.server.cli.serve import serve
from mcp_hangar.server.cli.status import status
from mcp_hangar.server.cli.tools import tools
from mcp_hangar.server.cli.why import why

_CONFIG_HELP = "Check and show the configuration."


def build(arguments: list[str]) -> typer.Typer:
    """The command line. The checks of the configuration are heavy: they are only there when they are asked for."""
    app = typer.Typer(
        name="hangar",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Run MCP servers behind one governed endpoint.",
    )
    app.callback()(_hangar)
    for command in (init, serve, status, tools, call, calls, why, logs, start, stop):
        app.command()(command)
    if "config" in arguments or "_HANGAR_COMPLETE" in os.environ:
        from mcp_hangar.server.cli import config

        app.add_typer(config.app, name="config")
    else:
        app.add_typer(typer.Typer(help=_CONFIG_HELP), name="config")
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mcp-hangar {__version__}")
        raise typer.Exit


def _hangar(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run MCP servers behind one governed endpoint."""


def main() -> None:
    try:
        build(sys.argv[1:])()
    except SystemExit as end:
        # What a command tells itself ends in `typer.Exit`; the rest is the parser's, which knows no codes of ours.
        if end.code == USAGE and len(sys.argv) > 1 and not isinstance(end.__context__, typer.Exit):
            print(f"See {REFERENCE}#usage", file=sys.stderr)
        raise
