# SPDX-License-Identifier: MIT
"""The configured file read again: what it tells, and what it never does. Over REST it is tested in `test_api.py`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from mcp_hangar.server.config import load
from mcp_hangar.server.config.reread import Configuration

pytestmark = pytest.mark.anyio
ENV = {"TOKEN": "a-secret-of-the-environment", "HOME": "/nowhere"}
GOOD = "version: 1\nserver: {token: '${TOKEN}'}\n"


def loaded(folder: Path, text: str = GOOD, **more: bool) -> Configuration:
    path = folder / "hangar.yaml"
    path.write_text(text)
    return Configuration(load(path, ENV, **more), ENV)


async def test_what_is_in_effect_stays_what_was_read_at_the_start(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    before = msgspec.json.encode(made.effective())
    (tmp_path / "hangar.yaml").write_text("version: 1\n")
    assert (await made.check()).changed
    assert msgspec.json.encode(made.effective()) == before
    assert b"secret" not in before


async def test_an_unchanged_file_is_fine_and_not_changed(tmp_path: Path) -> None:
    checked = await loaded(tmp_path).check()
    assert (checked.ok, checked.changed, checked.problems) == (True, False, [])


async def test_problems_have_their_place_and_no_secret(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    (tmp_path / "hangar.yaml").write_text("version: 1\nserver:\n  token: '${TOKEN}'\n  listen: '${TOKEN}'\n")
    checked = await made.check()
    (problem,) = checked.problems
    assert (checked.ok, problem.line, problem.code) == (False, 4, "config_value")
    assert b"secret" not in msgspec.json.encode(checked)


async def test_whoever_started_without_a_token_on_purpose_is_not_told_of_it_again(tmp_path: Path) -> None:
    text = "version: 1\nserver: {listen: '0.0.0.0:8000'}\n"
    assert (await loaded(tmp_path, text, unsafe_no_auth=True).check()).ok


async def test_those_who_ask_at_once_share_one_reading(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    first, *others = await asyncio.gather(*(made.check() for _ in range(5)))
    assert all(each is first for each in others)
    assert await made.check() is not first


async def test_one_who_no_longer_waits_does_not_end_it_for_others(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    asking = [asyncio.create_task(made.check()) for _ in range(2)]
    await asyncio.sleep(0)
    asking[0].cancel()
    assert (await asking[1]).ok
