# SPDX-License-Identifier: MIT
"""What a provider offers at one moment: tools, prompts, resources, templates; as it said them, as we expose them."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.envelope import Json, Members
from mcp_hangar.domain.mcp.headers import HeaderParam, header_params
from mcp_hangar.domain.mcp.names import LONGEST, Template, expose_name, expose_uri, read_template


class Kind(NamedTuple):
    """One of the four lists."""

    method: str
    member: str
    """The member of the result that holds the list."""
    key: str
    """The member that identifies an item."""
    capability: str
    changed: str
    """The notification that says it changed."""
    wanted: str
    """Its name in `subscriptions/listen`."""


TOOLS: Final = Kind("tools/list", "tools", "name", "tools", "notifications/tools/list_changed", "toolsListChanged")
PROMPTS: Final = Kind(
    "prompts/list", "prompts", "name", "prompts", "notifications/prompts/list_changed", "promptsListChanged"
)
RESOURCES: Final = Kind(
    "resources/list", "resources", "uri", "resources", "notifications/resources/list_changed", "resourcesListChanged"
)
TEMPLATES: Final = Kind(
    "resources/templates/list",
    "resourceTemplates",
    "uriTemplate",
    "resources",
    "notifications/resources/list_changed",
    "resourcesListChanged",
)
KINDS: Final = {kind.method: kind for kind in (TOOLS, PROMPTS, RESOURCES, TEMPLATES)}
CHANGED: Final[dict[str, tuple[Kind, ...]]] = {
    TOOLS.changed: (TOOLS,),
    PROMPTS.changed: (PROMPTS,),
    RESOURCES.changed: (RESOURCES, TEMPLATES),
}

_LEGACY_ONLY: Final = "execution"
_MODERN_ONLY: Final = "outputSchema"
"""Where it describes anything but an object: legacy clients refuse a whole list for one of those."""


class Item(msgspec.Struct, frozen=True):
    """One thing offered. `raw` is its definition as the provider wrote it."""

    name: str
    raw: bytes
    headers: tuple[HeaderParam, ...] = ()
    """Tools only: arguments mirrored into headers."""
    template: Template | None = None
    """Templates only."""


class Offer:
    """All that one provider offers (to one capability set), immutable but for `links`.

    `links` are URIs that passed in results: a provider may hand out resources that it does not list.
    """

    __slots__ = ("digest", "items", "links", "refused")
    MOST_LINKS: Final = 10_000
    LONGEST_LINK: Final = 8_192

    def __init__(self, items: dict[str, dict[str, Item]], refused: tuple[str, ...] = ()) -> None:
        self.items = items
        """By list method, then by name."""
        self.refused = refused
        """Tools left out because their definition is invalid, and why."""
        self.links: dict[str, None] = {}
        hasher = hashlib.sha256()
        for method in KINDS:
            for item in items.get(method, {}).values():
                hasher.update(item.raw)
            hasher.update(b"\0")
        self.digest = hasher.hexdigest()[:16]

    def of(self, kind: Kind) -> dict[str, Item]:
        return self.items.get(kind.method, {})

    def remember(self, uri: str) -> None:
        if len(uri) > self.LONGEST_LINK:
            return
        if len(self.links) >= self.MOST_LINKS:
            self.links.pop(next(iter(self.links)))
        self.links[uri] = None

    def knows_resource(self, uri: str) -> bool:
        if uri in self.of(RESOURCES) or uri in self.links:
            return True
        return any(item.template is not None and item.template.match(uri) for item in self.of(TEMPLATES).values())

    def has_template(self, template: str) -> bool:
        return template in self.of(TEMPLATES)

    def plain(self, provider: str, kind: Kind, exposed: str) -> str:
        """The provider's name for what `split_name` took off a hashed name, or the name itself."""
        items = self.of(kind)
        if exposed in items:
            return exposed
        full, shortened = f"{provider}__{exposed}", LONGEST - len(provider) - 2
        return next((name for name in items if len(name) > shortened and expose_name(provider, name) == full), exposed)


NOTHING: Final = Offer({})


def read_items(kind: Kind, raws: list[Json]) -> tuple[dict[str, Item], list[str]]:
    """Items from the definitions a provider listed, and what was refused. A repeated name keeps its first owner."""
    items: dict[str, Item] = {}
    refused: list[str] = []
    for raw in raws:
        try:
            parts = envelope.members(raw, "a definition")
        except RequestError as error:
            refused.append(f"an item of {kind.method}: {error.what}")
            continue
        name = envelope.text(parts.get(kind.key))
        if not name or name in items:
            refused.append(f"an item of {kind.method} without a {kind.key} of its own")
            continue
        template = read_template(name) if kind is TEMPLATES else None
        headers: tuple[HeaderParam, ...] | None = ()
        if kind is TOOLS and "inputSchema" in parts and b"x-mcp-header" in bytes(raw):
            headers = _mirrored(parts["inputSchema"])
        if headers is None:
            refused.append(f"tool {name}: its x-mcp-header annotations are invalid")
            continue
        items[name] = Item(name, bytes(raw), headers, template)
    return items, refused


def _mirrored(schema: Json) -> tuple[HeaderParam, ...] | None:
    try:
        return header_params(envelope.decode(schema))
    except envelope.UNREADABLE:
        return None


def expose_item(kind: Kind, item: Item, provider: str, prefixed: bool, modern: bool) -> bytes:
    """The definition as a client sees it: renamed if the door prefixes, without what its era does not know."""
    unknown = _LEGACY_ONLY if modern else _MODERN_ONLY
    strip = kind is TOOLS and b'"%b"' % unknown.encode() in item.raw
    ui = prefixed and kind is TOOLS and b"ui:" in item.raw
    if not prefixed and not strip:
        return item.raw
    parts: Members = envelope.members(item.raw)
    changed: dict[str, Json] = dict(parts)
    if strip and unknown in parts and (modern or not _is_object_schema(parts[unknown])):
        del changed[unknown]
    if prefixed:
        exposed = expose_name(provider, item.name) if kind.key == "name" else expose_uri(provider, item.name)
        changed[kind.key] = envelope.encode(exposed)
        if ui and "_meta" in parts:
            changed["_meta"] = _expose_ui(provider, parts["_meta"])
    return envelope.join(changed.items())


def _is_object_schema(schema: Json) -> bool:
    try:
        return envelope.text(envelope.members(schema).get("type")) == "object"
    except RequestError:
        return False


def _expose_ui(provider: str, raw: Json) -> bytes:
    """MCP Apps: `_meta.ui.resourceUri` (and its flat elder `ui/resourceUri`) follow the resource they name. What cannot
    be read names nothing."""
    try:
        return _renamed_ui(provider, raw)
    except RequestError:
        return bytes(raw)


def _renamed_ui(provider: str, raw: Json) -> bytes:
    meta: dict[str, Json] = dict(envelope.members(raw, "_meta"))
    flat = envelope.text(meta.get("ui/resourceUri"))
    if flat:
        meta["ui/resourceUri"] = envelope.encode(expose_uri(provider, flat))
    if "ui" in meta and bytes(meta["ui"])[:1] == b"{":
        inner: dict[str, Json] = dict(envelope.members(meta["ui"], "_meta.ui"))
        uri = envelope.text(inner.get("resourceUri"))
        if uri:
            inner["resourceUri"] = envelope.encode(expose_uri(provider, uri))
            meta["ui"] = envelope.join(inner.items())
    return envelope.join(meta.items())
