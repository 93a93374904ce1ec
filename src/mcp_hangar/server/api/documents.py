# SPDX-License-Identifier: MIT
"""The API's description as one plain page: no script, nothing fetched from elsewhere."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{overflow:auto;padding:.5rem;background:#8881}"
    "h3{margin:2rem 0 0}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}"
    "summary{cursor:pointer}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}"
)


def page(openapi: dict[str, Any]) -> str:
    info = openapi["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}, REST version {escape(info['version'])}</h1>{_prose(info['description'])}",
    ]
    for tag in openapi["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>{_prose(tag['description'])}")
        for path, methods in openapi["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    parts.append(_operation(f"{method.upper()} {path}", operation))
    return "".join(parts)


def _operation(title: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    answer = operation["responses"]["200"]
    example = answer["content"]["application/json"].get("example")
    return (
        f"<h3><code>{escape(title)}</code></h3>{_prose(operation['description'])}"
        + _parameters(operation.get("parameters", []))
        + _example("Body", body)
        + _example(answer["description"], example)
    )


def _parameters(parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{_inline(one.get('description', ''))}{_choices(one['schema'])}"
        for one in parameters
    )
    return f"<table><tr><th>parameter<th>meaning{rows}</table>"


def _choices(schema: dict[str, Any]) -> str:
    words = ", ".join(f"<code>{escape(word)}</code>" for word in schema.get("enum", ()))
    return f" One of {words}." if words else ""


def _example(title: str, value: Any) -> str:
    if value is None:
        return ""
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"


def _prose(text: str) -> str:
    """Paragraphs, and lists of lines that begin with a dash."""
    found = ""
    for part in text.strip().split("\n\n"):
        lines = part.split("\n")
        if all(line.startswith("- ") for line in lines):
            found += f"<ul>{''.join(f'<li>{_inline(line[2:])}' for line in lines)}</ul>"
        else:
            found += f"<p>{_inline(' '.join(lines))}</p>"
    return found


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
