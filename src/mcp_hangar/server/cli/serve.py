# SPDX-License-Identifier: MIT
"""`hangar serve`: read the configuration, build the house, open the doors, stay until told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mcp_hangar.server.cli.environment import EnvFile, environment
from mcp_hangar.server.cli.failing import telling


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration file; else HANGAR_CONFIG, ./hangar.yaml, ~/.config/hangar/.",
        ),
    ] = None,
    env_file: EnvFile = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Speak MCP on stdin and stdout instead of HTTP.")] = False,
    unsafe_no_auth: Annotated[
        bool,
        typer.Option(
            "--unsafe-no-auth", help="Listen beyond loopback without a token. Anyone who reaches it may call."
        ),
    ] = False,
    log_level: Annotated[
        str | None,
        typer.Option(
            "--log-level", metavar="LEVEL", help="debug, info, warning or error; else HANGAR_LOG_LEVEL, else info."
        ),
    ] = None,
) -> None:
    """Start Hangar and serve the configured providers."""
    from mcp_hangar.server.bootstrap.logs import chosen_level, configure_logs
    from mcp_hangar.server.bootstrap.serving import serve_http, serve_stdio
    from mcp_hangar.server.config import find_config, load

    with telling():
        variables = environment(env_file)
        level = chosen_level(log_level, variables)
        configure_logs(level)
        path = find_config(str(config) if config else None, variables, Path.cwd(), Path.home())
        settings = load(path, variables, unsafe_no_auth=unsafe_no_auth)
        configure_logs(level, settings.secrets)
        run = serve_stdio if stdio else serve_http
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(settings, variables))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform
        return None
    return uvloop.Loop
