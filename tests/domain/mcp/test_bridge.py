# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_hangar.domain.call import ANONYMOUS, NO_CAPABILITIES, Call, Capabilities, Session
from mcp_hangar.domain.errors import ProtocolError, RequestError
from mcp_hangar.domain.mcp import envelope
from mcp_hangar.domain.mcp.bridge import (
    carried,
    error_back,
    error_code,
    linked_uris,
    log_passes,
    progress_back,
    request_out,
    result_back,
)
from mcp_hangar.domain.mcp.envelope import Raw
from mcp_hangar.domain.mcp.eras import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    LOG_LEVEL,
    LOG_LEVELS,
    MODERN_VERSION,
    PROTOCOL_VERSION,
    SERVER_INFO,
    Era,
)
from mcp_hangar.domain.mcp.names import split_uri
from mcp_hangar.domain.mcp.tasks import EXTENSION as TASKS
from mcp_hangar.domain.mcp.tasks import RELATED
from tests.domain.mcp.json_texts import objects, pairs_of, texts

eras = st.sampled_from(list(Era))
INFO = {"name": "upstream", "version": "1"}
TASK_ABLE = Capabilities(key=json.dumps({"extensions": {TASKS: {}}}, separators=(",", ":")))


def members(text: str) -> dict[str, Raw]:
    return envelope.members(text.encode())


def a_call(
    method: str = "tools/call",
    *,
    era: Era = Era.modern,
    params: str = '{"name":"echo"}',
    meta: str = "{}",
    prefixed: bool = True,
    **more: Any,
) -> Call:
    more.setdefault("capabilities", NO_CAPABILITIES)
    more.setdefault("name", "echo")
    return Call(
        id="c-1",
        method=method,
        provider="time",
        caller=ANONYMOUS,
        session=Session(id="s"),
        era=era,
        params=members(params),
        meta=members(meta),
        prefixed=prefixed,
        **more,
    )


def sent(call: Call, era: Era, number: int = 7) -> tuple[dict[str, Any], dict[str, str]]:
    payload, lines = request_out(call, era, number)
    headers = dict(line.split(": ", 1) for line in lines.decode("ascii").split("\r\n") if line)
    found = envelope.read_strictly(payload, "the request")
    assert isinstance(found, dict)
    return found, headers


def back(call: Call, upstream: Era, result: Any) -> dict[str, Any]:
    raw = result if isinstance(result, bytes) else json.dumps(result).encode()
    found = json.loads(bytes(result_back(call, upstream, raw, INFO)[0]))
    assert isinstance(found, dict)
    return found


# -- requests


@given(eras, eras, objects(texts, st.sampled_from(["a", "é", "name", "_meta", 'q"'])))
@example(Era.legacy, Era.modern, '{"n":1.50,"big":' + "9" * 400 + "}")
def test_arguments_reach_the_provider_byte_for_byte(client: Era, upstream: Era, arguments: str) -> None:
    call = a_call(era=client, params=f'{{"name":"echo","arguments":{arguments},"ünknown":[1.0]}}')
    payload, _ = request_out(call, upstream, 7)
    params = envelope.members(envelope.members(payload)["params"])
    assert bytes(params["arguments"]) == arguments.encode()
    assert bytes(params["ünknown"]) == b"[1.0]"
    assert list(params)[:3] == ["name", "arguments", "ünknown"]


def test_absent_arguments_are_not_invented() -> None:
    for era in Era:
        assert "arguments" not in sent(a_call(), era)[0]["params"]


@given(st.text(st.characters(exclude_categories=["Cs"])), eras)
@example('info"},"name":"drop","x":{"y":"', Era.modern)
def test_no_text_of_a_client_can_rewrite_what_was_judged(text: str, era: Era) -> None:
    meta = json.dumps({text or "x": "v"}) if not text.startswith(("io.m", "progressToken", "traceparent")) else "{}"
    info = json.dumps({"name": text, "version": "1"}).encode()
    call = a_call("resources/read", name=text, log_level=text, client_info=info, meta=meta, params="{}")
    message, headers = sent(call, era)
    assert set(message) == {"jsonrpc", "id", "method", "params"}
    assert set(message["params"]) <= {"_meta"}
    if era is Era.modern:
        assert message["params"]["_meta"][CLIENT_INFO]["name"] == text
        assert message["params"]["_meta"].get(LOG_LEVEL, "") == text
        assert set(headers) == {"Mcp-Method", "Mcp-Name"}


