# SPDX-License-Identifier: MIT
"""A whole Hangar for one test: its own folder, port, state and audit file, started as users start it."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import Running, plain_environment, running

ROOT = Path(__file__).resolve().parent.parent
FIXTURE = ROOT / "tests/fixtures/conformance_server.py"
MARK = "HANGAR_TEST_MARK"
"""An environment variable by which the processes of one test's providers are found again."""

Record = dict[str, Any]


@dataclass
class House:
    running: Running
    folder: Path
    port: int
    mark: str

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def door(self, provider: str) -> str:
        return f"{self.url}/{provider}"

    @property
    def audit_text(self) -> str:
        path = self.folder / "audit.jsonl"
        return path.read_text() if path.exists() else ""

    def audit(self, *kinds: str) -> list[Record]:
        """What the audit file holds so far, of these types (all without), in order."""
        lines = self.audit_text.split("\n")
        records = [json.loads(line) for line in lines[:-1] if line]
        return [record for record in records if not kinds or record["type"] in kinds]

    def audit_until(self, enough: Callable[[list[Record]], bool], limit: float = 60.0) -> list[Record]:
        """The audit trail once it says enough; it is written behind the call, so it may come a moment later."""
        until = time.monotonic() + limit
        records = self.audit()
        while not enough(records):
            if time.monotonic() > until:
                told = [f"{record['type']} {record.get('method', '')} {record.get('name', '')}" for record in records]
                raise AssertionError("the audit trail never said enough:\n" + "\n".join(told) + self.running.said())
            time.sleep(0.05)
            records = self.audit()
        return records


def hangar_command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "mcp_hangar", "serve", "--config", str(config), *more]


def hangar_environment(**more: str) -> dict[str, str]:
    return plain_environment(PYTHONPATH=str(ROOT / "src"), **more)


def write_config(folder: Path, providers: dict[str, Any], mark: str, **sections: Any) -> Path:
    """`hangar.yaml` in `folder`, with a port that the system gives. JSON is YAML: nothing needs quoting by hand."""
    named = {}
    for name, about in providers.items():
        if about["mode"] == "subprocess":
            about = {**about, "env": {MARK: mark, **about.get("env", {})}}
        named[name] = about
    config: dict[str, Any] = {
        "version": 1,
        "server": {"listen": "127.0.0.1:0"},
        "state": {"dir": str(folder / "state")},
        "providers": named,
        "expose": {"hangar_tools": "none", "list_timeout": "30s"},
        "audit": {"sink": str(folder / "audit.jsonl")},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    path = folder / "hangar.yaml"
    path.write_text(json.dumps(config, indent=2))
    return path


@contextlib.contextmanager
def house(
    folder: Path, providers: dict[str, Any], *, env: dict[str, str] | None = None, **sections: Any
) -> Iterator[House]:
    """A running Hangar with these providers; further arguments are sections of the configuration."""
    mark = f"house-{secrets.token_hex(8)}"
    config = write_config(folder, providers, mark, **sections)
    with running(
        hangar_command(config), folder / "hangar.log", env=hangar_environment(**(env or {})), cwd=folder
    ) as started:
        ready = started.wait_until_said(r"is ready at http://127\.0\.0\.1:(\d+)/mcp")
        yield House(started, folder, int(ready[1]), mark)


def subprocess_provider(command: Sequence[str | Path], **more: Any) -> dict[str, Any]:
    return {"mode": "subprocess", "command": [str(part) for part in command], **more}


def remote_provider(url: str, **more: Any) -> dict[str, Any]:
    return {"mode": "remote", "url": url, **more}


def fixture_command(*more: str) -> list[str]:
    return [sys.executable, str(FIXTURE), *more]


@contextlib.contextmanager
def fixture_server(folder: Path, era: str) -> Iterator[str]:
    """The conformance fixture over HTTP; its URL."""
    with running(fixture_command("--era", era), folder / f"fixture-{era}.log", pipe=True) as started:
        yield started.first_line()
