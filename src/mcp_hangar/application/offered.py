# SPDX-License-Identifier: MIT
"""Tools, prompts and resources as people look at them from outside: all providers together, searched, page by page.

What is known is answered; no provider is started or asked. Rows are made once per offer, since views are polled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.catalogue import PROMPTS, RESOURCES, TEMPLATES, TOOLS, Item, Kind, Offer
from mcp_hangar.domain.provider import Provider

_LONGEST_KEY: Final = 500


class ToolRow(msgspec.Struct, frozen=True, kw_only=True):
    provider: str
    name: str
    title: str
    description: str
    denied_by: str
    """The policy that denies it to everyone; empty if none does."""
    definition: msgspec.Raw
    """As the provider wrote it."""


class PromptRow(msgspec.Struct, frozen=True, kw_only=True):
    provider: str
    name: str
    title: str
    description: str
    definition: msgspec.Raw
    """As the provider wrote it."""


class ResourceRow(msgspec.Struct, frozen=True, kw_only=True):
    provider: str
    uri: str
    """The URI, or of a template its pattern."""
    template: bool
    name: str
    title: str
    description: str
    mime_type: str
    definition: msgspec.Raw
    """As the provider wrote it."""


class ToolList(msgspec.Struct, frozen=True, kw_only=True):
    tools: list[ToolRow]
    """By provider, then by name."""
    unknown: list[str]
    """Providers whose offer is not known yet, since they were never started."""
    cursor: str = ""
    """Ask for the next page with it; empty: there is none."""


class PromptList(msgspec.Struct, frozen=True, kw_only=True):
    prompts: list[PromptRow]
    """By provider, then by name."""
    unknown: list[str]
    """Providers whose offer is not known yet, since they were never started."""
    cursor: str = ""
    """Ask for the next page with it; empty: there is none."""


class ResourceList(msgspec.Struct, frozen=True, kw_only=True):
    resources: list[ResourceRow]
    """Resources and templates, by provider, then by URI."""
    unknown: list[str]
    """Providers whose offer is not known yet, since they were never started."""
    cursor: str = ""
    """Ask for the next page with it; empty: there is none."""


Row = TypeVar("Row")


def page_of(
    rows: Iterable[Row], key: Callable[[Row], tuple[str, str]], cursor: str, limit: int
) -> tuple[list[Row], str]:
    """The rows after a cursor (`provider/key` of the last row seen), in the order of their keys, and the next cursor.

    Rows may come and go between two pages: none that stays is told twice or left out.
    """
    head, _, tail = cursor.partition("/")
    after = (head, tail)
    chosen = sorted(((key(row), number, row) for number, row in enumerate(rows)), key=lambda each: each[:2])
    left = [(place, row) for place, _, row in chosen if not cursor or place > after]
    found = [row for _, row in left[:limit]]
    return found, "/".join(left[limit - 1][0]) if len(left) > limit else ""


def place(provider: str, name: str) -> tuple[str, str]:
    """Where a row stands. A name may be as long as its provider likes; a cursor may not."""
    if len(name) > _LONGEST_KEY:
        name = name[:_LONGEST_KEY] + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    return provider, name


class Offered:
    """`offer` and `denied_by` are asked per provider: what it is known to offer, and which policy denies a tool."""

    def __init__(
        self,
        *,
        providers: Callable[[], Mapping[str, Provider]],
        offer: Callable[[Provider], Offer | None],
        denied_by: Callable[[Provider, str], str],
    ) -> None:
        self._providers, self.offer, self._denied_by = providers, offer, denied_by
        self._rows: dict[tuple[str, str], tuple[Offer, list[dict[str, Any]]]] = {}

    def named(self, name: str) -> Provider:
        providers = self._providers()
        if name not in providers:
            raise RequestError("unknown_provider", name=name, known=", ".join(sorted(providers)) or "none")
        return providers[name]

    def tools(self, provider: str, query: str, cursor: str, limit: int) -> ToolList:
        rows, unknown = self._find((TOOLS,), provider, query)
        found, following = page_of(rows, _by_name, cursor, limit)
        tools = [
            ToolRow(**_without(row, "template"), denied_by=self._denied_by(self.named(row["provider"]), row["name"]))
            for row in found
        ]
        return ToolList(tools=tools, unknown=unknown, cursor=following)

    def prompts(self, provider: str, query: str, cursor: str, limit: int) -> PromptList:
        rows, unknown = self._find((PROMPTS,), provider, query)
        found, following = page_of(rows, _by_name, cursor, limit)
        prompts = [PromptRow(**_without(row, "template")) for row in found]
        return PromptList(prompts=prompts, unknown=unknown, cursor=following)

    def resources(self, provider: str, query: str, template: bool | None, cursor: str, limit: int) -> ResourceList:
        kinds = tuple(kind for kind in (RESOURCES, TEMPLATES) if template in (None, kind is TEMPLATES))
        rows, unknown = self._find(kinds, provider, query)
        found, following = page_of(rows, lambda row: place(row["provider"], row["uri"]), cursor, limit)
        return ResourceList(resources=[ResourceRow(**row) for row in found], unknown=unknown, cursor=following)

    def _find(self, kinds: tuple[Kind, ...], provider: str, query: str) -> tuple[list[dict[str, Any]], list[str]]:
        chosen = [self.named(provider)] if provider else [one for _, one in sorted(self._providers().items())]
        words = query.lower().split()
        found: list[dict[str, Any]] = []
        unknown: list[str] = []
        for one in chosen:
            offer = self.offer(one)
            if offer is None:
                unknown.append(one.name)
                continue
            for kind in kinds:
                found += [row for row in self._of(one, kind, offer) if _contains(row, words)]
        return found, unknown

    def _of(self, provider: Provider, kind: Kind, offer: Offer) -> list[dict[str, Any]]:
        known = self._rows.get((provider.name, kind.method))
        if known is None or known[0] is not offer:
            rows = [_row(provider.name, kind, name, item) for name, item in offer.of(kind).items()]
            known = self._rows[provider.name, kind.method] = (offer, rows)
        return known[1]


def _row(provider: str, kind: Kind, name: str, item: Item) -> dict[str, Any]:
    definition: dict[str, Any] = msgspec.json.decode(item.raw)

    def text(member: str) -> str:
        value = definition.get(member)
        return value if isinstance(value, str) else ""

    row = {
        "provider": provider,
        "name": text("name"),
        "title": text("title"),
        "description": text("description"),
        "definition": msgspec.Raw(item.raw),
        "template": kind is TEMPLATES,
    }
    return row | {"uri": name, "mime_type": text("mimeType")} if kind.key != "name" else row


def _by_name(row: dict[str, Any]) -> tuple[str, str]:
    return place(row["provider"], row["name"])


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _contains(row: dict[str, Any], words: list[str]) -> bool:
    if not words:
        return True
    text = f"{row.get('uri', '')} {row['name']} {row['title']} {row['description']}".lower()
    return all(word in text for word in words)
