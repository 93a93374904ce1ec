# SPDX-License-Identifier: MIT
"""How a command finds the running Hangar, and what its exit status says.

0: fine. 1: the thing failed (a tool's error, a denial, a provider that cannot start). 2: wrong usage. 3: no running
Hangar.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from mcp_hangar.client import HangarClient

FAILED: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3

Url = Annotated[str, typer.Option("--url", metavar="URL", help="Of the running Hangar; else HANGAR_URL.")]
Pid = Annotated[int, typer.Option("--pid", metavar="PID", min=0, help="Of the running Hangar, where several run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@contextmanager
def reach(url: str, pid: int, as_json: bool = False) -> Iterator[HangarClient]:
    """The client; what it raises becomes a line on stderr (with `--json`: an object on stdout) and an exit status."""
    from mcp_hangar.client import HangarError, Refused

    try:
        with _find(url, pid) as client:
            yield client
    except HangarError as error:
        if as_json and isinstance(error, Refused):
            print(json.dumps(error.problem, indent=2))
        else:
            print(error, file=sys.stderr)
            if isinstance(error, Refused) and error.call_id:
                print(f"See `hangar why {error.call_id}`.", file=sys.stderr)
        raise typer.Exit(_status(error)) from None
    except BrokenPipeError:
        # The reader (`head`, a pager) has enough. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _status(error: Exception) -> int:
    from mcp_hangar.client import Ambiguous, NotRunning

    if isinstance(error, NotRunning):
        return NOT_RUNNING
    return USAGE if isinstance(error, Ambiguous) else FAILED


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
