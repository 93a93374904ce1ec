# SPDX-License-Identifier: MIT
"""The command `hangar`: one file per command, each imported only when it is the one asked for."""

from __future__ import annotations

import typer

from mcp_hangar.server.cli import config
from mcp_hangar.server.cli.serve import serve

app = typer.Typer(name="hangar", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.command()(serve)
app.add_typer(config.app, name="config")


def main() -> None:
    app()
