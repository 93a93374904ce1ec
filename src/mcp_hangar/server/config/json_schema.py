# SPDX-License-Identifier: MIT
"""The JSON Schema of the file (draft 2020-12), for editors: pydantic's, without noise and with room for `${…}`."""

from __future__ import annotations

from typing import Any

from mcp_hangar.server.config.schema import (
    PROVIDER_NAME,
    REMOTE_KEYS,
    SECRETS,
    SUBPROCESS_KEYS,
    ConfigFile,
    Section,
    known_keys,
    section_at,
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = ConfigFile.model_json_schema()
    bodies = {section: schema["$defs"][section.__name__] for section in _sections()} | {ConfigFile: schema}
    for section, body in bodies.items():
        defaults = section.model_construct().model_dump(mode="json", warnings=False)
        for name, entry in body["properties"].items():
            body["properties"][name] = _tidy(entry, section.model_fields[name], defaults.get(name))
    for path in SECRETS:
        section_found = section_at(path[:-1] if path[-1] != "*" else path[:-2])
        if section_found:
            key = path[-1] if path[-1] != "*" else path[-2]
            schema["$defs"][section_found.__name__]["properties"][key]["writeOnly"] = True
    schema["properties"]["providers"]["propertyNames"] = {"pattern": f"^{PROVIDER_NAME}$", "not": {"const": "hangar"}}
    schema["$defs"]["ProviderSection"]["allOf"] = [
        _only("subprocess", "command", REMOTE_KEYS),
        _only("remote", "url", SUBPROCESS_KEYS),
    ]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hangar.yaml"}


def _sections() -> set[type[Section]]:
    places = [place for path in known_keys() for place in (path, (*path, "*"))]
    return {section for section in map(section_at, places) if section is not None}


def _only(mode: str, needed: str, others: tuple[str, ...]) -> dict[str, Any]:
    return {
        "if": {"properties": {"mode": {"const": mode}}, "required": ["mode"]},
        "then": {"required": [needed], "properties": dict.fromkeys(others, False)},
    }


def _tidy(entry: dict[str, Any], field: Any, default: object) -> dict[str, Any]:
    """One property: no titles, a default as it would be written, and room for `${…}` where text is not the type."""
    entry.pop("title", None)
    entry.pop("default", None)
    entry["description"] = field.description
    options = [option for option in entry.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        entry.pop("anyOf")
        entry.update(options[0])
    if "$ref" not in entry and default not in (None, "", [], {}):
        entry["default"] = default
    if entry.get("type") == "integer" or "pattern" in entry or "enum" in entry or len(options) > 1:
        narrow = {
            key: entry.pop(key) for key in ("type", "pattern", "enum", "minimum", "maximum", "anyOf") if key in entry
        }
        wide = narrow.get("anyOf", [narrow])
        entry["anyOf"] = [*wide, {"type": "string", "pattern": r"\$\{"}]
    return entry
