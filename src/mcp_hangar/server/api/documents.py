# SPDX-License-Identifier: MIT
"""The API's description as one plain page: no script, nothing fetched from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font-family:ui-monospace,monospace}h2{margin-top:2rem}td,th{text-align:left;padding:.2rem 1rem .2rem 0;"
    "vertical-align:top}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)


def page(openapi: dict[str, Any]) -> str:
    info = openapi["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>",
        "<p>Every request carries <code>Authorization: Bearer</code> and the admin token. ",
        "The whole description: <code>openapi.json</code> beside this page.</p>",
    ]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>")
            parts.append(_parameters(operation.get("parameters", [])))
    return "".join(parts)


def _parameters(parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{escape(one.get('description', ''))}"
        for one in parameters
    )
    return f"<table><tr><th>parameter<th>in<th>meaning{rows}</table>"
