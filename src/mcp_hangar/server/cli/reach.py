# SPDX-License-Identifier: MIT
"""How a command finds the running Hangar."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcp_hangar.server.cli.failing import telling

if TYPE_CHECKING:
    from mcp_hangar.client import HangarClient

Url = Annotated[str, typer.Option("--url", metavar="URL", help="Of the running Hangar; else HANGAR_URL.")]
Pid = Annotated[int, typer.Option("--pid", metavar="PID", min=0, help="Of the running Hangar, where several run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@contextmanager
def reach(url: str, pid: int, as_json: bool = False) -> Iterator[HangarClient]:
    """The client; what it raises is told."""
    with telling(as_json), _find(url, pid) as client:
        yield client


def _find(url: str, pid: int) -> HangarClient:
    """With the configuration's `state.dir` and `admin_token`, if the usual folder has no answer."""
    from mcp_hangar.client import Ambiguous, HangarClient, HangarError

    try:
        client = HangarClient.find(url=url, pid=pid)
    except Ambiguous:
        raise
    except HangarError:
        if os.environ.get("HANGAR_STATE_DIR"):
            raise
        state_dir, token = configured()
        if not state_dir:
            raise
        return HangarClient.find(url=url, pid=pid, state_dir=state_dir, token=token)
    if not client.address.token_file and client.address.config and "HANGAR_ADMIN_TOKEN" not in os.environ:
        # It was given in the configuration, so no file of the state has it.
        _, token = configured(client.address.config)
        if token:
            client.close()
            return HangarClient(client.address, token)
    return client


def configured(file: str = "") -> tuple[str, str]:
    """`state.dir` and `server.admin_token` of the configuration; empty if there is none that can be read."""
    from mcp_hangar.domain.errors import ConfigError
    from mcp_hangar.server.config import find_config, load

    try:
        path = Path(file) if file else find_config(None, os.environ, Path.cwd(), Path.home())
        settings = load(path, os.environ, unsafe_no_auth=True)
    except ConfigError:
        return "", ""
    return str(settings.state_dir), settings.server.admin_token
