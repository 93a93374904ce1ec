# SPDX-License-Identifier: MIT
"""`hangar call PROVIDER TOOL`: one call, on the same path as an agent's."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcp_hangar.server.cli.arguments import Schema, check, read_arguments
from mcp_hangar.server.cli.completing import PROVIDERS, TOOLS
from mcp_hangar.server.cli.failing import FAILED
from mcp_hangar.server.cli.output import print_json, safe, waiting
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach
from mcp_hangar.server.cli.tools import meet

if TYPE_CHECKING:
    from mcp_hangar.client import HangarClient


def call(
    provider: Annotated[str, typer.Argument(help="The provider's name.", autocompletion=PROVIDERS)],
    tool: Annotated[str, typer.Argument(help="The tool, as the provider calls it.", autocompletion=TOOLS)],
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", "-a", metavar="KEY=VALUE", help="An argument: JSON, or text where the tool takes text."),
    ] = None,
    json_args: Annotated[
        str, typer.Option("--json-args", metavar="JSON", help="All arguments as one JSON object; - reads stdin.")
    ] = "",
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Send the arguments though they do not fit the tool's schema.")
    ] = False,
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """Call a tool and print what it answers. Arguments are checked against the tool's schema first."""
    # What is wrong in itself is told without asking anyone.
    arguments = read_arguments(arg or [], json_args)
    with reach(url, pid, as_json) as hangar:
        rows = _offered(hangar, provider)
        schema = _schema(rows, tool)
        if schema is not None:
            arguments = read_arguments(arg or [], "", schema) if arg else arguments
            if not no_check:
                check(provider, tool, schema, arguments)
        with waiting(f"Calling {tool} of {provider}"), _explaining(tool, rows):
            answer = hangar.call_raw(provider, tool, arguments)
        result = answer["result"]
        if as_json:
            print_json(answer)
        else:
            print_result(result)
    if result.get("isError"):
        if not as_json:
            print(f"The tool answered with an error. See `hangar why {safe(answer['call_id'])}`.", file=sys.stderr)
        raise typer.Exit(FAILED)


def _offered(hangar: HangarClient, provider: str) -> Sequence[Mapping[str, Any]]:
    """What the provider offers; nothing where that cannot be known: then the call itself tells why."""
    from mcp_hangar.client import Refused

    try:
        found = hangar.tools(provider)
        if found["unknown"]:
            meet(hangar, found["unknown"])
            found = hangar.tools(provider)
    except Refused:
        return []
    return found["tools"]


def _schema(rows: Sequence[Mapping[str, Any]], tool: str) -> Schema | None:
    definition = next((row["definition"] for row in rows if row["name"] == tool), None)
    schema = definition.get("inputSchema") if isinstance(definition, dict) else None
    return schema if isinstance(schema, dict) else None


class _explaining:
    """Adds to the answer for an unknown tool what an agent may not know, and the operator may: that a policy denies it,
    or which tool may have been meant."""

    def __init__(self, tool: str, rows: Sequence[Mapping[str, Any]]) -> None:
        denied = next((row["denied_by"] for row in rows if row["name"] == tool), "")
        near = difflib.get_close_matches(tool, [row["name"] for row in rows if not row["denied_by"]], n=1, cutoff=0.6)
        self._more = f"The provider offers it, but {denied} denies it to everyone." if denied else ""
        if not denied and near and near[0] != tool:
            self._more = f"Did you mean {near[0]}?"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from mcp_hangar.client import Refused

        if isinstance(error, Refused) and error.code == "unknown_tool" and self._more:
            error.problem["fix"] = f"{self._more} {error.problem.get('fix', '')}".strip()


def print_result(result: dict[str, Any]) -> None:
    """Text as text; what is not text as JSON."""
    content = result.get("content")
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict) and block.get("type") == "text":
            print(safe(block.get("text", "")))
        else:
            print_json(_shortened(block))
    if not content:
        print_json(result.get("structuredContent", {key: value for key, value in result.items() if key != "content"}))


def _shortened(block: Any) -> Any:
    """Images and sounds are not for reading."""
    if isinstance(block, dict) and isinstance(block.get("data"), str) and len(block["data"]) > 100:
        return {**block, "data": f"({len(block['data'])} characters of base64; --json has them)"}
    return block
