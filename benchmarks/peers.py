# SPDX-License-Identifier: MIT
"""The peers: what else one could put before the same upstream, each as its makers ship it unless its name says more."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks import environments
from benchmarks.measure import ROOT, TargetFailed
from benchmarks.shapes import Door, Shape
from benchmarks.targets import Running, Start, Upstream, await_answer, free_port, last_words, process

BOOT_PATIENCE: Final = 240.0
"""ContextForge migrates its database first."""

_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn; {user}
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_body_buffer_size 128k; client_max_body_size 8m; proxy_buffer_size 128k; proxy_buffers 4 128k;
  proxy_busy_buffers_size 256k;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
"""One worker, connections kept on both sides, and buffers that hold every body: it would spill them to disk else."""


@contextlib.contextmanager
def nginx(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, upstream=upstream.port, port=port, user=user))
    log = folder / "nginx.log"
    command = [str(environments.nginx()), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    with process(command, log) as started:
        running = Running(started.pid, Door(port=port))
        await_answer(running, shape, started, log)
        yield running


@contextlib.contextmanager
def starlette_httpx(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    port = free_port()
    log = folder / "starlette.log"
    python = environments.binaries("starlette-httpx") / "python"
    with process([str(python), str(ROOT / "benchmarks/starlette_httpx.py"), str(port), str(upstream.port)], log) as it:
        running = Running(it.pid, Door(port=port))
        await_answer(running, shape, it, log)
        yield running


@contextlib.contextmanager
def fastmcp(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    """The proxy that `fastmcp run URL` is."""
    port = free_port()
    log = folder / "fastmcp.log"
    options = f"--transport http --host 127.0.0.1 --port {port} --no-banner -l ERROR --skip-env --stateless"
    program = environments.binaries("fastmcp") / "fastmcp"
    with process([str(program), "run", upstream.url, *options.split()], log, cwd=folder) as started:
        running = Running(started.pid, Door(port=port))
        await_answer(running, shape, started, log)
        yield running


@contextlib.contextmanager
def earlier_hangar(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    """mcp-hangar 2.34.4, its limits aside as shipped. A provider's tool is called through its `hangar_call`."""
    port = free_port()
    log = folder / "earlier.log"
    config = folder / "config.yaml"
    limits = {"rps": 10_000, "burst": 10_000}
    servers = {"up": {"mode": "remote", "endpoint": upstream.url}}
    config.write_text(json.dumps({"mcp_servers": servers, "rate_limit": {**limits, "per_caller": limits}}))
    program = environments.binaries("earlier-hangar") / "mcp-hangar"
    options = ["serve", "--http", "--port", str(port), "--log-level", "ERROR", "--config", str(config)]
    with process([str(program), *options], log, cwd=folder) as started:
        call = '{"calls":[{"mcp_server":"up","tool":"echo","arguments":{"text":"%s"}}]}'
        running = Running(started.pid, Door(port=port, tool="hangar_call", arguments=call))
        await_answer(running, shape, started, log)
        yield running


# ContextForge


def _forge_environment(folder: Path) -> dict[str, str]:
    """What it does not start without, its limiter off (it would refuse the load), and loopback upstreams allowed."""
    password = "Bench-Pass-1234!x"
    return {
        "JWT_SECRET_KEY": secrets.token_hex(32),
        "AUTH_ENCRYPTION_SECRET": secrets.token_hex(32),
        "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLATFORM_ADMIN_PASSWORD": password,
        "DEFAULT_USER_PASSWORD": password,
        "BASIC_AUTH_PASSWORD": password,
        "DATABASE_URL": f"sqlite:///{folder}/mcp.db",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "RATE_LIMITING_ENABLED": "false",
        "LOG_LEVEL": "ERROR",
    }


