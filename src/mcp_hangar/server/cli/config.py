# SPDX-License-Identifier: MIT
"""`hangar config check | schema | show`: is the file right, what may it say, what is in effect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcp_hangar.server.cli.environment import EnvFile, environment
from mcp_hangar.server.cli.failing import telling
from mcp_hangar.server.cli.output import print_json
from mcp_hangar.server.cli.reach import AsJson
from mcp_hangar.server.config import Settings, find_config, json_schema, load
from mcp_hangar.server.config import show as rendered

app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The file; else HANGAR_CONFIG, ./hangar.yaml, ~/.config/hangar/."
    ),
]
UnsafeOption = Annotated[
    bool,
    typer.Option("--unsafe-no-auth", help="Accept a listener off loopback without a token, as `hangar serve` would."),
]


@app.command()
def check(
    config: ConfigOption = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
    unsafe_no_auth: UnsafeOption = False,
) -> None:
    """Check the configuration whole; tell every problem with its place and a fix."""
    settings = _settings(config, env_file=env_file, as_json=as_json, unsafe_no_auth=unsafe_no_auth)
    if as_json:
        print_json({"ok": True, "file": str(settings.file), "digest": settings.digest, "problems": []})
        return
    count = len(settings.providers)
    print(f"{settings.file}: fine, {count} provider{'' if count == 1 else 's'}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of hangar.yaml, for editors."""
    print_json(json_schema())


@app.command()
def show(
    config: ConfigOption = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
    unsafe_no_auth: UnsafeOption = False,
) -> None:
    """Print the effective configuration: defaults filled in, secrets masked."""
    settings = _settings(config, env_file=env_file, as_json=as_json, unsafe_no_auth=unsafe_no_auth)
    if as_json:
        print_json(dict(settings.shown))
    else:
        print(rendered(settings), end="")


def _settings(config: str | None, *, env_file: Path | None, as_json: bool, unsafe_no_auth: bool) -> Settings:
    with telling(as_json):
        variables = environment(env_file)
        path = find_config(config, variables, Path.cwd(), Path.home())
        return load(path, variables, unsafe_no_auth=unsafe_no_auth)
