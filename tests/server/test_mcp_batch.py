# SPDX-License-Identifier: MIT
"""JSON-RPC batches, which 2025-03-26 alone has: each message takes the way it would take by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.house import fixture_server, house, remote_provider

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def request(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def opened(client: httpx.AsyncClient, url: str, version: str) -> dict[str, str]:
    hello = request(0, "initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "t", "version": "1"})
    answer = await client.post(url, json=hello, headers=HEADERS)
    assert answer.json()["result"]["protocolVersion"] == version
    return {**HEADERS, "mcp-session-id": answer.headers["mcp-session-id"]}


async def test_a_batch_is_answered_message_by_message_and_each_call_is_recorded(tmp_path: Path) -> None:
    providers = {"fixture": {**remote_provider(""), "tools": {"deny": ["test_error_handling"]}}}
    with fixture_server(tmp_path, "legacy") as server:
        providers["fixture"].update(remote_provider(server))
        with house(tmp_path, providers) as hangar:
            async with httpx.AsyncClient(timeout=30) as client:
                headers = await opened(client, hangar.url, "2025-03-26")
                batch = [
                    request(1, "ping"),
                    request("1", "tools/call", name="fixture__test_simple_text", arguments={}),
                    request(2, "tools/call", name="fixture__test_error_handling", arguments={}),
                    {"jsonrpc": "2.0", "method": "notifications/initialized"},
                    {"jsonrpc": "2.0", "id": 3, "method": 7},
                    request(4, "initialize"),
                ]
                answer = await client.post(hangar.url, json=batch, headers=headers)
                found = {repr(each["id"]): each for each in answer.json()}
                assert found["1"]["result"] == {}
                assert found["'1'"]["result"]["content"][0]["type"] == "text"
                assert found["2"]["error"]["code"] == -32602
                assert found["3"]["error"]["code"] == -32600
                assert found["4"]["error"]["code"] == -32600
                assert len(found) == 5
                only_notices = await client.post(hangar.url, json=[batch[3]], headers=headers)
                assert only_notices.status_code == 202
                assert (await client.post(hangar.url, json=[], headers=headers)).status_code == 400
            records = hangar.audit_until(lambda all: any(each["type"] == "call.completed" for each in all))
            assert [each["name"] for each in records if each["type"] == "call.completed"] == ["test_simple_text"]
            assert [event["name"] for event in hangar.audit("call.denied")] == ["test_error_handling"]


async def test_other_revisions_have_no_batches(tmp_path: Path) -> None:
    with fixture_server(tmp_path, "legacy") as server, house(tmp_path, {"fixture": remote_provider(server)}) as hangar:
        async with httpx.AsyncClient(timeout=30) as client:
            headers = await opened(client, hangar.url, "2025-11-25")
            for given in (headers, HEADERS):
                answer = await client.post(hangar.url, json=[request(1, "ping")], headers=given)
                assert answer.status_code == 400
                assert answer.json()["error"]["data"]["code"] == "batch_unsupported"
