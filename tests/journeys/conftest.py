# SPDX-License-Identifier: MIT
"""The whole house, strangers in it: each journey has a Hangar of its own, or shares one that it does not change."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Node, RealServers, make_repository
from tests.house import House, house, remote_provider, subprocess_provider
from tests.processes import free_port, plain_environment, running

PAGE = "<html><body><article><h1>A page</h1><p>The hangar is open.</p></article></body></html>"


class OnePage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGE.encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr belongs to the test."""


@pytest.fixture(scope="session")
def page() -> Iterator[str]:
    """The URL of a page on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OnePage)
    thread = threading.Thread(target=server.serve_forever, name="one page")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/page.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Full:
    """A Hangar with all the strangers behind it."""

    house: House
    repository: Path
    folder_a: Path
    folder_b: Path


@pytest.fixture(scope="module")
def full(node: Node, real_servers: RealServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    folder = tmp_path_factory.mktemp("full")
    repository = make_repository(folder)
    folder_a, folder_b = folder / "files-a", folder / "files-b"
    for place in (folder_a, folder_b):
        place.mkdir()
        (place / "only.txt").write_text(f"I am in {place.name}\n")
    everything = node.package("mcp-server-everything")
    files = node.package("mcp-server-filesystem")
    http_port, sse_port = free_port(), free_port()
    with (
        running(
            [*everything, "streamableHttp"], folder / "http.log", env=plain_environment(PORT=str(http_port))
        ) as one,
        running([*everything, "sse"], folder / "sse.log", env=plain_environment(PORT=str(sse_port))) as two,
    ):
        one.wait_for_port(http_port)
        two.wait_for_port(sse_port)
        providers = {
            "time": subprocess_provider([real_servers.time]),
            "git": subprocess_provider([real_servers.git, "--repository", repository]),
            "fetch": subprocess_provider([real_servers.fetch, "--ignore-robots-txt", "--allow-private-ips"]),
            "everything": subprocess_provider([*everything, "stdio"]),
            "everything-http": remote_provider(f"http://127.0.0.1:{http_port}/mcp"),
            "everything-sse": remote_provider(f"http://127.0.0.1:{sse_port}/sse"),
            "files-a": subprocess_provider([*files, folder_a]),
            "files-b": subprocess_provider([*files, folder_b]),
        }
        with house(folder, providers, defaults={"lifecycle": {"start_timeout": "60s"}}) as open_house:
            yield Full(open_house, repository, folder_a, folder_b)


def shell(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """A command line to its end, with its output as text."""
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)
