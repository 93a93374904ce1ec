# SPDX-License-Identifier: MIT
"""Request bodies: JSON, bounded while they are read."""

from __future__ import annotations

from fastapi import Request

from mcp_hangar.domain.errors import RequestError


async def json_body(request: Request, limit: int) -> bytes:
    """Raises `RequestError`: unsupported_media_type, body_too_large."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("unsupported_media_type")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestError("body_too_large", limit=limit)
    return bytes(body)
