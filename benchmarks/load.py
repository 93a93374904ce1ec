# SPDX-License-Identifier: MIT
"""The load: a process that makes calls in a closed loop, checks every answer, and tells how long each took.

It is started with a `Job` on its first line of stdin and lives for many windows, so that connections are made once.
Each line is answered with one line:

    {"connect": true}    every connection is there; the first time, each makes a call  {"connected": 16}
    {"seconds": 1.5}     calls for so long; those under way at the end are awaited     a `Result`
    {"calls": 500}       so many calls                                                 a `Result`

What goes wrong (a status, an id that was not asked for, a tool error, a connection lost) ends it with `{"error": …}`: a
window with a wrong answer in it is no measurement.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Final, cast

import msgspec
import uvloop

STALE_NS: Final = 1_000_000_000
"""A connection that rested for longer is replaced: servers close theirs after a few seconds, perhaps just now."""
PATIENCE: Final = 60.0
"""For what is under way at the end of a round; the slowest target answers a full house in a few seconds."""


class Job(msgspec.Struct, kw_only=True):
    """Whom to call, and the two parts of the request that stand around the id."""

    before: bytes
    after: bytes
    first_id: int
    in_flight: int
    port: int = 0
    command: list[str] = []
    """A stdio provider to start and to speak with, instead of a port."""
    proof: bytes = b""
    """What every answer must contain."""


class Result(msgspec.Struct, kw_only=True):
    calls: int
    seconds: float
    p50_us: float
    p99_us: float


class Answered(msgspec.Struct):
    id: int | None = None
    result: dict[str, msgspec.Raw] | None = None


class Wrong(Exception):
    """An answer that is not the one asked for."""


_answered: Final = msgspec.json.Decoder(Answered)


def check(message: bytes, expected: int, proof: bytes) -> None:
    try:
        answer = _answered.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Wrong(f"not a JSON-RPC answer ({error}): {message[:300]!r}") from None
    result = answer.result
    if (
        answer.id != expected
        or result is None
        or bytes(result.get("isError", b"false")) != b"false"
        or proof not in message
    ):
        raise Wrong(f"asked with id {expected}, got {message[:300]!r}")


def message_of(body: bytes, events: bool) -> bytes:
    """The JSON in a body: all of it, or the last event's data."""
    if not events:
        return body
    return body[body.rfind(b"data: ") + 6 :].split(b"\n", 1)[0].rstrip()


class Framing(msgspec.Struct):
    """What a head says about the body that follows."""

    length: int | None
    events: bool


class Heads(dict[bytes, Framing]):
    """Read once, known by their exact bytes; they change with every second where a date is sent."""

    def __missing__(self, head: bytes) -> Framing:
        if len(self) > 100:
            self.clear()
        framing = framing_of(head)
        self[head] = framing
        return framing


def framing_of(head: bytes) -> Framing:
    first, *lines = head.split(b"\r\n")
    if first.split(b" ")[1:2] != [b"200"]:
        raise Wrong(f"the answer is {head[:500]!r}")
    found = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)}
    length = found.get(b"content-length")
    if length is None and found.get(b"transfer-encoding") != b"chunked":
        raise Wrong(f"an answer without a length: {head[:500]!r}")
    return Framing(int(length) if length else None, found.get(b"content-type", b"").startswith(b"text/event-stream"))