_LEAN: Final = {
    "CACHE_TYPE": "memory",
    "DB_METRICS_RECORDING_ENABLED": "false",
    "MCPGATEWAY_A2A_ENABLED": "false",
    "MCPGATEWAY_CATALOG_ENABLED": "false",
    "MCPGATEWAY_UI_ENABLED": "false",
    "METRICS_BUFFER_ENABLED": "true",
    "OBSERVABILITY_ENABLED": "false",
    "PLUGINS_ENABLED": "false",
    "TOKEN_USAGE_LOGGING_ENABLED": "false",
    "USE_STATEFUL_SESSIONS": "true",
}
"""The best we found: upstream sessions kept, fewer writes to its database, whatever can be off is off."""


@contextlib.contextmanager
def _forge(shape: Shape, upstream: Upstream, folder: Path, settings: dict[str, str]) -> Iterator[Running]:
    binaries = environments.binaries("contextforge")
    environment = {**_forge_environment(folder), **settings}
    port = free_port()
    log = folder / "contextforge.log"
    serve = [str(binaries / "mcpgateway"), "mcpgateway.main:app", "--host", "127.0.0.1", "--port", str(port)]
    with process([*serve, "--no-access-log"], log, cwd=folder, env=environment) as started:
        _await_health(port, started, log)
        token = _forge_token(binaries, environment, folder)
        server = _forge_server(port, token, upstream)
        running = Running(started.pid, Door(port=port, path=f"/servers/{server}/mcp", tool="up-echo", token=token))
        await_answer(running, shape, started, log)
        yield running


@contextlib.contextmanager
def contextforge(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    with _forge(shape, upstream, folder, {}) as running:
        yield running


@contextlib.contextmanager
def contextforge_lean(shape: Shape, upstream: Upstream, folder: Path) -> Iterator[Running]:
    with _forge(shape, upstream, folder, _LEAN) as running:
        yield running


def _await_health(port: int, started: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + BOOT_PATIENCE
    while time.monotonic() < end:
        if started.poll() is not None:
            raise TargetFailed(f"it ended with {started.returncode}: {last_words(log)}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _ask(port, "GET", "/health", "")[0] == 200:
                return
        time.sleep(0.5)
    raise TargetFailed(f"it was not healthy within {BOOT_PATIENCE:.0f} s: {last_words(log)}")


def _ask(port: int, verb: str, path: str, token: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request(verb, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _forge_token(binaries: Path, environment: dict[str, str], folder: Path) -> str:
    command = [
        *(str(binaries / "python"), "-m", "mcpgateway.utils.create_jwt_token", "--username", "admin@example.com"),
        *("--exp", "10080", "--secret", environment["JWT_SECRET_KEY"], "--algo", "HS256", "--admin"),
    ]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TargetFailed(f"no token: {done.stderr.strip()[-300:]}")
    return done.stdout.strip().splitlines()[-1]


def _forge_server(port: int, token: str, upstream: Upstream) -> str:
    """A virtual server with the upstream's tools; returns its id."""

    def asked(verb: str, path: str, body: object = None) -> Any:
        status, said = _ask(port, verb, path, token, body)
        if status >= 300:
            raise TargetFailed(f"{verb} {path} was answered with {status}: {said[:300]!r}")
        return json.loads(said)

    asked("POST", "/gateways", {"name": "up", "url": upstream.url, "transport": "STREAMABLEHTTP"})
    tools = [tool["id"] for tool in asked("GET", "/tools")]
    server: str = asked("POST", "/servers", {"server": {"name": "bench", "associated_tools": tools}})["id"]
    return server


PEERS: Final[dict[str, Start]] = {
    "nginx": nginx,
    "starlette+httpx": starlette_httpx,
    "fastmcp": fastmcp,
    "contextforge": contextforge,
    "contextforge-lean": contextforge_lean,
    "earlier-hangar": earlier_hangar,
}
SLOW: Final = frozenset({"fastmcp", "contextforge", "contextforge-lean", "earlier-hangar"})
"""Milliseconds per call, and seconds to start: they stand in a stage of their own, with fewer shapes."""
