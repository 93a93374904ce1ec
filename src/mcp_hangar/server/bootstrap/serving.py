# SPDX-License-Identifier: MIT
"""A house with its doors open: started, announced, and taken down in order when a signal says so."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from mcp_hangar.application.ports.subscriber import Subscriber
from mcp_hangar.domain.errors import ConfigError, ConfigProblem
from mcp_hangar.server.bootstrap.background import KEEPALIVE_EVERY, every, loops
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config import Settings
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.listener import HangarProtocol, bind, make_server
from mcp_hangar.server.mcp_endpoint import McpEndpoint
from mcp_hangar.server.operator_plane import OperatorPlane

log = structlog.get_logger(__name__)


async def serve_http(settings: Settings, environment: Mapping[str, str]) -> None:
    listener = bind(settings.server.host, settings.server.port)
    host, port = listener.getsockname()[:2]
    async with _house(settings, environment) as house:
        doors = Doors(
            host=host,
            port=port,
            allowed_hosts=settings.server.allowed_hosts,
            allowed_origins=settings.server.allowed_origins,
            header_bytes=settings.server.limits.header_bytes,
        )
        endpoint = McpEndpoint(
            methods=house.methods,
            sessions=house.sessions,
            doors=doors,
            token=settings.server.token,
            body_bytes=settings.server.limits.body_bytes,
            depth=settings.server.limits.depth,
            other=OperatorPlane(house, doors),
        )
        server = make_server(endpoint, settings.server.limits.header_bytes)
        beside = [
            asyncio.create_task(every(KEEPALIVE_EVERY, endpoint.keep_alive), name="keep-alive"),
            asyncio.create_task(every(1.0, HangarProtocol.sweep), name="slow heads"),
        ]
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        _print_welcome(settings, host, port)
        try:
            stop = asyncio.create_task(_signalled(), name="signals")
            await asyncio.wait({stop, serving}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            await house.stop(_grace(settings))
        finally:
            for task in beside:
                task.cancel()
            server.should_exit = True
            await serving


async def serve_stdio(settings: Settings, environment: Mapping[str, str]) -> None:
    from mcp_hangar.server.mcp_stdio import StdioDoor

    # Whatever prints to stdout by mistake must not reach the client: keep the real one, point 1 at stderr.
    stdin, stdout = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    async with _house(settings, environment, stdio=True) as house:
        limits = settings.server.limits
        door = StdioDoor(house.methods, body_bytes=limits.body_bytes, depth=limits.depth)
        serving = asyncio.create_task(door.run(stdin, stdout), name="stdio")
        stop = asyncio.create_task(_signalled(), name="signals")
        await asyncio.wait({stop, serving}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await house.stop(_grace(settings))


@asynccontextmanager
async def _house(settings: Settings, environment: Mapping[str, str], stdio: bool = False) -> AsyncIterator[House]:
    house = House(
        settings,
        environment=environment,
        hash_key=settings.audit.hash_key or os.urandom(32),
        cache=None,
        subscribers=_audit(settings, stdio),
    )
    running = list(loops(house))
    house.announce()
    try:
        yield house
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _audit(settings: Settings, stdio: bool) -> list[Subscriber]:
    """The audit sink; on stdio stdout is the client's, so the record goes to stderr instead."""
    sink = settings.audit.sink
    if sink == "none":
        return []
    if stdio and sink == "stdout":
        sink = "stderr"
    from mcp_hangar.infrastructure.audit_file import AuditFile

    try:
        return [AuditFile(sink, rotate_bytes=settings.audit.rotate_bytes, rotate_keep=settings.audit.rotate_keep)]
    except OSError as error:
        problem = ConfigProblem(
            what=f"The audit file {sink} cannot be opened: {error.strerror or error}.",
            fix="Make its folder writable for the user that runs Hangar, or set audit.sink to another path.",
            file=str(settings.file),
        )
        raise ConfigError([problem]) from None


async def _signalled() -> None:
    """Returns at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def _grace(settings: Settings) -> float:
    return max((provider.lifecycle.stop_grace for provider in settings.providers.values()), default=0.0) + 5.0


def _print_welcome(settings: Settings, host: str, port: int) -> None:
    """For the person at the terminal; on stderr, since stdout may carry the audit record."""
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}/mcp"
    out = sys.stderr
    print(f"MCP Hangar is ready at {url}", file=out)
    for provider in settings.providers.values():
        print(f"  {provider.name:<20} {provider.mode.value:<12} {url}/{provider.name}", file=out)
    print("Connect a client:", file=out)
    print(f"  claude mcp add --transport http hangar {url}", file=out)
    print(f"  npx @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list", file=out)
    out.flush()