def test_a_modern_provider_hears_the_callers_own_envelope() -> None:
    capabilities = carried(b'{"sampling":{},"elicitation":{"form":{}}}', legacy=False)
    meta = json.dumps(
        {
            PROTOCOL_VERSION: "2099-01-01",
            CLIENT_CAPABILITIES: {"roots": {}},
            "io.mcp-hangar/session": "s",
            "io.mcp-hangar/caller": "root",
            RELATED: {"taskId": "t"},
            "vendor/key": 1.5,
            "progressToken": "mine",
            "baggage": "a=b",
        }
    )
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    call = a_call(era=Era.legacy, capabilities=capabilities, meta=meta, trace=trace, client_info=b'{"name":"c"}')
    message, headers = sent(call, Era.modern)
    assert message["params"]["_meta"] == {
        PROTOCOL_VERSION: MODERN_VERSION,
        CLIENT_CAPABILITIES: {"sampling": {}, "elicitation": {"form": {}}},
        CLIENT_INFO: {"name": "c"},
        LOG_LEVEL: "info",
        "vendor/key": 1.5,
        "progressToken": 7,
        "baggage": "a=b",
        "traceparent": trace,
    }
    assert headers == {"Mcp-Method": "tools/call", "Mcp-Name": "echo", "traceparent": trace}


def test_a_legacy_provider_hears_nothing_of_the_modern_protocol() -> None:
    meta = json.dumps({PROTOCOL_VERSION: MODERN_VERSION, CLIENT_CAPABILITIES: {}, "vendor/key": 1})
    call = a_call(meta=meta, params='{"name":"echo","requestState":"s","inputResponses":{},"more":1}')
    message, headers = sent(call, Era.legacy)
    assert message == {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "echo", "more": 1, "_meta": {"vendor/key": 1}},
    }
    assert headers == {}


def test_a_modern_client_that_asked_for_no_log_gets_none() -> None:
    assert LOG_LEVEL not in sent(a_call(), Era.modern)[0]["params"]["_meta"]
    assert sent(a_call(log_level="error"), Era.modern)[0]["params"]["_meta"][LOG_LEVEL] == "error"
    assert sent(a_call(era=Era.legacy, log_level="error"), Era.modern)[0]["params"]["_meta"][LOG_LEVEL] == "error"


def test_a_task_is_asked_for_only_within_an_era() -> None:
    call = a_call(
        era=Era.legacy, params='{"name":"echo","task":{"ttl":1}}', meta=json.dumps({RELATED: {"taskId": "t"}})
    )
    assert sent(call, Era.legacy)[0]["params"] == {
        "name": "echo",
        "task": {"ttl": 1},
        "_meta": {RELATED: {"taskId": "t"}},
    }
    assert "task" not in sent(call, Era.modern)[0]["params"]
    assert RELATED not in sent(call, Era.modern)[0]["params"]["_meta"]


def test_a_token_that_the_client_did_not_send_is_not_added() -> None:
    assert "_meta" not in sent(a_call(), Era.legacy)[0]["params"]
    assert sent(a_call(meta='{"progressToken":1}'), Era.legacy, 9)[0]["params"]["_meta"] == {"progressToken": 9}


# -- results


untouched = st.one_of(texts, st.sampled_from(['[{"type":"text","text":"a"}]', "1.50", "9" * 400]))


@given(eras, st.booleans(), objects(untouched, st.sampled_from(["content", "structuredContent", "é", "x"])))
def test_a_result_within_an_era_is_the_same_bytes(era: Era, prefixed: bool, text: str) -> None:
    if "\\u00" in text:
        return
    raw = Raw(text.encode())
    result, outcome, special = result_back(a_call(era=era, prefixed=prefixed), era, raw, INFO)
    assert result is raw
    assert (outcome, special) == ("ok", False)


def a_block_repeats_a_key(text: str) -> bool:
    """Whether a block of the content, in which a URI would be renamed, could be read in two ways."""
    content = dict(pairs_of(text)).get("content")
    blocks = [block for block in content if isinstance(block, list)] if isinstance(content, list) else []
    keys = [[pair[0] for pair in block if isinstance(pair, tuple)] for block in blocks]  # an object is a list of pairs
    return any(len(set(each)) != len(each) for each in keys)


