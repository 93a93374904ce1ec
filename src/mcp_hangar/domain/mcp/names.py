# SPDX-License-Identifier: MIT
"""Names as clients see them, and the way back: `{provider}__{tool}`, `{provider}+{uri}`, `ui://{provider}/…`.

A name depends on its provider and itself alone, so it never changes because another provider appeared.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

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


def template_pattern(template: str) -> re.Pattern[str]:
    """What URIs an RFC 6570 template may expand to, generously: an expression is any text, a plain `{x}` has no `/`."""
    parts: list[str] = []
    for literal, expression in re.findall(r"([^{}]*)(?:\{([^{}]*)\})?", template):
        parts.append(re.escape(literal))
        if expression:
            parts.append(r".*?" if expression[0] in "+#/?&;." or expression.endswith("*") else r"[^/]+?")
    return re.compile("".join(parts) + r"\Z", re.DOTALL)
