# SPDX-License-Identifier: MIT
"""Writes what comes from the code: the references of errors, configuration, events and REST, the JSON Schema, pictures.

`python scripts/generate_reference.py` writes them; with `--check` it only compares, and fails where one is stale.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast, get_args

import msgspec

from mcp_hangar.application.offered import Offered
from mcp_hangar.application.views import Views
from mcp_hangar.domain import errors, events
from mcp_hangar.server.api.app import build_api
from mcp_hangar.server.config import json_schema
from mcp_hangar.server.config.schema import LATER, MODES_LATER

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from scripts import cli_page, pictures

ROOT: Final = Path(__file__).resolve().parent.parent
WRITTEN_BY: Final = "<!-- Written by scripts/generate_reference.py; change the code instead. -->"


def pages() -> dict[str, str]:
    """What each generated file ought to hold, by its path in the repository."""
    schema = json_schema()
    return {
        "docs/reference/errors.md": errors_page(),
        "docs/reference/config.md": config_page(schema),
        "docs/reference/events.md": events_page(),
        "docs/reference/rest.md": rest_page(openapi()),
        "docs/reference/openapi.json": json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n",
        "docs/reference/cli.md": _page(["# The command line", WRITTEN_BY, *cli_page.parts()]),
        "docs/images/states.svg": pictures.states(),
        "docs/images/call.svg": pictures.call((ROOT / "docs/life-of-a-tool-call.md").read_text(encoding="utf-8")),
        "schemas/hangar.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
    }


# errors


def errors_page() -> str:
    parts = [
        "# Errors",
        WRITTEN_BY,
        "Each thing that can go wrong has a code that does not change. On the wire it stands in `error.data.code` "
        "(for a tool: in the result's text), beside `why` and `fix`. Words in braces are filled in from the case at "
        "hand.",
        "The JSON-RPC column is the `code` of a JSON-RPC error; ours lie outside the range that the protocol reserves. "
        "The HTTP column is the status where HTTP tells it (REST always; on `/mcp` where the protocol asks for one). "
        "Where both are empty, only a command tells it; [the command line](cli.md#exit-status) says what the exit "
        "status means.",
        _table(
            ("code", "JSON-RPC", "HTTP", "what"),
            [(f"[`{name}`](#{name})", *_wire(row), _prose(row.what)) for name, row in errors.CODES.items()],
        ),
    ]
    for name, row in errors.CODES.items():
        parts += [
            f"## {name}",
            f"- **What:** {_prose(row.what)}\n- **Why:** {_prose(row.why)}\n- **Fix:** {_prose(row.fix)}\n"
            + (f"- JSON-RPC `{row.rpc}`, HTTP {row.http}" if row.rpc else f"- Exit status {row.exit}"),
        ]
    return _page(parts)


def _wire(row: errors.Code) -> tuple[str, str]:
    return (f"`{row.rpc}`", str(row.http)) if row.rpc else ("", "")


def _prose(text: str) -> str:
    """A sentence with its blanks as code, and nothing that Markdown would take for markup."""
    if re.fullmatch(r"\{\w+\}", text):
        return "(told by the case at hand)"
    pieces = re.split(r"(`[^`]*`|\{[^{}]*\})", text.replace("{{", "\0").replace("}}", "\1"))
    return "".join(
        piece
        if piece.startswith("`")
        else f"`{piece.partition(':')[0]}}}`".replace("}}", "}")
        if piece.startswith("{")
        else re.sub(r"([*<>|])", r"\\\1", piece)
        for piece in pieces
    ).translate({0: "{", 1: "}"})


# configuration


def config_page(schema: dict[str, Any]) -> str:
    parts = [
        "# Configuration",
        WRITTEN_BY,
        "One YAML file, `hangar.yaml`: named by `--config` or `HANGAR_CONFIG`, else in the working directory, else in "
        "`~/.config/hangar/`. [hangar.yaml](hangar.yaml) shows every key with comments; "
        "[the JSON Schema](../../schemas/hangar.schema.json) lets editors complete it (`hangar config schema` prints "
        "it). `hangar config check` tells every problem with line and column; `hangar config show` prints what is in "
        "effect, secrets masked.",
        "- Durations: `500ms`, `30s`, `5m`, `1h`. Sizes: `64KiB`, `4MiB`, `1GiB`.\n"
        "- `${NAME}`, `${NAME:-default}` and `${file:/path}` are filled in, except in `command`, which everybody on "
        "the machine can read with `ps`. `$${` stands for a plain `${`. A variable that is not set is an error.\n"
        "- Relative paths start at the configuration file.\n"
        "- Unknown keys, keys without a value, equal keys, and settings that can never take effect are errors.\n"
        "- Values of secret keys, and all that was filled in from outside the file, are masked wherever they would be "
        "shown.",
        *_section_parts(schema, schema, "", {}),
        "## Not available yet",
        "These keys are refused by name until they do what they say: "
        + ", ".join(f"`{key.replace('*', 'NAME')}`" for key in sorted(LATER))
        + "; and the modes "
        + ", ".join(f"`{mode}`" for mode in MODES_LATER)
        + ".",
    ]
    return _page(parts)


def _section_parts(schema: dict[str, Any], body: dict[str, Any], path: str, told: dict[str, str]) -> list[str]:
    """The table of a section and of those in it; `told` says where a section was told already."""
    rows: list[tuple[str, ...]] = []
    inner: list[str] = []
    for name, entry in body["properties"].items():
        notes = str(entry["description"])
        notes += " Required." if name in body.get("required", ()) else ""
        notes += " Secret." if entry.get("writeOnly") else ""
        ref, named = _reference(entry)
        if not ref:
            default = f"`{entry['default']}`" if "default" in entry else ""
            rows.append((f"`{name}`", _cell(_kind(entry)), default, _cell(notes)))
            continue
        here = ".".join(filter(None, [path, name, "NAME" if named else ""]))
        if ref not in told:
            told[ref] = here
            inner += _section_parts(schema, schema["$defs"][ref], here, told)
        rows.append((f"`{name}`", f"[section](#{_anchor(told[ref])})", "", _cell(notes)))
    title = f"## `{path}`" if path else "## The file"
    return [title, str(body["description"]), _table(("key", "type", "default", "meaning"), rows), *inner]


def _reference(entry: dict[str, Any]) -> tuple[str, bool]:
    """The section that an entry is, or empty; and whether names stand between."""
    more = entry.get("additionalProperties")
    named = isinstance(more, dict) and "$ref" in more
    ref = more["$ref"] if isinstance(more, dict) and named else entry.get("$ref", "")
    return str(ref).rpartition("/")[2], named


def _kind(entry: dict[str, Any]) -> str:
    options = [option for option in entry.get("anyOf", [entry]) if option.get("pattern") != r"\$\{"]
    first = options[0]
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in first:
        return ", ".join(f"`{value}`" for value in first["enum"])
    if entry.get("examples") == ["30s"]:
        return "duration"
    if entry.get("examples") == ["4MiB"]:
        return "size"
    if entry.get("examples") == ["1s..60s"]:
        return "range of durations"
    if first.get("type") == "integer":
        least, most = first.get("minimum"), first.get("maximum")
        bounds = f"{least} to {most}" if most is not None else f"at least {least}"
        return f"number, {bounds}"
    return {"array": "list of texts", "object": "names and texts"}.get(str(first.get("type")), "text")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-")


# events


def events_page() -> str:
    docs = _field_docs()
    parts = [
        "# Events",
        WRITTEN_BY,
        "Every fact is one event: one line of JSON in the audit sink, one entry in the views. Names do not change; "
        "`version` rises if the meaning of a field does. A field at its default is left out.",
        "## Every event",
        _table(
            ("field", "type", "meaning"),
            [
                ("`type`", "text", "What happened: one of the names below."),
                ("`id`", "text", "UUIDv7, unique."),
                (
                    "`epoch`, `seq`",
                    "text, number",
                    "Where it stands: the run of Hangar, and its place in that run.",
                ),
                ("`at`", "text", "When it happened: RFC 3339, UTC."),
                *(
                    (f"`{field.name}`", _type(field.type), docs["Event", field.name])
                    for field in msgspec.structs.fields(events.Event)
                    if field.name != "at"
                ),
            ],
        ),
    ]
    common = {field.name for field in msgspec.structs.fields(events.Event)}
    for cls in get_args(events.AnyEvent):
        parts.append(f"## {cls.__struct_config__.tag}")
        parts.append(_cell(" ".join((cls.__doc__ or "").split())))
        rows = [
            row
            for field in msgspec.structs.fields(cls)
            if field.name not in common
            for row in _event_rows(field, docs.get((cls.__name__, field.name), ""))
        ]
        parts.append(_table(("field", "type", "meaning"), rows) if rows else "No fields of its own.")
    return _page(parts)


def _event_rows(field: msgspec.structs.FieldInfo, meaning: str) -> list[tuple[str, ...]]:
    if field.name != "arguments":
        return [(f"`{field.name}`", _type(field.type), _cell(meaning))]
    return [
        ("`arguments_hash`", "text", "BLAKE3 of the arguments as they came, keyed with `audit.hash_key`."),
        ("`arguments_preview`", "text", "With `audit.arguments: preview`: their beginning, secrets masked."),
        ("`arguments`", "any", "With `audit.arguments: full`: all of them."),
    ]


def _type(annotation: Any) -> str:
    names = {str: "text", int: "number", float: "number", bool: "true or false"}
    return names.get(annotation, "list of texts" if "tuple" in str(annotation) else "text")


def _field_docs() -> dict[tuple[str, str], str]:
    """The docstrings under fields, which only the source has."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(events)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for before, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[node.name, before.target.id] = " ".join(str(after.value.value).split())
    return found


