# SPDX-License-Identifier: MIT
"""What can go wrong, told so that a person can act: what happened, why, how to fix it.

Each thing a user can meet is one row of `CODES`; its name is a promise (logs, REST, MCP and the docs
use it) and `docs/reference/errors.md` is generated from this table. The classes below are few: each
exists because some caller treats it differently. One table at the edge (`server/errors.py`) maps
them to HTTP and JSON-RPC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from mcp_hangar.domain import operator_codes

REFERENCE: Final = "docs/reference/errors.md"
"""Where every code has its anchor."""


@dataclass(frozen=True, slots=True)
class Code:
    """One row: what it says, and what it becomes on the wire."""

    what: str
    """What happened; `{facts}` are filled from the raise."""
    why: str
    fix: str
    rpc: int
    """JSON-RPC error code. Ours lie outside the reserved range -32768..-32000. 0: never sent over MCP."""
    http: int = 200
    """HTTP status on the agent plane where JSON-RPC does not decide it, and on REST."""
    exit: int = operator_codes.FAILED
    """Exit status of a command that ends with it."""


DENIED: Final = -33001
LIMIT: Final = -33002
UNAVAILABLE: Final = -33003
TIMEOUT: Final = -33004
CANCELLED: Final = -33005
UPSTREAM: Final = -33006
RECORD: Final = -33007
STATE: Final = -33008

CODES: Final[dict[str, Code]] = {
    # requests
    "parse_error": Code(
        "The body is not valid JSON: {detail}.",
        "MCP messages are JSON-RPC 2.0 objects in UTF-8.",
        "Send one JSON object; check quoting, encoding and that the body is complete.",
        -32700,
        400,
    ),
    "invalid_request": Code(
        "The message is not a JSON-RPC request: {detail}.",
        "Hangar judges what it can read for certain.",
        'Send `jsonrpc: "2.0"`, a string `method`, and a string or integer `id`.',
        -32600,
        400,
    ),
    "duplicate_key": Code(
        "The key {key} appears more than once in {where}.",
        "Two readers could understand two different calls, so what was judged might not be what is run.",
        "Send each key once.",
        -32600,
        400,
    ),
    "too_deep": Code(
        "The message nests deeper than {limit} levels.",
        "Depth is bounded by server.limits.depth.",
        "Send a flatter message, or raise server.limits.depth.",
        -32600,
        400,
    ),
    "body_too_large": Code(
        "The body is larger than {limit} bytes.",
        "Bodies are bounded by server.limits.body_bytes.",
        "Send less, or raise server.limits.body_bytes.",
        -32600,
        413,
    ),
    "batch_unsupported": Code(
        "JSON-RPC batches are not accepted.",
        "Only revision 2025-03-26 has them, and this is no session of that revision.",
        "Send each request in a message of its own, or use the tool hangar_invoke.",
        -32600,
        400,
    ),
    "invalid_params": Code(
        "The parameters of {method} are not valid: {detail}.",
        "The protocol fixes their shape.",
        "Correct the parameters named here.",
        -32602,
        400,
    ),
    "header_mismatch": Code(
        "The header {header} does not agree with the body: {detail}.",
        "Hangar decides on the body; a header that says otherwise could mislead what stands between.",
        "Send headers that mirror the body, each once.",
        -32020,
        400,
    ),
    "capability_required": Code(
        "The request needs a client capability that was not declared: {detail}.",
        "A server may only use what the client declares.",
        "Declare it in clientCapabilities.",
        -32021,
        400,
    ),
    "version_unsupported": Code(
        "Protocol version {requested} is not supported.",
        "Hangar speaks {supported}.",
        "Ask for one of the supported versions.",
        -32022,
        400,
    ),
    "method_not_found": Code(
        "There is no method {method}.",
        "Neither Hangar nor the revision in use knows it.",
        "Check the spelling and the protocol revision.",
        -32601,
        404,
    ),
    "unknown_tool": Code(
        "Unknown tool: {name}.",
        "No provider that this caller may see offers it.",
        "List the tools with tools/list (or hangar_tools) and use a name from there.",
        -32602,
        404,
    ),
    "unknown_prompt": Code(
        "Unknown prompt: {name}.",
        "No provider that this caller may see offers it.",
        "List the prompts with prompts/list and use a name from there.",
        -32602,
        404,
    ),
    "unknown_resource": Code(
        "Resource not found: {name}.",
        "No provider that this caller may see offers it.",
        "List the resources with resources/list and use a URI from there.",
        -32602,
        404,
    ),
    "unknown_task": Code(
        "There is no such task.",
        "It is unknown, over, or belongs to another caller.",
        "Use a task id as a call answered it.",
        -32602,
        400,
    ),
    "unknown_session": Code(
        "There is no such session.",
        "It ended, expired, was never opened here, or belongs to another caller.",
        "Send initialize again without a session id.",
        -32600,
        404,
    ),
    "session_required": Code(
        "The request carries no session.",
        "Legacy requests after initialize name their session.",
        "Send the Mcp-Session-Id header that initialize answered with.",
        -32600,
        400,
    ),
    "invalid_cursor": Code(
        "The cursor is not valid.",
        "It was not issued by Hangar for this list, or the list has changed since.",
        "Start again without a cursor.",
        -32602,
        400,
    ),
    "stale_cursor": Code(
        "The cursor is of an earlier run of Hangar.",
        "What it points into was kept in memory and is gone.",
        "Start again without a cursor; the audit trail has what was before.",
        -32602,
        409,
    ),
    "invalid_request_state": Code(
        "The requestState is not valid: {detail}.",
        "It must be sent back exactly as it was given, by the same caller, before it expires.",
        "Repeat the call without requestState.",
        -32602,
        400,
    ),
    "not_acceptable": Code(
        "The client does not accept {needed}.",
        "MCP answers may be JSON or an event stream.",
        "Send Accept: application/json, text/event-stream.",
        -32600,
        406,
    ),
    "unsupported_media_type": Code(
        "The content type is not application/json.",
        "MCP messages are JSON.",
        "Send Content-Type: application/json.",
        -32600,
        415,
    ),
    "host_refused": Code(
        "The Host header names a host that is not served here.",
        "A page on another name could otherwise reach this listener (DNS rebinding).",
        "Use the bound address, or add the name to server.allowed_hosts.",
        -32600,
        421,
    ),
    "origin_refused": Code(
        "The Origin is not allowed.",
        "Web pages elsewhere must not drive local providers.",
        "Add the origin to server.allowed_origins.",
        -32600,
        403,
    ),
    "unauthorized": Code(
        "The request carries no valid token.",
        "This door needs one.",
        "Send Authorization: Bearer with {token}.",
        -32600,
        401,
    ),
    "not_found": Code(
        "There is nothing at {path}.", "No door has this path.", "See /mcp, /mcp/NAME and /api/v1/docs.", -32600, 404
    ),
    "method_not_allowed": Code(
        "{method} is not possible at {path}.", "This door answers {allowed}.", "Use one of those.", -32600, 405
    ),
    "upgrade_required": Code(
        "{path} is a WebSocket.",
        "Events are streamed there; it answers no plain request.",
        "Connect with a WebSocket client, or read /api/v1/events.",
        -32600,
        426,
    ),
    "stream_message": Code(
        "The message is not one that the stream takes: {detail}.",
        "It takes `authenticate` first, then one `subscribe`.",
        "See docs/reference/stream.md.",
        -32600,
        400,
    ),
    "stream_silent": Code(
        "Nothing was said on the stream for {seconds:g} s.",
        "Whoever connects must authenticate and subscribe soon.",
        "Send both messages right after the connection is open.",
        -32600,
        408,
    ),
    "slow_reader": Code(
        "The reader of the stream fell too far behind.",
        "server.limits.stream_lag bounds how many events may wait for one reader.",
        "Resume from the last cursor; subscribe to less, or read faster.",
        LIMIT,
        429,
    ),
    # decisions and limits
    "denied": Code("The call to {name} was denied by {policy}.", "{reason}", "{way_out}", DENIED),
    "limit": Code(
        "{limit} is reached ({value}).",
        "It bounds what one caller or provider may take.",
        "Try again later, or raise {limit}.",
        LIMIT,
        429,
    ),
    "record_unavailable": Code(
        "The call was refused because it could not be recorded: {detail}.",
        "No call runs without a trace (events.on_overflow: refuse).",
        "Free the audit sink (disk, pipe), or set events.on_overflow: drop.",
        RECORD,
        503,
    ),
    # providers
    "unknown_provider": Code(
        "There is no provider called {name}.",
        "The configuration names: {known}.",
        "Use one of those, or add it to hangar.yaml.",
        -32602,
        404,
    ),
    "start_failed": Code("Provider {provider} could not be started.", "{detail}", "{fix}", UNAVAILABLE, 503),
    "provider_died": Code(
        "Provider {provider} ended while the call was running.",
        "{detail}",
        "See `hangar logs {provider}`; the next call starts it again.",
        UPSTREAM,
        502,
    ),
    "provider_unreachable": Code(
        "Provider {provider} cannot be reached.",
        "{detail}",
        "Check its url, that it is running, and the network between.",
        UPSTREAM,
        502,
    ),
    "provider_protocol": Code(
        "Provider {provider} sent what Hangar cannot accept.",
        "{detail}",
        "See `hangar logs {provider}`; report it to the server's authors.",
        UPSTREAM,
        502,
    ),
    "message_too_large": Code(
        "Provider {provider} sent more than {limit} bytes in one message.",
        "limits.message_bytes bounds a message.",
        "Ask for less, or raise limits.message_bytes of the provider.",
        UPSTREAM,
        502,
    ),
    "upstream_auth": Code(
        "Provider {provider} refused Hangar's credentials.",
        "{detail}",
        "Check headers or auth of the provider in hangar.yaml.",
        UPSTREAM,
        502,
    ),
    "upstream_status": Code(
        "Provider {provider} answered with HTTP status {status}.",
        "{detail}",
        "Check its url in hangar.yaml, and the server's own log.",
        UPSTREAM,
        502,
    ),
    "connection_lost": Code(
        "The connection to provider {provider} was lost while the call was running.",
        "{detail}",
        "The call may have run; repeat it if that does no harm.",
        UPSTREAM,
        502,
    ),
    "session_expired": Code(
        "Provider {provider} no longer knows its session.",
        "It restarted or expired the session.",
        "Repeat the call; Hangar has opened a new session.",
        UPSTREAM,
        502,
    ),
    "timeout": Code(
        "{name} did not answer within {seconds:g} s.",
        "limits.call_timeout of provider {provider} ended the call.",
        "Ask for less, or raise limits.call_timeout.",
        TIMEOUT,
        504,
    ),
    "batch_timeout": Code(
        "The call did not answer within {seconds:g} s.",
        "The timeout of the batch ended it.",
        "Give hangar_invoke a longer timeout, or ask for less.",
        TIMEOUT,
        504,
    ),
    "cancelled": Code("The call was cancelled.", "{detail}", "Nothing to do, unless it was not meant.", CANCELLED, 499),
    "question_timeout": Code(
        "The client did not answer {method} within {seconds:g} s.",
        "A provider waits for the answer; its call is held only for so long.",
        "Repeat the call, and answer sooner.",
        TIMEOUT,
        504,
    ),
    "question_refused": Code(
        "The provider's question ({method}) was refused: {detail}.",
        "A question goes only to a client that declared the capability and has the call open.",
        "Use a client that supports it.",
        STATE,
        409,
    ),
    "state_refused": Code(
        "The state in {directory} cannot be used: {detail}.",
        "It holds what a restart must not forget, so it is never replaced in silence.",
        "{fix}",
        STATE,
        503,
    ),
    "unknown_call": Code(
        "No call {id} is known.",
        "Views keep the newest events.keep bytes, and only of this run.",
        "Look in the audit trail, or list the calls with /api/v1/calls.",
        -32602,
        404,
    ),
    "session_unknown_here": Code(
        "No session {id} is known.",
        "Views keep the sessions of this run that were used last.",
        "List them with /api/v1/sessions, or look in the audit trail.",
        -32602,
        404,
    ),
    "stopping": Code(
        "Hangar is stopping.",
        "It was asked to; calls in flight are being finished.",
        "Try again once it is back.",
        UNAVAILABLE,
        503,
    ),
    "provider_stopped": Code(
        "Provider {provider} was stopped by an operator.",
        "`hangar stop` holds until `hangar start`.",
        "Run `hangar start {provider}`.",
        UNAVAILABLE,
        409,
    ),
    "internal": Code(
        "Hangar failed to handle the request.",
        "This is a defect in Hangar; the log has the details under {reference}.",
        "Report it with the reference.",
        -32603,
        500,
    ),
    # the command line
    **{name: Code(what, why, fix, 0, 500, exit) for name, (what, why, fix, exit) in operator_codes.ROWS.items()},
}


class HangarError(Exception):
    """The root. `code` is a key of `CODES`; `facts` fill its sentences."""

    retryable: ClassVar[bool] = False
    """True where the request surely was not executed, so sending it again is safe."""

    def __init__(self, code: str, **facts: object) -> None:
        self.code = code
        self.facts = facts
        super().__init__(self.what)

    @property
    def row(self) -> Code:
        return CODES[self.code]

    @property
    def what(self) -> str:
        return self.row.what.format_map(_Facts(self.facts))

    @property
    def why(self) -> str:
        return self.row.why.format_map(_Facts(self.facts))

    @property
    def fix(self) -> str:
        return self.row.fix.format_map(_Facts(self.facts))

    @property
    def link(self) -> str:
        """Where the docs tell of it."""
        return f"{REFERENCE}#{self.code}"

    @property
    def data(self) -> dict[str, object]:
        """What goes along on the wire: code, why, fix, and (where it is a matter of time) retry_after in seconds."""
        data: dict[str, object] = {"code": self.code, "why": self.why, "fix": self.fix}
        if "retry_after" in self.facts:
            data["retryAfter"] = self.facts["retry_after"]
        return data


class _Facts(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "unknown"


class RequestError(HangarError):
    """The client asked for something that cannot be: its message, its names, its headers."""


class Denied(HangarError):
    """A policy, a restriction or a limit refused a call; the event says `call.denied`."""


class Unavailable(HangarError):
    """Hangar itself cannot take the call now (record full, stopping, provider held)."""


class StartFailed(HangarError):
    """A provider did not become ready; nothing was sent."""

    retryable = True


class SessionExpired(HangarError):
    """Upstream does not know our session (any more); nothing was executed."""

    retryable = True


class Unsent(HangarError):
    """The connection failed before a byte of the request was written; nothing was executed."""

    retryable = True


class ProviderDied(HangarError):
    """The provider's process or stream ended with the call under way."""


class TransportError(HangarError):
    """The way to the provider failed with the call under way; it may have run."""


class ProtocolError(HangarError):
    """The provider answered something that is not MCP, or is over a bound."""


class CallTimeout(HangarError):
    """The deadline passed."""


class CallCancelled(HangarError):
    """The client went away or cancelled."""


class ConfigError(Exception):
    """The configuration cannot be used. Each problem has a place and a fix."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """One mistake in the configuration. `line` and `column` count from 1; 0 where there is no place."""

    what: str
    fix: str
    code: str
    """A key of `CODES`."""
    file: str = ""
    line: int = 0
    column: int = 0

    @property
    def link(self) -> str:
        return f"{REFERENCE}#{self.code}"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else (f"{self.file}: " if self.file else "")
        return f"{place}{self.what} {self.fix}".rstrip() + f" [{self.code}]"
