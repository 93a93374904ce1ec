# SPDX-License-Identifier: MIT
"""A house with its doors open: started, announced, and taken down in order when a signal says so."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from mcp_hangar import __version__
from mcp_hangar.application.ports.subscriber import Subscriber
from mcp_hangar.domain.errors import ConfigError, ConfigProblem
from mcp_hangar.infrastructure.run_directory import RunDirectory
from mcp_hangar.infrastructure.state_file import StateFile
from mcp_hangar.server.asgi import App
from mcp_hangar.server.bootstrap.background import HELD_EVERY, KEEPALIVE_EVERY, every, loops
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config import Settings
from mcp_hangar.server.config.values import parse_address
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.listener import HangarProtocol, HangarServer, bind, bind_unix, make_server
from mcp_hangar.server.mcp_endpoint import McpEndpoint
from mcp_hangar.server.operator_access import CODE_SECONDS, Access
from mcp_hangar.server.operator_plane import OperatorPlane, rest

log = structlog.get_logger(__name__)


async def serve_http(settings: Settings, environment: Mapping[str, str]) -> None:
    """Serve until a signal comes. Raises `ConfigError` if an address or a file cannot be had."""
    told = _heed_signals()
    with bind(settings.server.host, settings.server.port) as listener:
        host, port = listener.getsockname()[:2]
        async with _house(settings, environment) as (house, state, run):
            doors = _doors(settings, host, port)
            access = Access(settings.server.admin_token or state.admin_token, house.log.append)
            operators = rest(house, access)
            apart = settings.server.admin_listen
            endpoint = McpEndpoint(
                methods=house.methods,
                sessions=house.sessions,
                doors=doors,
                token=settings.server.token,
                body_bytes=settings.server.limits.body_bytes,
                depth=settings.server.limits.depth,
                batch=settings.server.limits.batch,
                other=OperatorPlane(house, doors, None if apart else operators),
            )
            serving = []
            if apart:  # first, since it may fail
                serving.append(_operators_apart(settings, house, operators, run))
            else:
                _announce(run, settings, state, url=f"http://{_shown(host)}:{port}")
            serving.append(_serve(settings, endpoint, listener, endpoint))
            beside = [asyncio.create_task(every(KEEPALIVE_EVERY, endpoint.keep_alive), name="keep-alive")]
            _print_welcome(settings, host, port, access)
            await _until_told(settings, house, told, serving, beside)


async def serve_stdio(settings: Settings, environment: Mapping[str, str]) -> None:
    """Serve one client on stdin and stdout until it closes them. The operator plane is a Unix socket."""
    from mcp_hangar.server.mcp_stdio import StdioDoor

    told = _heed_signals()
    # Whatever prints to stdout by mistake must not reach the client: keep the real one, point 1 at stderr.
    stdin, stdout = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    async with _house(settings, environment, stdio=True) as (house, state, run):
        operators = rest(house, Access(settings.server.admin_token or state.admin_token, house.log.append))
        app = OperatorPlane(house, None, operators)
        _announce(run, settings, state, socket=str(run.socket))
        limits = settings.server.limits
        door = StdioDoor(house.methods, body_bytes=limits.body_bytes, depth=limits.depth, batch=limits.batch)
        talking = asyncio.create_task(door.run(stdin, stdout), name="stdio")
        await _until_told(settings, house, told, [_serve(settings, app, bind_unix(run.socket))], [talking])


def _serve(
    settings: Settings, app: App, listener: socket.socket, door: McpEndpoint | None = None
) -> tuple[HangarServer, asyncio.Task[None]]:
    server = make_server(app, settings.server.limits.header_bytes, door)
    return server, asyncio.create_task(server.serve(sockets=[listener]), name="http")


def _operators_apart(
    settings: Settings, house: House, operators: App, run: RunDirectory
) -> tuple[HangarServer, asyncio.Task[None]]:
    """The operator plane on `server.admin_listen`."""
    where = settings.server.admin_listen
    token_file = "" if settings.server.admin_token else str(settings.state_dir / "admin.token")
    if where.startswith("unix:"):
        path = Path(where.removeprefix("unix:"))
        listener = bind_unix(path)
        run.announce(socket=str(path), config=str(settings.file), token_file=token_file, version=__version__)
        return _serve(settings, OperatorPlane(house, None, operators), listener)
    listener = bind(*parse_address(where))
    host, port = listener.getsockname()[:2]
    url = f"http://{_shown(host)}:{port}"
    run.announce(url=url, config=str(settings.file), token_file=token_file, version=__version__)
    return _serve(settings, OperatorPlane(house, _doors(settings, host, port), operators), listener)


def _announce(run: RunDirectory, settings: Settings, state: StateFile, *, url: str = "", socket: str = "") -> None:
    token_file = "" if settings.server.admin_token else str(state.directory / "admin.token")
    run.announce(url=url, socket=socket, config=str(settings.file), token_file=token_file, version=__version__)


def _doors(settings: Settings, host: str, port: int) -> Doors:
    return Doors(
        host=host,
        port=port,
        allowed_hosts=settings.server.allowed_hosts,
        allowed_origins=settings.server.allowed_origins,
    )


async def _until_told(
    settings: Settings,
    house: House,
    told: asyncio.Event,
    serving: list[tuple[HangarServer, asyncio.Task[None]]],
    beside: list[asyncio.Task[None]],
) -> None:
    """Serve until a signal comes (or stdin ends), then finish calls and let go of the listeners."""
    sweeping = asyncio.create_task(every(1.0, HangarProtocol.sweep), name="slow heads")
    stop = asyncio.create_task(told.wait(), name="signals")
    talking = [task for task in beside if task.get_name() == "stdio"]
    try:
        await asyncio.wait({stop, *talking, *(task for _, task in serving)}, return_when=asyncio.FIRST_COMPLETED)
        await house.stop(_grace(settings))
    finally:
        for task in (stop, sweeping, *beside):
            task.cancel()
        for server, _ in serving:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in serving), *beside, sweeping, return_exceptions=True)


@asynccontextmanager
async def _house(
    settings: Settings, environment: Mapping[str, str], stdio: bool = False
) -> AsyncIterator[tuple[House, StateFile, RunDirectory]]:
    async with AsyncExitStack() as opened:  # whatever fails, what was opened before it is closed
        state = StateFile(settings.state_dir)
        opened.push_async_callback(state.close)
        run = _run_directory(settings)
        opened.callback(run.close)
        subscribers = _audit(settings, stdio)
        building = await opened.enter_async_context(AsyncExitStack())
        for subscriber in subscribers:
            building.push_async_callback(subscriber.close)
        house = House(
            settings,
            environment=environment,
            hash_key=settings.audit.hash_key or state.hash_key,
            state=state,
            subscribers=subscribers,
        )
        building.pop_all()  # from here on they are the house's
        opened.push_async_callback(_stop_unless_stopped, house)
        await house.heed_holds()
        running = [*loops(house), asyncio.create_task(every(HELD_EVERY, house.heed_holds), name="held providers")]
        house.announce()
        try:
            yield house, state, run
        finally:
            await _stop_unless_stopped(house)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _stop_unless_stopped(house: House) -> None:
    """For a house whose doors never opened: no call is under way."""
    if not house.proxy.stopping:
        await house.stop(0)


def _run_directory(settings: Settings) -> RunDirectory:
    try:
        return RunDirectory(settings.state_dir)
    except OSError as error:
        problem = ConfigProblem(
            code="path_unusable",
            what=f"The folder {settings.state_dir / 'run'} cannot be used: {error.strerror or error}.",
            fix="Give it to the user that Hangar runs as, or set state.dir to another folder.",
            file=str(settings.file),
        )
        raise ConfigError([problem]) from None


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
            code="path_unusable",
            what=f"The audit file {sink} cannot be opened: {error.strerror or error}.",
            fix="Make its folder writable for the user that runs Hangar, or set audit.sink to another path.",
            file=str(settings.file),
        )
        raise ConfigError([problem]) from None


def _heed_signals() -> asyncio.Event:
    """Set at SIGTERM or SIGINT; from the first moment on, so that what was opened is closed."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked


