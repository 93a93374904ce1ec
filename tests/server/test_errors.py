# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from typing import Any

import pytest
import structlog

from mcp_hangar.domain.errors import (
    CODES,
    CallTimeout,
    Denied,
    HangarError,
    ProtocolError,
    RequestError,
    StartFailed,
    TransportError,
    Unavailable,
)
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.server.errors import defect, error_member, http_status, tool_refusal, upstream_status

SECRET = "/home/alice/.secret/server --token=abc"


def member(error: HangarError, era: Era = Era.modern) -> dict[str, Any]:
    found = json.loads(error_member(error, era))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("code", sorted(CODES))
@pytest.mark.parametrize("era", list(Era))
def test_every_code_says_what_why_and_how_to_fix_it(code: str, era: Era) -> None:
    found = member(HangarError(code, seconds=1.5), era)
    assert found["message"]
    assert found["data"]["code"] == code
    assert isinstance(found["code"], int)
    assert http_status(HangarError(code, seconds=1.5), era) in range(200, 600)
    own = found["code"] < -32768 or found["code"] > -32000
    assert own or found["code"] in (-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022, -32002)


@pytest.mark.parametrize(
    ("error", "code", "modern", "legacy"),
    [
        (RequestError("parse_error", detail="x"), -32700, 400, 400),
        (RequestError("invalid_request", detail="x"), -32600, 400, 400),
        (RequestError("batch_unsupported"), -32600, 400, 400),
        (RequestError("duplicate_key", key="a", where="b"), -32600, 400, 400),
        (RequestError("body_too_large", limit=1), -32600, 413, 413),
        (RequestError("header_mismatch", header="x", detail="y"), -32020, 400, 400),
        (RequestError("capability_required", detail="x"), -32021, 400, 200),
        (RequestError("version_unsupported", requested="1", supported=["2"]), -32022, 400, 400),
        (RequestError("method_not_found", method="x"), -32601, 404, 200),
        (RequestError("invalid_params", method="x", detail="y"), -32602, 400, 200),
        (RequestError("unknown_tool", name="x"), -32602, 400, 200),
        (RequestError("unknown_session"), -32600, 404, 404),
        (RequestError("unauthorized", token="x"), -32600, 401, 401),
        (RequestError("origin_refused"), -32600, 403, 403),
        (RequestError("host_refused"), -32600, 421, 421),
        (Unavailable("stopping"), -33003, 503, 200),
        (Unavailable("record_unavailable", detail="x"), -33007, 503, 200),
        (StartFailed("start_failed", provider="x", detail="y", fix="z"), -33003, 200, 200),
        (CallTimeout("timeout", name="x", provider="y", seconds=1), -33004, 200, 200),
        (ProtocolError("internal", reference="x"), -32603, 500, 500),
    ],
)
def test_codes_and_statuses_are_those_of_each_era(error: HangarError, code: int, modern: int, legacy: int) -> None:
    assert member(error)["code"] == code
    assert http_status(error, Era.modern) == modern
    assert http_status(error, Era.legacy) == legacy


def test_a_missing_resource_has_each_eras_code_and_names_its_uri() -> None:
    error = RequestError("unknown_resource", name="a:b")
    assert member(error, Era.modern)["code"] == -32602
    assert member(error, Era.legacy)["code"] == -32002
    assert member(error)["data"]["uri"] == "a:b"


def test_a_wrong_version_says_which_would_do() -> None:
    data = member(RequestError("version_unsupported", requested="1", supported=["2026-07-28"]))["data"]
    assert (data["requested"], data["supported"]) == ("1", ["2026-07-28"])
    needed: dict[str, Any] = {"extensions": {"x": {}}}
    error = RequestError("capability_required", detail="x", requiredCapabilities=needed)
    assert member(error)["data"]["requiredCapabilities"] == needed


@pytest.mark.parametrize("era", list(Era))
@pytest.mark.parametrize(
    "error",
    [
        StartFailed("start_failed", provider="time", detail=SECRET, fix=f"chmod +x {SECRET}"),
        TransportError("provider_died", provider="time", detail=SECRET),
        TransportError("provider_unreachable", provider="time", detail=SECRET),
        TransportError("upstream_auth", provider="time", detail=SECRET),
    ],
)
def test_an_agent_does_not_see_paths_addresses_or_stderr(error: HangarError, era: Era) -> None:
    text = error_member(error, era).decode()
    assert "secret" not in text
    assert "time" in text
    assert SECRET in error.why, "the operator does"


def test_a_matter_of_time_says_when_to_come_back() -> None:
    assert member(Denied("limit", limit="x", value=1, retry_after=30))["data"]["retryAfter"] == 30


@pytest.mark.parametrize("era", list(Era))
def test_a_refusal_is_a_result_for_the_model_to_read(era: Era) -> None:
    error = Denied("denied", name="drop", policy="p.tools.deny", reason="Because.", way_out="Ask Bob.")
    raw = tool_refusal(error, era)
    assert raw is not None
    result = json.loads(raw)
    assert result["isError"] is True
    assert ("resultType" in result) is (era is Era.modern)
    text = result["content"][0]["text"]
    for part in ("drop", "p.tools.deny", "Because.", "Ask Bob."):
        assert part in text
    assert result["_meta"]["io.mcp-hangar/refusal"]["code"] == "denied"
    limit = tool_refusal(Denied("limit", limit="x", value=1, retry_after=3), era)
    assert limit is not None
    assert json.loads(limit)["_meta"]["io.mcp-hangar/refusal"]["retryAfter"] == 3


def test_the_unknown_and_the_broken_are_errors_and_no_refusals() -> None:
    for error in (RequestError("unknown_tool", name="x"), Unavailable("stopping"), Denied("question_refused")):
        assert tool_refusal(error, Era.modern) is None


@pytest.mark.parametrize(
    ("raw", "modern"),
    [
        (b'{"code":-32602}', 400),
        (b'{"code":-32601}', 404),
        (b'{"code":-32603}', 200),
        (b'{"code":7}', 200),
        (b"7", 200),
    ],
)
def test_a_providers_error_has_the_status_of_its_code(raw: bytes, modern: int) -> None:
    assert upstream_status(raw, Era.modern) == modern
    assert upstream_status(raw, Era.legacy) == 200


def test_a_defect_tells_the_client_a_reference_and_the_log_the_rest() -> None:
    with structlog.testing.capture_logs() as logs:
        error = defect(ValueError(SECRET))
    assert "secret" not in error_member(error, Era.modern).decode()
    (entry,) = logs
    assert entry["reference"] in json.loads(error_member(error, Era.modern))["data"]["why"]
    assert isinstance(entry["exc_info"], ValueError)
