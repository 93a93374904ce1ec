# SPDX-License-Identifier: MIT
"""A provider that does as each request tells it, so that one suite can drive any wire. Standard library only.

A request carries `params.steps`, carried out in order; every request runs on a thread of its own:

    {"say": text}        send `text` as a message about this request; `$id` in it becomes the request's id
    {"apart": text}      send it as a message that belongs to no request
    {"big": n}           answer with `{"text": "xxx…"}` of n letters
    {"answer": text}     answer with this JSON as the result, exactly as spelled
    {"until": name}      wait for a notification `test/go` with `params.name`
    {"until_reply": id}  wait for the response to a request of our own; its text is kept for `$reply`
    {"received": true}   answer with all that came so far: `{"messages": […]}`
    {"die": status}      end the process at once

A wire gives `Script` the functions that write and tells it what came. Run as a program it serves stdio.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

Say = Callable[[str], None]


class Script:
    def __init__(self, apart: Say, die: Callable[[int], NoReturn] = os._exit) -> None:
        self._apart = apart
        self._die = die
        self._changed = threading.Condition()
        self._received: list[Any] = []

    def hear(self, text: str, say: Say) -> threading.Thread | None:
        """Take one message; for a request, the thread that carries out its steps (messages about it go to `say`)."""
        message = json.loads(text)
        with self._changed:
            self._received.append(message)
            self._changed.notify_all()
        if "method" not in message or "id" not in message:
            return None
        thread = threading.Thread(target=self._run, args=(message, say), daemon=True)
        thread.start()
        return thread

    def _run(self, request: dict[str, Any], say: Say) -> None:
        id_ = json.dumps(request["id"])
        reply = "null"

        def answer(result: str) -> None:
            say('{"jsonrpc":"2.0","id":' + id_ + ',"result":' + result + "}")

        for step in request["params"].get("steps") or [{"answer": "{}"}]:
            ((verb, value),) = step.items()
            if verb == "say":
                say(value.replace("$id", id_))
            elif verb == "apart":
                self._apart(value.replace("$id", id_))
            elif verb == "big":
                answer('{"text":"' + "x" * value + '"}')
            elif verb == "answer":
                answer(value.replace("$reply", reply))
            elif verb == "until":
                self._wait("test/go", value)
            elif verb == "until_reply":
                reply = json.dumps(self._wait("", value))
            elif verb == "received":
                with self._changed:
                    messages = json.dumps(self._received)
                answer('{"messages":' + messages + "}")
            elif verb == "die":
                self._die(value)

    def _wait(self, method: str, name: Any) -> Any:
        """The first message with this method and name; without a method, the response with this id."""

        def wanted(message: dict[str, Any]) -> bool:
            if message.get("method", "") != method:
                return False
            return bool(name == (message["params"]["name"] if method else message["id"]))

        with self._changed:
            self._changed.wait_for(lambda: any(map(wanted, self._received)), timeout=300)
            return next(filter(wanted, self._received), None)


def serve_stdio() -> None:
    writing = threading.Lock()

    def say(text: str) -> None:
        with writing:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    script = Script(say)
    for line in sys.stdin:
        script.hear(line, say)


if __name__ == "__main__":
    serve_stdio()
