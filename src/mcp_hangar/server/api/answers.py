# SPDX-License-Identifier: MIT
"""Answers as bytes, with an ETag: whoever asks again and again hears 304 while nothing has changed."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec
from fastapi import Request
from starlette.responses import Response

_AGES: Final = re.compile(rb'"(?:up_seconds|idle_seconds|uptime_seconds|retry_after)":[-+.0-9e]+')
"""Members that grow by themselves. Inside a JSON text the quotes would be escaped, so nothing else looks like them."""
_NO_CACHE: Final = "private, no-cache"


def answer(value: Any, headers: dict[str, str] | None = None) -> Response:
    """Of a command: never kept."""
    return Response(
        msgspec.json.encode(value),
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def listing(request: Request, value: Any) -> Response:
    """Of a read that is polled. The ETag is weak: it leaves out ages, which say nothing new."""
    body = msgspec.json.encode(value)
    tag = f'W/"{hashlib.blake2b(_AGES.sub(b"", body), digest_size=12).hexdigest()}"'
    if known(request, tag):
        return not_changed(tag)
    return Response(body, headers={"ETag": tag, "Cache-Control": _NO_CACHE}, media_type="application/json")


def folded(newest: str) -> str:
    """The ETag of what is folded from the record: it changes with the newest event, so nothing needs to be looked up
    to say that nothing has changed."""
    return f'W/"{newest}"'


def tagged(value: Any, tag: str) -> Response:
    return Response(
        msgspec.json.encode(value), headers={"ETag": tag, "Cache-Control": _NO_CACHE}, media_type="application/json"
    )


def known(request: Request, tag: str) -> bool:
    """Whether the client has this already (`If-None-Match`)."""
    given = request.headers.get("if-none-match", "")
    opaque = tag.removeprefix("W/")
    return given.strip() == "*" or any(each.strip().removeprefix("W/") == opaque for each in given.split(","))


def not_changed(tag: str) -> Response:
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": _NO_CACHE})