# REST

ROUTES: Final = re.compile(r"(?<=<!-- routes: written by scripts/generate_reference.py -->\n).*", re.DOTALL)


def openapi() -> dict[str, Any]:
    """What a running Hangar answers at `/api/v1/openapi.json`."""
    views = Views(epoch="", keep=0)
    offered = Offered(providers=dict, offer=lambda provider: None, denied_by=lambda provider, tool: "")
    queries: Any = SimpleNamespace(offered=offered, kept=views.kept)
    return build_api(queries, *[cast("Any", None)] * 4).app.openapi()


def rest_page(description: dict[str, Any]) -> str:
    """What people wrote, and then every route."""
    written = (ROOT / "docs/reference/rest.md").read_text(encoding="utf-8")
    rows: dict[str, list[tuple[str, ...]]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parameters = [f"`{one['name']}`" for one in operation.get("parameters", ()) if one["in"] == "query"]
            row = (
                f"`{method.upper()} {path}`",
                _cell(" ".join(operation["description"].split())),
                ", ".join(parameters),
            )
            rows.setdefault(operation["tags"][0], []).append(row)
    parts = []
    for tag in description["tags"]:
        parts += [f"### {tag['name']}", tag["description"]]
        parts.append(_table(("route", "what it does", "parameters"), rows[tag["name"]]))
    return ROUTES.sub(lambda _: "\n" + _page(parts), written)


# Markdown


def _cell(text: str) -> str:
    """Text for a cell: braces as code, no bar that would end it."""
    return "".join(
        piece if piece.startswith("`") else re.sub(r"(\{[^{}]*\}(?:__\{[^{}]*\})?)", r"`\1`", piece).replace("|", "\\|")
        for piece in re.split(r"(`[^`]*`)", text)
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    stale: list[str] = []
    for name, text in pages().items():
        path: Path = options.root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    said = "differs from the code; run python scripts/generate_reference.py" if options.check else "written"
    for name in stale:
        print(f"{name}: {said}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
