# SPDX-License-Identifier: MIT
"""Errors as they leave the house: one table from our codes to JSON-RPC and HTTP, in the words of each era."""

from __future__ import annotations

from typing import Any, Final

import structlog

from mcp_hangar.application.ids import new_call_id
from mcp_hangar.domain.errors import Denied, HangarError, ProtocolError, Unavailable
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.bridge import error_code
from mcp_hangar.domain.mcp.envelope import Json
from mcp_hangar.domain.mcp.eras import Era

log = structlog.get_logger(__name__)

_EXTRA: Final = {
    "version_unsupported": ("supported", "requested"),
    "capability_required": ("requiredCapabilities",),
}
_OPERATORS_ONLY: Final = frozenset({"start_failed", "provider_died", "provider_unreachable", "upstream_auth"})
"""Their details (paths, commands, a provider's stderr, addresses) are not for agents; the record and REST have them."""
_STATUS: Final = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
"""What the modern era says of a JSON-RPC error code."""
LEGACY_NOT_FOUND: Final = -32002


def error_member(error: HangarError, era: Era) -> bytes:
    """The `error` member of a JSON-RPC response."""
    code = error.row.rpc
    if era is Era.legacy and error.code == "unknown_resource":
        code = LEGACY_NOT_FOUND
    data: dict[str, Any] = error.data
    if error.code in _OPERATORS_ONLY:
        data["why"] = "The operator can see why."
    if error.code == "start_failed":
        data["fix"] = "Ask the operator, or use another provider."
    for fact in _EXTRA.get(error.code, ()):
        if fact in error.facts:
            data[fact] = error.facts[fact]
    if error.code == "unknown_resource":
        data["uri"] = error.facts.get("name")
    return envelope.error_value(code, error.what, data)


def http_status(error: HangarError, era: Era) -> int:
    """The HTTP status beside it. Legacy errors of a call travel in a 200, as that era has it."""
    row = error.row
    if row.rpc == -32600 or error.code in ("parse_error", "version_unsupported", "header_mismatch", "internal"):
        return row.http
    if era is Era.modern:
        return _STATUS.get(row.rpc, row.http if isinstance(error, Unavailable) else 200)
    return 200


def defect(error: Exception) -> ProtocolError:
    """What a client hears of an exception that should not have been: a reference, under which the log has the rest."""
    reference = new_call_id()
    log.error("request_failed_inside", reference=reference, exc_info=error)
    return ProtocolError("internal", reference=reference)


def upstream_status(error: Json, era: Era) -> int:
    """The HTTP status beside an error that a provider sent."""
    if era is Era.legacy:
        return 200
    return _STATUS.get(error_code(error), 200)


def tool_refusal(error: HangarError, era: Era) -> bytes | None:
    """A refusal that the model should read: an `isError` result that says why and what else may be done.

    None where the error must be a JSON-RPC error.
    """
    if not isinstance(error, Denied) or error.code not in ("denied", "limit"):
        return None
    value: dict[str, Any] = {"resultType": "complete"} if era is Era.modern else {}
    value["content"] = [{"type": "text", "text": f"{error.what} {error.why} {error.fix}".strip()}]
    value["isError"] = True
    value["_meta"] = {"io.mcp-hangar/refusal": error.data}
    return envelope.encode(value)