def _grace(settings: Settings) -> float:
    return max((provider.lifecycle.stop_grace for provider in settings.providers.values()), default=0.0) + 5.0


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _print_welcome(settings: Settings, host: str, port: int, access: Access) -> None:
    """For the person at the terminal; on stderr, since stdout may carry the audit record."""
    url = f"http://{_shown(host)}:{port}/mcp"
    lines = [f"MCP Hangar {__version__} is ready at {url}", ""]
    for provider in settings.providers.values():
        lines.append(f"  {provider.name:<16} {provider.mode.value:<11} {url}/{provider.name}")
    unenforced = {provider.mode.value: provider.unenforced for provider in settings.providers.values()}
    for mode, capabilities in sorted(unenforced.items()):
        lines.append(f"  Nothing confines a {mode} provider's {', '.join(capabilities).replace('_', ' ')}.")
    token = ' --header "Authorization: Bearer …"' if settings.server.token else ""
    lines += [
        "",
        "Connect a client:",
        f"  claude mcp add --transport http hangar {url}{token}",
        f"  npx @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list",
        "",
        "See what it does (in another terminal):",
        "  hangar status        hangar tools        hangar call PROVIDER TOOL --arg key=value",
        f"  the record: {settings.audit.sink}; {_docs(settings, url, access)}",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _docs(settings: Settings, url: str, access: Access) -> str:
    """A link that opens the REST docs in a browser once; never the token, since terminals and logs are read."""
    apart = settings.server.admin_listen
    if apart.startswith("unix:") or apart.endswith(":0"):
        return f"REST at {apart}"
    base = f"http://{apart}" if apart else url.removesuffix("/mcp")
    minutes = round(CODE_SECONDS / 60)
    return f"REST: {base}/api/v1/docs?code={access.new_code().code} (opens once, within {minutes} minutes)"