def unchunked(data: bytes) -> bytes | None:
    """The body, once its last chunk has come."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2
        if size == 0:
            return b"".join(parts) if data.find(b"\r\n", at) >= 0 else None
        if len(data) < at + size + 2:
            return None
        parts.append(data[at : at + size])
        at += size + 2


class Round:
    """One window, or the checked calls before it: hands out ids, gathers times, knows when it is over."""

    def __init__(self, numbers: Callable[[], int], seconds: float, calls: int) -> None:
        self.next_id = numbers
        self.times: list[int] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = calls
        self._under_way = 0
        self.began = perf_counter_ns()
        self._end = self.began + int(seconds * 1e9) if seconds else 0

    def more(self) -> bool:
        """Whether to make one more call; it counts as made."""
        if perf_counter_ns() >= self._end if self._end else self._left <= 0:
            return False
        self._left -= 1
        self._under_way += 1
        return True

    def answered(self, began: int) -> None:
        self.times.append(perf_counter_ns() - began)
        self._under_way -= 1

    def rest(self) -> None:
        if not self._under_way and not self.over.done():
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)

    def result(self) -> Result:
        times = sorted(self.times)
        return Result(
            calls=len(times),
            seconds=(perf_counter_ns() - self.began) / 1e9,
            p50_us=percentile(times, 50) / 1000,
            p99_us=percentile(times, 99) / 1000,
        )


def percentile(ordered: list[int], percent: int) -> int:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] if ordered else 0


class HttpCaller(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self, job: Job, heads: Heads) -> None:
        self._job = job
        self._heads = heads
        self._buffer = bytearray()
        self._needed = 0
        self._round: Round | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def start(self, round_: Round) -> None:
        self._round = round_
        self._call(round_)

    def _call(self, round_: Round) -> None:
        if not round_.more():
            self._round = None
            round_.rest()
            return
        self._number = round_.next_id()
        request = b"%b%d%b" % (self._job.before, self._number, self._job.after)
        self._began = perf_counter_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < self._needed:
            return
        round_ = self._round
        if round_ is None:
            self._transport.abort()  # bytes that nobody asked for: the next call would read them
            return
        try:
            message = self._message()
            if message is None:
                return
            check(message, self._number, self._job.proof)
        except Wrong as error:
            self._transport.abort()
            round_.fail(error)
            return
        round_.answered(self._began)
        self._call(round_)

    def _message(self) -> bytes | None:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end == 3:
            return None
        framing = self._heads[bytes(self._buffer[:end])]
        body: bytes | None
        if framing.length is None:
            body = unchunked(bytes(self._buffer[end:]))
        else:
            self._needed = end + framing.length
            body = bytes(self._buffer[end:]) if len(self._buffer) >= self._needed else None
        if body is None:
            return None
        self._buffer.clear()
        self._needed = 0
        return message_of(body, framing.events)

    def leave(self) -> None:
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._round is not None:
            self._round.fail(ConnectionResetError(f"a connection was lost during a call: {error}"))


class StdioCaller(asyncio.SubprocessProtocol):
    """A provider started here, with all calls on its one pipe."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._rest = b""
        self._round: Round | None = None
        self._under_way: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        process = cast("asyncio.SubprocessTransport", transport)
        self.pid = process.get_pid()
        self._pipe = cast("asyncio.WriteTransport", process.get_pipe_transport(0))

    def start(self, round_: Round) -> None:
        self._round = round_
        self._calls(round_)

    def _calls(self, round_: Round) -> None:
        while len(self._under_way) < self._job.in_flight and round_.more():
            number = round_.next_id()
            self._under_way[number] = perf_counter_ns()
            self._pipe.write(b"%b%d%b\n" % (self._job.before, number, self._job.after))
        round_.rest()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        round_ = self._round
        if round_ is None:
            return
        try:
            for line in lines:
                self._answered(round_, line)
        except Wrong as error:
            round_.fail(error)
        else:
            self._calls(round_)

    def _answered(self, round_: Round, line: bytes) -> None:
        number = _answered.decode(line).id
        began = self._under_way.pop(number or 0, None)
        if began is None:
            raise Wrong(f"nobody asked for {line[:300]!r}")
        check(line, number or 0, self._job.proof)
        round_.answered(began)

    def process_exited(self) -> None:
        if self._round is not None:
            self._round.fail(ConnectionResetError("the provider ended"))


class Load:
    """All callers of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._heads = Heads()
        self._callers: list[HttpCaller] = []
        self._stdio: StdioCaller | None = None
        self._number = job.first_id
        self._rested = perf_counter_ns()

    def _next_id(self) -> int:
        self._number += 1
        if self._number >= self._job.first_id * 10:
            self._number = self._job.first_id
        return self._number

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if "connect" in order:
            return await self._connect()
        result = await self._round(float(order.get("seconds", 0)), int(order.get("calls", 0)))
        return {name: getattr(result, name) for name in result.__struct_fields__}

    async def _connect(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        if self._job.command:
            if self._stdio is None:
                _, self._stdio = await loop.subprocess_exec(
                    lambda: StdioCaller(self._job), *self._job.command, stderr=None
                )
            await self._round(0, 1)
            return {"connected": 1, "pid": self._stdio.pid}
        opened = not self._callers
        if perf_counter_ns() - self._rested > STALE_NS:
            for caller in self._callers:
                caller.leave()
            self._callers = []
        for _ in range(self._job.in_flight - len(self._callers)):
            _, caller = await loop.create_connection(
                lambda: HttpCaller(self._job, self._heads), "127.0.0.1", self._job.port
            )
            self._callers.append(caller)
        for caller in self._callers if opened else self._callers[:1]:
            await self._one(caller)
        return {"connected": len(self._callers)}

    async def _one(self, caller: HttpCaller) -> None:
        round_ = Round(self._next_id, 0, 1)
        caller.start(round_)
        async with asyncio.timeout(PATIENCE):
            await round_.over

    async def _round(self, seconds: float, calls: int) -> Result:
        round_ = Round(self._next_id, seconds, calls)
        for caller in [self._stdio] if self._stdio is not None else self._callers:
            caller.start(round_)
        async with asyncio.timeout(seconds + PATIENCE):
            await round_.over
        self._rested = perf_counter_ns()
        return round_.result()


def main() -> None:
    load = Load(msgspec.json.decode(sys.stdin.buffer.readline(), type=Job))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            try:
                said = runner.run(load.obey(msgspec.json.decode(line)))
            except TimeoutError:  # an OSError too
                said = {"error": f"some calls were not answered within {PATIENCE:.0f} s"}
            except (Wrong, OSError) as error:
                said = {"error": str(error)}
            sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
            sys.stdout.buffer.flush()
            if "error" in said:
                sys.exit(1)


if __name__ == "__main__":
    main()