@given(st.booleans(), objects(texts, st.sampled_from(["content", "é", "x", "isErrors"])))
@example(True, '{"n":1.50,"m":1e2,"s":"\\u00e9","big":' + "9" * 5000 + "}")
@example(False, '{"x":"\\u0041","y":1.0}')
@example(True, '{"content":[{"":0,"":0}]}')
def test_unknown_members_cross_the_eras_spelled_as_they_came(prefixed: bool, text: str) -> None:
    pairs = pairs_of(text)
    unclear = len(dict(pairs)) != len(pairs) or (prefixed and a_block_repeats_a_key(text))
    for client, upstream in ((Era.modern, Era.legacy), (Era.legacy, Era.modern), (Era.modern, Era.modern)):
        call = a_call(era=client, prefixed=prefixed)
        if unclear and client is not upstream:
            with pytest.raises(ProtocolError):
                result_back(call, upstream, text.encode(), INFO)
            return
        if unclear:
            return
        result = bytes(result_back(call, upstream, text.encode(), INFO)[0]).decode()
        kept = [pair for pair in pairs_of(result) if pair[0] not in ("resultType", "_meta")]
        assert kept == pairs


def test_a_legacy_result_is_completed_for_a_modern_client() -> None:
    assert back(a_call(), Era.legacy, {"content": [], "_meta": {"vendor/key": 1}}) == {
        "resultType": "complete",
        "content": [],
        "_meta": {"vendor/key": 1, SERVER_INFO: INFO},
    }
    read = back(a_call("resources/read", params="{}"), Era.legacy, {"contents": []})
    assert (read["ttlMs"], read["cacheScope"]) == (0, "private")
    odd = back(a_call(), Era.legacy, {"content": [], "_meta": None})
    assert odd["_meta"] == {SERVER_INFO: INFO}


def test_a_modern_result_is_plain_for_a_legacy_client() -> None:
    result = {
        "resultType": "complete",
        "ttlMs": 5,
        "cacheScope": "public",
        "content": [],
        "structuredContent": {"a": 1},
        "_meta": {SERVER_INFO: INFO, "vendor/key": 1},
    }
    expected = {"content": [], "structuredContent": {"a": 1}, "_meta": {"vendor/key": 1}}
    assert back(a_call(era=Era.legacy), Era.modern, result) == expected


@pytest.mark.parametrize("structured", [[1], None, "x", 7, False])
def test_structured_content_that_a_legacy_client_cannot_take_stays_as_text(structured: Any) -> None:
    result = {"content": [{"type": "text", "text": "1"}], "structuredContent": structured}
    assert back(a_call(era=Era.legacy), Era.modern, result) == {"content": result["content"]}
    assert back(a_call(), Era.legacy, result)["structuredContent"] == structured
    assert back(a_call(era=Era.legacy), Era.legacy, result) == result


def links(uri: str) -> dict[str, Any]:
    return {
        "content": [
            {"type": "resource_link", "uri": uri, "name": "x", "size": 3},
            {"type": "resource", "resource": {"uri": uri, "text": "uri"}},
            {"type": "text", "text": f'"uri": {uri}'},
            {"type": "vendor", "uri": uri},
            7,
        ]
    }


