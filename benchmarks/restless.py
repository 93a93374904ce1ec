# SPDX-License-Identifier: MIT
"""A stdio provider that misbehaves on request: `python -m benchmarks.restless`.

Its tools: `echo` answers, `fail` answers with an error, `slow` answers nothing until it is cancelled, `change` changes
the list of tools, says so and then answers.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from benchmarks.shapes import LEGACY_VERSION, SENTENCE
from benchmarks.upstream import tool

TOOLS: Final = ("echo", "fail", "slow", "change")


class Restless:
    def __init__(self) -> None:
        self._changes = 0

    def answers(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """All that is said to one message."""
        id, method = message.get("id"), message.get("method")
        if id is None or method is None:
            return []
        before: list[dict[str, Any]] = []
        result: dict[str, Any] = {}
        if method == "initialize":
            info = {"name": "restless", "version": "1"}
            result = {
                "protocolVersion": LEGACY_VERSION,
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": info,
            }
        elif method == "tools/list":
            result = {"tools": [tool(name) for name in (*TOOLS, f"only-{self._changes % 2}")]}
        elif method == "tools/call":
            name = message["params"]["name"]
            if name == "slow":
                return []
            if name == "fail":
                return [{"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "It was asked to fail."}}]
            if name == "change":
                self._changes += 1
                before = [{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}]
            result = {"content": [{"type": "text", "text": SENTENCE}], "isError": False}
        elif method != "ping":
            return [{"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}}]
        return [*before, {"jsonrpc": "2.0", "id": id, "result": result}]


def main() -> None:
    provider = Restless()
    for line in sys.stdin:
        for answer in provider.answers(json.loads(line)):
            sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
