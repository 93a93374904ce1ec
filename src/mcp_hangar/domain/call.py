# SPDX-License-Identifier: MIT
"""What passes: one request, in either direction, with who asks, of whom, and until when.

Values on the call path are `msgspec.Struct`s: built in C, a tenth of a frozen dataclass
(docs/decisions/0002-values-on-the-path.md).
"""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from mcp_hangar.domain.mcp.eras import Era


class CallerType(enum.StrEnum):
    anonymous = "anonymous"
    token = "token"
    operator = "operator"
    provider = "provider"
    """A question on its way back: the provider is the one who asks."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The authenticated principal of a call. Anonymous is a value, not None."""

    id: str
    type: CallerType
    tenant: str = ""


ANONYMOUS: Final = Caller(id="anonymous", type=CallerType.anonymous)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Calls correlated for governance. `source` says whether the client named it or Hangar derived it."""

    id: str
    source: str = "explicit"
    """`explicit` or `inferred`."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a client declared, cut to what Hangar can carry. Part of what upstream state is keyed by."""

    key: str
    """Canonical JSON of the capabilities; equal keys, equal behaviour. `{}` for none."""

    def has(self, name: str) -> bool:
        """Whether the top-level capability (`elicitation`, `sampling`, `roots`) was declared."""
        return name in _declared(self.key)

    def extends(self, extension: str) -> bool:
        """Whether the extension was declared."""
        extensions = _declared(self.key).get("extensions")
        return extensions is not None and extension in extensions


_declared = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode


NO_CAPABILITIES: Final = Capabilities(key="{}")


class Call(msgspec.Struct, kw_only=True):
    """One request to be located, decided, forwarded and recorded.

    `name` is the plain name (tool, prompt, URI, task) as the provider knows it; `params` and `meta` hold the
    members as they came, undecoded, so that what is forwarded is byte for byte what was judged.
    """

    id: str
    method: str
    provider: str
    name: str
    caller: Caller
    session: Session
    era: Era
    """The client's, for this request."""
    capabilities: Capabilities
    params: dict[str, msgspec.Raw]
    meta: dict[str, msgspec.Raw]
    conversation: str = ""
    """What per-session upstream state goes by: our protocol session, or the client's connection."""
    trace: str = ""
    """W3C traceparent of the caller, or empty."""
    client: str = ""
    """`name/version` as the client says; unverified, for the record only."""
    client_info: msgspec.Raw | bytes = b"{}"
    """The client's `Implementation` object, as it came; unverified."""
    log_level: str = ""
    mirrored: list[tuple[bytes, bytes]] | None = None
    """The request's HTTP headers where the modern era mirrors arguments in them; None on other wires."""
    shown: str = ""
    """The name as the client knows it, for errors; empty if it is the same."""
    task: str = ""
    """Follow-ups of a task: the tool that began it, whose policy still holds."""
    retried: bool = False
    prefixed: bool = True
    """Whether names in the answer carry the provider (door /mcp) or are plain (door /mcp/NAME)."""