@given(eras, eras, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example(Era.modern, Era.modern, "file:///x")
@example(Era.modern, Era.legacy, "ui://app")
def test_links_are_exposed_and_lead_back_to_the_provider(client: Era, upstream: Era, uri: str) -> None:
    result = back(a_call(era=client), upstream, links(uri))
    link, embedded, text, vendor, odd = result["content"]
    assert split_uri(link["uri"]) == split_uri(embedded["resource"]["uri"]) == ("time", uri)
    assert (link["size"], embedded["resource"]["text"]) == (3, "uri")
    assert [text, vendor, odd] == links(uri)["content"][2:]
    prompt = {"messages": [{"role": "user", "content": block} for block in links(uri)["content"][:2]]}
    prompt["messages"].append({"role": "user", "content": links(uri)["content"]})
    found = back(a_call("prompts/get", era=client), upstream, prompt)["messages"]
    assert split_uri(found[0]["content"]["uri"]) == split_uri(found[2]["content"][1]["resource"]["uri"])
    assert split_uri(found[1]["content"]["resource"]["uri"]) == ("time", uri)
    read = back(a_call("resources/read", era=client, params="{}"), upstream, {"contents": [{"uri": uri, "text": "x"}]})
    assert split_uri(read["contents"][0]["uri"]) == ("time", uri)
    assert linked_uris(json.dumps(links(uri)).encode()) == [uri, uri]


def test_at_the_door_of_one_provider_links_stay_plain() -> None:
    raw = json.dumps(links("file:///x")).encode()
    assert result_back(a_call(prefixed=False), Era.modern, raw, INFO) == (raw, "ok", True)
    assert linked_uris(raw) == ["file:///x", "file:///x"]


def test_a_link_cannot_hide_from_exposure_in_another_spelling() -> None:
    raw = b'{"content":[{"type":"resource_link","\\u0075r\\u0069":"other+file:///x"}]}'
    assert back(a_call(), Era.modern, raw)["content"][0]["uri"] == "time+other+file:///x"
    twice = b'{"content":[{"type":"resource_link","uri":"a:b","uri":"other+file:///x"}]}'
    with pytest.raises(ProtocolError):
        result_back(a_call(), Era.modern, twice, INFO)


def test_a_uri_that_is_no_string_stays_as_it_is() -> None:
    result = {"content": [{"type": "resource_link", "uri": 7}, {"type": "resource", "resource": {"uri": None}}]}
    assert back(a_call(), Era.modern, result) == result


@pytest.mark.parametrize("raw", [b"{}", b'{"content":[{"type":"text","text":"uri"}]}', b'{"type":"resource', b"7"])
def test_what_hands_out_nothing_has_no_links(raw: bytes) -> None:
    assert linked_uris(raw) == []


def test_content_that_is_no_list_stays_as_it_is() -> None:
    result = {"content": {"uri": "x"}, "contents": 7, "messages": [{"content": {"type": "text"}}, {"role": "uri"}]}
    assert back(a_call(), Era.modern, result) == result


@pytest.mark.parametrize("key", ["io.mcp-hangar/refusal", "io.mcp\\u002dhangar/refusal", "io.mcp-hangar\\/refusal"])
@pytest.mark.parametrize("client", list(Era))
@pytest.mark.parametrize("upstream", list(Era))
@pytest.mark.parametrize("prefixed", [True, False])
def test_a_provider_cannot_speak_in_hangars_name(key: str, client: Era, upstream: Era, prefixed: bool) -> None:
    raw = f'{{"content":[],"_meta":{{"{key}":{{"code":"denied"}},"vendor/key":1}}}}'.encode()
    meta = back(a_call(era=client, prefixed=prefixed), upstream, raw)["_meta"]
    assert [name for name in meta if "hangar" in name] == []
    assert meta["vendor/key"] == 1


def test_a_tasks_result_exposes_its_links_too() -> None:
    call = a_call("tasks/get", params='{"taskId":"t"}', capabilities=TASK_ABLE)
    result = {"taskId": "t", "status": "completed", "result": links("file:///x")}
    assert back(call, Era.modern, result)["result"]["content"][0]["uri"] == "time+file:///x"
    assert "file:///x" in linked_uris(json.dumps(result).encode())
    nested = b'{"result":' * 400 + b'{"uri":1}' + b"}" * 400
    assert back(call, Era.modern, nested) == json.loads(nested)


@pytest.mark.parametrize(
    ("result", "outcome", "special"),
    [
        ({"content": []}, "ok", False),
        ({"content": [], "isError": False}, "ok", False),
        ({"content": [], "isError": True}, "tool_error", False),
        ({"resultType": "input_required", "requestState": "s"}, "input_required", True),
        ({"content": [{"type": "resource_link", "uri": "a:b"}]}, "ok", True),
    ],
)
def test_how_a_call_ended_is_read_off_its_result(result: dict[str, Any], outcome: str, special: bool) -> None:
    assert result_back(a_call(), Era.modern, json.dumps(result).encode(), INFO)[1:] == (outcome, special)


def test_a_task_is_passed_on_only_to_a_client_that_knows_tasks() -> None:
    raw = b'{"resultType":"task","taskId":"t"}'
    assert result_back(a_call(capabilities=TASK_ABLE), Era.modern, raw, INFO)[1:] == ("task", True)
    mention = Capabilities(key='{"elicitation":{"note":"' + TASKS + '"}}')
    for capabilities in (NO_CAPABILITIES, mention):
        with pytest.raises(ProtocolError):
            result_back(a_call(capabilities=capabilities), Era.modern, raw, INFO)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'{"isError":"yes"}',
        b'{"resultType":7}',
        b'{"resultType":"vendor"}',
        b'{"resultType":"task"}',
        b'{"a":' + b"[" * 100_000,
        b'{"content":[],"content":[{"type":"resource_link","uri":"x"}]}',
    ],
)
def test_a_result_that_cannot_be_judged_is_the_providers_fault(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        result_back(a_call(), Era.modern, raw, INFO)
    assert refused.value.facts["provider"] == "time"


def test_only_some_methods_may_ask_for_input() -> None:
    for method in ("tools/call", "prompts/get", "resources/read"):
        assert result_back(a_call(method), Era.modern, b'{"resultType":"input_required"}', INFO)[1] == "input_required"
    with pytest.raises(ProtocolError):
        result_back(a_call("completion/complete"), Era.modern, b'{"resultType":"input_required"}', INFO)


# -- errors, progress, log messages, capabilities


def test_a_missing_resource_has_the_code_of_the_clients_era() -> None:
    raw = b'{"code":-32002,"message":"no","data":{"n":1.50}}'
    for era, code in ((Era.modern, -32602), (Era.legacy, -32002)):
        answer = error_back(a_call("resources/read", era=era), raw)
        assert json.loads(answer)["code"] == code
        assert b"1.50" in answer
    assert error_back(a_call(), raw) == raw
    for broken in (b'"boom"', b"null", b'{"code":1,"code":2}'):
        with pytest.raises(ProtocolError):
            error_back(a_call(), broken)


@pytest.mark.parametrize(
    ("raw", "code"), [(b'{"code":-5}', -5), (b"{}", 0), (b'{"code":"x"}', 0), (b"[]", 0), (b"", 0)]
)
def test_an_errors_code_is_a_number_or_none(raw: bytes, code: int) -> None:
    assert error_code(raw) == code


@pytest.mark.parametrize("token", ["1", '"1"', '"\\u0031"', "1.5"])
def test_progress_comes_back_with_the_clients_own_token(token: str) -> None:
    call = a_call(meta=f'{{"progressToken":{token}}}')
    message = progress_back(call, b'{"progressToken":7,"progress":1.50,"more":[]}')
    assert message is not None
    params = envelope.members(envelope.members(message)["params"])
    assert bytes(params["progressToken"]) == token.encode()
    assert bytes(params["progress"]) == b"1.50"
    assert list(params) == ["progressToken", "progress", "more"]


def test_progress_without_a_token_goes_nowhere() -> None:
    assert progress_back(a_call(), b'{"progressToken":7,"progress":1}') is None
    with pytest.raises(RequestError):
        progress_back(a_call(meta='{"progressToken":1}'), b"")


@given(st.sampled_from(LOG_LEVELS), st.sampled_from(LOG_LEVELS))
def test_log_messages_pass_from_the_wanted_level_up(level: str, wanted: str) -> None:
    passes = log_passes(json.dumps({"level": level, "data": 1}).encode(), wanted)
    assert passes is (LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted))


