# SPDX-License-Identifier: MIT
"""What clients do in a bad hour, in rounds: calls, sessions that end and such that are left, clients that vanish."""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import dataclass, fields
from typing import Any, Final

from benchmarks import shapes
from benchmarks.asking import Answer, Asker, House, remote
from benchmarks.measure import ROOT, Loading, TargetFailed
from benchmarks.shapes import Door, Shape
from benchmarks.targets import RULES, Running, Upstream, job

CONNECTIONS: Final = 16
INSTANCES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """How often each thing happens in one round."""

    calls: int
    """Modern calls, over new connections."""
    sessions: int
    """Legacy sessions with a call each, which makes an upstream session of its own; every other one is closed."""
    vanished: int
    """Clients that are gone before their call is answered, half of them in the middle of a request's head."""
    cancelled: int
    """Calls that their client cancels."""
    changes: int
    """List changes of a provider, each followed by a list."""
    errors: int
    """Of each kind: an error from the provider, an unknown tool, a denied one, no JSON, a wrong token."""

    def times(self, rounds: int) -> dict[str, int]:
        return {field.name: getattr(self, field.name) * rounds for field in fields(self)}


def providers(modern: Upstream, legacy: Upstream) -> dict[str, Any]:
    return {
        "up": remote(modern.url),
        "old": remote(legacy.url, "legacy", sessions="per_session", limits={"instances": INSTANCES}),
        "restless": {
            "mode": "subprocess",
            "command": [sys.executable, "-m", "benchmarks.restless"],
            "cwd": str(ROOT),
            "tools": {**RULES, "allow": ["*"]},
        },
    }


def run(running: House, work: Round) -> None:
    """One round. Whatever is answered otherwise than it should be ends it."""
    with Loading(job(Shape(in_flight=CONNECTIONS), Running(running.pid, running.door))) as load:
        load.connect()
        load.run(calls=work.calls)
    old = door(running, "old__echo")
    with Asker(old) as asker:
        for number in range(work.sessions):
            session = opened(asker)
            right(asker.call("legacy", session), shapes.PROOF)
            if number % 2:
                asker.delete(session)
    vanish(running, work.vanished)
    cancel(running, work.cancelled)
    with Asker(door(running, "restless__change")) as asker:
        for _ in range(work.changes):
            right(asker.call(), shapes.PROOF)
            asker.tools()
    err(running, work.errors)


def door(running: House, tool: str, token: str = "") -> Door:
    return Door(port=running.door.port, tool=tool, token=token or running.door.token)


def right(answer: Answer, proof: bytes, status: int = 200) -> None:
    if answer.status != status or proof not in answer.body:
        raise TargetFailed(f"expected {proof!r}, got {answer.status} {answer.body[:300]!r}")


def opened(asker: Asker) -> str:
    said = asker.initialize()
    right(said, b"protocolVersion")
    asker.initialized(said.session)
    return said.session


def vanish(running: House, count: int) -> None:
    """A reset, not a farewell: the machine of such a client is gone."""
    before, after = shapes.call_bytes(Shape(), door(running, "restless__slow"), "")
    request = b"%b%d%b" % (before, shapes.FIRST_ID, after)
    left = []
    for number in range(count):
        client = socket.create_connection(("127.0.0.1", running.door.port), timeout=30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(request if number % 2 else request[:40])
        left.append(client)
        if len(left) >= CONNECTIONS:
            time.sleep(0.02)  # so that the calls are under way
            for each in left:
                each.close()
            left.clear()
    for each in left:
        each.close()


def cancel(running: House, count: int) -> None:
    slow = door(running, "restless__slow")
    with Asker(slow) as asker:
        session = opened(asker)
        before, after = shapes.call_bytes(Shape(era="legacy"), slow, session)
        said = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": shapes.FIRST_ID}}
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", slow.port), timeout=30) as client:
                client.sendall(b"%b%d%b" % (before, shapes.FIRST_ID, after))
                time.sleep(0.01)
                asker.post(shapes.era_lines("legacy", "", session=session), json.dumps(said).encode())
        asker.delete(session)


def err(running: House, count: int) -> None:
    failing, unknown = door(running, "restless__fail"), door(running, "up__nothing")
    denied, stranger = door(running, "up__drop_all"), door(running, "up__echo", "not-it")
    for each, proof, status in (
        (failing, b"asked to fail", None),
        (unknown, b"unknown_tool", None),
        (denied, b"unknown_tool", None),
        (stranger, b"", 401),
    ):
        with Asker(each) as asker:
            for _ in range(count):
                answer = asker.call()
                right(answer, proof, status or answer.status)
    with Asker(running.door) as asker:
        for _ in range(count):
            right(asker.post(shapes.era_lines("modern", "tools/call", "up__echo"), b'{"no json'), b"", 400)
