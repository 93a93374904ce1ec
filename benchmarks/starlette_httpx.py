# SPDX-License-Identifier: MIT
"""A peer: the proxy that everybody writes first, with Starlette and one shared httpx client. It governs nothing.

python benchmarks/starlette_httpx.py LISTEN_PORT UPSTREAM_PORT
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

NOT_FORWARDED = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}


def main() -> None:
    listen, upstream = (int(argument) for argument in sys.argv[1:3])
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=128)
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{upstream}", limits=limits, timeout=60)

    async def forward(request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in NOT_FORWARDED]
        answer = await client.request(request.method, request.url.path, content=await request.body(), headers=headers)
        kept = {name: value for name, value in answer.headers.items() if name not in NOT_FORWARDED}
        return Response(answer.content, answer.status_code, kept)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    route = Route("/{path:path}", forward, methods=["GET", "POST", "DELETE"])
    uvicorn.run(
        Starlette(routes=[route], lifespan=lifespan),
        host="127.0.0.1",
        port=listen,
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