def test_an_unknown_level_passes() -> None:
    assert log_passes(b'{"level":"shout"}', "emergency")
    assert log_passes(b"{}", "emergency")
    assert log_passes(b'{"level":"debug"}', "whatever")


@given(
    st.dictionaries(
        st.sampled_from(["elicitation", "sampling", "roots", "tools", "experimental", "extensions", "tasks"]),
        st.one_of(
            st.just({}), st.just({"form": {}}), st.none(), st.just([]), st.just({TASKS: {}, "vendor/x": {"roots": {}}})
        ),
    ),
    st.booleans(),
)
def test_only_what_was_declared_and_can_be_carried_is_carried(declared: dict[str, Any], legacy: bool) -> None:
    capabilities = carried(json.dumps(declared).encode(), legacy)
    kept = json.loads(capabilities.key)
    assert set(kept) <= {"elicitation", "sampling", "roots", "extensions"}
    for name, value in kept.items():
        if name != "extensions":
            assert declared[name] == value
            assert isinstance(value, dict)
        else:
            assert set(value) <= set(declared["extensions"])
            assert "vendor/x" not in value
            assert not (legacy and TASKS in value)
    for name in ("elicitation", "sampling", "roots"):
        assert capabilities.has(name) is isinstance(declared.get(name), dict)
    again = carried(json.dumps(dict(reversed(declared.items())), indent=1).encode(), legacy)
    assert again == capabilities, "equal capabilities have equal keys"


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"null", b'{"sampling":1e999}', b"{" * 100_000, b'{"roots":[]}'])
def test_capabilities_that_cannot_be_read_are_none(raw: bytes) -> None:
    assert carried(raw, legacy=False) == NO_CAPABILITIES
