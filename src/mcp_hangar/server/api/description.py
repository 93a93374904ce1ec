# SPDX-License-Identifier: MIT
"""What OpenAPI says of this API as a whole; the routes say the rest."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mcp_hangar.server.api.examples import EXAMPLES
from mcp_hangar.server.api.schemas import components

TITLE: Final = "MCP Hangar"
VERSION: Final = "1"
"""Of this API, as in its paths. Hangar's own stands in `/status`."""
DESCRIPTION: Final = """\
What a running Hangar does, and the few things that can be changed while it runs.

- Every request carries `Authorization: Bearer` and the admin token (`admin.token` in `state.dir`), or a session token.
- Errors are problems (RFC 9457, `application/problem+json`) with a stable `code`, and say `why` and how to `fix` it.
- Lists come in pages: `limit`, and the `cursor` that a page answers with. An empty cursor: that was the last one.
- What is polled has an `ETag`: with `If-None-Match` the answer is 304 while nothing has changed.
- Unknown or repeated parameters are refused, since a misspelt filter would match everything.
- `/api/v1/stream` is a WebSocket that tells events as they happen: see docs/reference/stream.md.
"""
TAGS: Final = (
    ("status", "How Hangar fares."),
    ("providers", "MCP servers that Hangar runs or reaches."),
    ("tools", "What providers offer to be called."),
    ("prompts", "Prompts that providers offer."),
    ("resources", "Resources and templates that providers offer."),
    ("calls", "What was called, and why it ended so. Calling a tool."),
    ("sessions", "Calls that belong together, by caller and conversation."),
    ("events", "The record: everything that happened."),
    ("config", "The configuration, and what is wrong with its file."),
    ("login", "How a browser comes in."),
)


def describe(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _openapi(app: FastAPI) -> dict[str, Any]:
    tags = [{"name": name, "description": said} for name, said in TAGS]
    schema = get_openapi(title=TITLE, version=VERSION, description=DESCRIPTION, routes=app.routes, tags=tags)
    schema["info"]["license"] = {"name": "MIT"}
    schema["servers"] = [{"url": "http://127.0.0.1:8000", "description": "Where `hangar serve` listens by default"}]
    schema["security"] = [{"admin": []}]
    schema["components"] = {
        "schemas": components(),
        "securitySchemes": {
            "admin": {"type": "http", "scheme": "bearer", "description": "The admin token, or a session token."}
        },
    }
    for methods in schema["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)  # FastAPI's own; ours is a problem
            for parameter in operation.get("parameters", ()):
                if parameter["schema"].get("default") == "":
                    del parameter["schema"]["default"]  # absent, not empty
                parameter["schema"].pop("title", None)
            example = EXAMPLES.get(operation["operationId"])
            if example is not None:
                operation["responses"]["200"]["content"]["application/json"]["example"] = example
    return schema
