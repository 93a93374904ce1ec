# SPDX-License-Identifier: MIT
"""`hangar call PROVIDER TOOL`: one call, on the same path as an agent's."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from mcp_hangar.server.cli.failing import FAILED
from mcp_hangar.server.cli.output import print_json, safe
from mcp_hangar.server.cli.reach import AsJson, Pid, Url, reach


def call(
    provider: Annotated[str, typer.Argument(help="The provider's name.")],
    tool: Annotated[str, typer.Argument(help="The tool, as the provider calls it.")],
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", "-a", metavar="KEY=VALUE", help="An argument; JSON if it is JSON, else a string."),
    ] = None,
    json_args: Annotated[
        str, typer.Option("--json-args", metavar="JSON", help="All arguments as one JSON object; - reads stdin.")
    ] = "",
    url: Url = "",
    pid: Pid = 0,
    as_json: AsJson = False,
) -> None:
    """Call a tool and print what it answers."""
    arguments = read_arguments(arg or [], json_args)
    with reach(url, pid, as_json) as hangar:
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


def read_arguments(pairs: list[str], whole: str) -> str:
    """The arguments as JSON text. Numbers keep their spelling."""
    if pairs and whole:
        raise typer.BadParameter("--arg and --json-args exclude each other")
    if whole:
        text = sys.stdin.read() if whole == "-" else whole
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(f"--json-args is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise typer.BadParameter("--json-args must be a JSON object")
        return text
    members: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--arg takes KEY=VALUE, not {pair!r}")
        if name in members:
            raise typer.BadParameter(f"--arg {name} is given twice")
        members[name] = value if _is_json(value) else json.dumps(value)
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}"


def _is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")  # NaN and Infinity are Python's own

    try:
        json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


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
