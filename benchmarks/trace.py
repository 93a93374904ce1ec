# SPDX-License-Identifier: MIT
"""`python -m benchmarks.trace`: what one warm call executes, function by function, with each one's share.

A whole house runs in this process, in front of the same upstream as everywhere; the profiler charges what a function of
ours does in C (decoding, formatting, writing to a socket) to that function. Profiling makes short functions look dearer
than they are: read the order and the rough share, and take the cost itself from `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

import mcp_hangar
from benchmarks import shapes, targets
from benchmarks.shapes import Door, Shape
from mcp_hangar.server.bootstrap.background import loops
from mcp_hangar.server.bootstrap.wiring import House
from mcp_hangar.server.config import load
from mcp_hangar.server.doors import Doors
from mcp_hangar.server.listener import bind, make_server
from mcp_hangar.server.mcp_endpoint import McpEndpoint

CALLS: Final = 20_000
SOURCE: Final = str(Path(mcp_hangar.__file__).parent) + "/"
LEAST: Final = 0.005
"""A smaller share is summed up."""


class Row(NamedTuple):
    where: str
    per_call: float
    share: float


def shares(stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]], calls: int) -> list[Row]:
    """The functions of ours by their own time, of all time that ours took; pure."""
    own: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for (file, _, name), (_, count, seconds, _, _) in stats.items():
        if file.startswith(SOURCE):
            where = f"{file.removeprefix(SOURCE)} {name}"
            own[where] = own[where][0] + count, own[where][1] + seconds
    total = sum(seconds for _, seconds in own.values())
    rows = [Row(where, count / calls, seconds / total) for where, (count, seconds) in own.items()]
    kept = sorted((row for row in rows if row.share >= LEAST), key=lambda row: -row.share)
    rest = [row for row in rows if row.share < LEAST]
    return [*kept, Row(f"{len(rest)} others", sum(row.per_call for row in rest), sum(row.share for row in rest))]


def table(rows: list[Row]) -> str:
    lines = [f"| `{row.where}` | {row.per_call:.2f} | {row.share:.1%} |" for row in rows]
    return "\n".join(["| function | entered per call | share |", "|---|---|---|", *lines])


async def traced(shape: Shape, upstream: targets.Upstream, folder: Path) -> list[Row]:
    config = targets.hangar_config(folder, 8000, {"up": targets.provider_settings(shape, upstream)})
    settings = load(config, {})
    house = House(settings, environment={}, hash_key=b"k" * 32, state=None, subscribers=[])
    running = list(loops(house))
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        limits = settings.server.limits
        endpoint = McpEndpoint(
            methods=house.methods,
            sessions=house.sessions,
            doors=Doors(host="127.0.0.1", port=port, allowed_hosts=(), allowed_origins=()),
            token=settings.server.token,
            body_bytes=limits.body_bytes,
            depth=limits.depth,
            batch=limits.batch,
            other=_nothing,
        )
        front = make_server(endpoint, limits.header_bytes, endpoint)
        serving = asyncio.create_task(front.serve(sockets=[listener]), name="http")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        door = Door(port=port, tool="up__echo", token=targets.TOKEN)
        session = await asyncio.to_thread(targets.open_session, door) if shape.era == "legacy" else ""
        before, after = shapes.call_bytes(shape, door, session)
        request = b"%b%d%b" % (before, shapes.FIRST_ID, after)
        profile = cProfile.Profile(time.thread_time, builtins=False)  # of CPU: waiting is nobody's
        try:
            await _ask(reader, writer, request, 100)
            profile.enable()
            await _ask(reader, writer, request, CALLS)
            profile.disable()
        finally:
            writer.close()
            await house.stop(1)
            front.should_exit = True
            for task in running:
                task.cancel()
            await asyncio.gather(serving, *running, return_exceptions=True)
    return shares(pstats.Stats(profile).stats, CALLS)  # type: ignore[attr-defined]  # typeshed leaves it out


async def _nothing(*_: object) -> None:
    raise AssertionError("not MCP")


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__.split("\n")[0])
    options.add_argument("--era", choices=["modern", "legacy"], default="modern")
    shape = Shape(era=options.parse_args().era)
    with tempfile.TemporaryDirectory(prefix="hangar-bench-") as name, targets.upstream(shape, Path(name)) as upstream:
        rows = uvloop.run(traced(shape, upstream, Path(name)))
    sys.stdout.write(f"{shape.name}; {CALLS:,} calls\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
