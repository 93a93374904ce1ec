# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from mcp_hangar.domain.errors import RequestError
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.mcp.tasks import ALL_METHODS, METHODS, RELATED, rename_tasks
from tests.domain.mcp.json_texts import object_texts, pairs_of


def renamed(value: Any) -> Any:
    return json.loads(rename_tasks(json.dumps(value).encode(), lambda id: f"time~{id}"))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"resultType": "task", "taskId": "t"}, {"resultType": "task", "taskId": "time~t"}),
        ({"task": {"taskId": "t", "status": "working"}}, {"task": {"taskId": "time~t", "status": "working"}}),
        ({"_meta": {RELATED: {"taskId": "t"}, "x": 1}}, {"_meta": {RELATED: {"taskId": "time~t"}, "x": 1}}),
        ({"content": [{"taskId": "t"}]}, {"content": [{"taskId": "t"}]}),
        ({"taskId": 7}, {"taskId": 7}),
        ({"task": None, "_meta": None}, {"task": None, "_meta": None}),
        ({"task": {"task": {"taskId": "t"}}}, {"task": {"task": {"taskId": "t"}}}),
        ({"_meta": {RELATED: "t"}}, {"_meta": {RELATED: "t"}}),
    ],
)
def test_a_task_is_renamed_wherever_a_dialect_names_it_and_nowhere_else(said: Any, shown: Any) -> None:
    assert renamed(said) == shown


@given(object_texts)
def test_all_else_survives_spelled_as_it_came(text: str) -> None:
    pairs = pairs_of(text)
    if len(dict(pairs)) == len(pairs) and not dict(pairs).keys() & {"taskId", "task", "_meta"}:
        assert pairs_of(rename_tasks(text.encode(), str.upper).decode()) == pairs


def test_a_repeated_task_id_is_refused() -> None:
    for raw in (b'{"taskId":"a","taskId":"b"}', b'{"task":{"taskId":"a","taskId":"b"}}'):
        with pytest.raises(RequestError, match="more than once"):
            rename_tasks(raw, str.upper)


def test_deep_tasks_are_looked_into_once() -> None:
    nested = b'{"task":' * 900 + b"1" + b"}" * 900
    assert rename_tasks(nested, str.upper) == nested


def test_each_dialect_has_its_own_follow_ups() -> None:
    assert METHODS[Era.modern] | METHODS[Era.legacy] == ALL_METHODS
    assert "tasks/list" not in ALL_METHODS
    assert "tasks/update" not in METHODS[Era.legacy]
    assert "tasks/result" not in METHODS[Era.modern]
