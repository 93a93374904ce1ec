# SPDX-License-Identifier: MIT
"""Names as clients see them, and the way back: `{provider}__{tool}`, `{provider}+{uri}`, `ui://{provider}/…`.

A name depends on its provider and itself alone, so it never changes because another provider appeared.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

PROVIDER_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?\Z")
RESERVED: Final = frozenset({"hangar"})
LONGEST: Final = 64
"""What many model APIs accept of a tool name."""
_UI: Final = "ui://"


def expose_name(provider: str, name: str) -> str:
    """`{provider}__{name}`; over 64 characters the end gives way to a hash of the whole, so names stay distinct."""
    full = f"{provider}__{name}"
    if len(full) <= LONGEST:
        return full
    return f"{full[: LONGEST - 9]}_{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def split_name(exposed: str) -> tuple[str, str]:
    """(provider, name) of an exposed name; provider is empty if there is none. Providers contain no underscore, so
    the first `__` parts them. A hashed name comes back as it stands: `Offer` knows what it stands for."""
    provider, mark, name = exposed.partition("__")
    if not mark or not PROVIDER_NAME.match(provider):
        return "", exposed
    return provider, name


def expose_uri(provider: str, uri: str) -> str:
    """`{provider}+{uri}`; `ui://x` becomes `ui://{provider}/x`, since clients look at that scheme."""
    if uri.startswith(_UI):
        return f"{_UI}{provider}/{uri[len(_UI) :]}"
    return f"{provider}+{uri}"


def split_uri(exposed: str) -> tuple[str, str]:
    """(provider, uri) of an exposed URI or template; provider is empty if there is none."""
    if exposed.startswith(_UI):
        provider, mark, rest = exposed[len(_UI) :].partition("/")
        return (provider, _UI + rest) if mark and PROVIDER_NAME.match(provider) else ("", exposed)
    provider, mark, uri = exposed.partition("+")
    if not mark or not PROVIDER_NAME.match(provider):
        return "", exposed
    return provider, uri


class Template(NamedTuple):
    """What URIs an RFC 6570 template may expand to, generously: an expression is any text, but a plain `{x}` before
    the first such has no `/` and is not empty."""

    first: str
    rest: tuple[tuple[bool, str], ...]
    """Expressions in order, each with the text after it; True for any text."""

    def match(self, uri: str) -> bool:
        """In linear time: providers write templates, clients write URIs. Each text is taken where it first occurs,
        which leaves most to what follows; the last one must be the end."""
        if not self.rest:
            return uri == self.first
        if not uri.startswith(self.first):
            return False
        position, last = len(self.first), len(self.rest) - 1
        for number, (anything, text) in enumerate(self.rest):
            least = position if anything else position + 1
            found = len(uri) - len(text) if number == last and uri.endswith(text) else uri.find(text, least)
            if found < least or (number == last and found + len(text) != len(uri)):
                return False
            if not anything and uri.find("/", position, found) >= 0:
                return False
            position = found + len(text)
        return True


_EXPRESSION: Final = re.compile(r"\{([^{}]+)\}")


def read_template(template: str) -> Template:
    """Braces that belong to no expression stand for themselves."""
    first, *pieces = _EXPRESSION.split(template)
    rest: list[tuple[bool, str]] = []
    anything = False
    for expression, text in zip(pieces[::2], pieces[1::2], strict=True):
        anything = anything or expression[0] in "+#/?&;." or expression.endswith("*")
        rest.append((anything, text))
    return Template(first, tuple(rest))
