# SPDX-License-Identifier: MIT
"""`hangar start | stop PROVIDER`: hold a provider, and let it go again. Hangar itself stops on SIGTERM."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_hangar.server.cli.completing import PROVIDERS
from mcp_hangar.server.cli.output import print_json, waiting
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach

Name = Annotated[str, typer.Argument(help="The provider's name.", autocompletion=PROVIDERS)]


def start(provider: Name, url: Url = "", pid: Pid = 0, as_json: AsJson = False) -> None:
    """Let a stopped provider be started by the next call; forget earlier failures."""
    with reach(url, pid, as_json) as hangar:
        row = hangar.start(provider)
        if as_json:
            print_json(row)
        else:
            print(f"Provider {row['name']} starts with the next call.")


def stop(provider: Name, url: Url = "", pid: Pid = 0, as_json: AsJson = False) -> None:
    """Finish a provider's calls, end its processes, and keep it stopped until `hangar start`."""
    with reach(url, pid, as_json) as hangar:
        with waiting(f"Stopping {provider}: its calls are being finished"):
            row = hangar.stop(provider)
        if as_json:
            print_json(row)
        else:
            name = row["name"]
            print(f"Provider {name} is stopped, also after a restart of Hangar, until `hangar start {name}`.")
