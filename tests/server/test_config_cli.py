# SPDX-License-Identifier: MIT
"""`hangar config check | schema | show`, as a shell sees them: what is printed where, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

GOOD = """\
version: 1
server: {token: s3cr3t-token}
providers:
  time: {mode: subprocess, command: [uvx, mcp-server-time], env: {KEY: s3cr3t-key}}
"""
BAD = """\
version: 1
server: {token: "s3cr3t token"}
providers:
  time:
    mode: subprocess
    comand: [uvx, s3cr3t-argument]
    limits: {call_timeout: 30}
"""
RUN = [sys.executable, "-c", "from mcp_hangar.server.cli.config import app; app(prog_name='hangar config')"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    # Absolute, since the command runs elsewhere.
    kept["PYTHONPATH"] = os.pathsep.join(str(Path(one).resolve()) for one in sys.path if one)
    return kept | {"HOME": str(folder / "home")} | more


def hangar_config(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments],
        cwd=folder,
        env=environment(folder, **env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """What a terminal would show of stderr."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.Popen([*RUN, *arguments], cwd=folder, env=environment(folder), stdout=theirs, stderr=theirs)
        os.close(theirs)
        parts: list[bytes] = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: the other side is closed
                break
            if not part:
                break
            parts.append(part)
        assert done.wait(120) == 1
        return b"".join(parts).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


def test_check_of_a_right_file_says_so(folder: Path) -> None:
    (folder / "hangar.yaml").write_text(GOOD)
    done = hangar_config(folder, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{folder / 'hangar.yaml'}: fine, 1 provider\n"


def test_check_of_a_wrong_file_tells_every_problem_like_a_compiler(folder: Path) -> None:
    (folder / "hangar.yaml").write_text(BAD)
    done = hangar_config(folder, "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "hangar.yaml:2:17: a token is one word of printable ASCII characters. Make one with `openssl rand -hex 32`. "
        "[config_value]",
        "hangar.yaml:4:3: 'command' is missing in provider 'time'. Add it, such as 'command: [uvx, mcp-server-time]'. "
        "[config_missing_key]",
        "hangar.yaml:6:5: unknown key 'comand'. Did you mean 'command'? [config_unknown_key]",
        "hangar.yaml:7:28: expected a duration such as 30s, not 30. Write 30s if you mean seconds. [config_value]",
        "See docs/reference/errors.md#config_value, docs/reference/errors.md#config_missing_key, "
        "docs/reference/errors.md#config_unknown_key",
    ]


def test_on_a_terminal_the_line_and_a_caret_follow_without_secrets(folder: Path) -> None:
    (folder / "hangar.yaml").write_text(BAD)
    told = on_a_terminal(folder, "check")
    assert "s3cr3t" not in told
    lines = told.splitlines()
    for at, line, under in (
        ("hangar.yaml:2:17:", "    server: {token: ***}", "***"),
        ("hangar.yaml:6:5:", "        comand: [***, ***]", "comand"),
        ("hangar.yaml:7:28:", "        limits: {call_timeout: 30}", "30"),
    ):
        index = next(index for index, text in enumerate(lines) if text.startswith(at))
        assert lines[index + 1] == line
        assert lines[index + 2].strip() == "^" and line[lines[index + 2].index("^") :].startswith(under)


def test_check_in_json_is_for_machines(folder: Path) -> None:
    (folder / "hangar.yaml").write_text(BAD)
    done = hangar_config(folder, "check", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["ok"]) == (1, "", False)
    assert found["problems"][2] == {
        "file": "hangar.yaml",
        "line": 6,
        "column": 5,
        "what": "unknown key 'comand'.",
        "fix": "Did you mean 'command'?",
        "code": "config_unknown_key",
        "more": "docs/reference/errors.md#config_unknown_key",
    }
    (folder / "hangar.yaml").write_text(GOOD)
    found = json.loads(hangar_config(folder, "check", "--json").stdout)
    assert (found["ok"], found["problems"]) == (True, [])


def test_a_missing_file_is_a_problem_and_wrong_usage_is_not(folder: Path) -> None:
    nothing = hangar_config(folder, "check")
    assert nothing.returncode == 1 and "there is no configuration" in nothing.stderr
    named = hangar_config(folder, "check", "--config", "other.yaml")
    assert named.returncode == 1 and "other.yaml: there is no such file (--config)" in named.stderr
    assert hangar_config(folder, "check", "--nonsense").returncode == 2
    assert hangar_config(folder, "explain").returncode == 2


def test_the_file_comes_from_the_option_then_the_environment(folder: Path) -> None:
    for name, count in (("a.yaml", "0 providers"), ("b.yaml", "1 provider")):
        (folder / name).write_text("version: 1\n" if name == "a.yaml" else GOOD)
        assert count in hangar_config(folder, "check", "--config", name).stdout
    assert "0 providers" in hangar_config(folder, "check", HANGAR_CONFIG="a.yaml").stdout
    assert "1 provider\n" in hangar_config(folder, "check", "-c", "b.yaml", HANGAR_CONFIG="a.yaml").stdout


def test_an_open_listener_passes_only_when_it_is_asked_for(folder: Path) -> None:
    (folder / "hangar.yaml").write_text("version: 1\nserver: {listen: '0.0.0.0:1'}\n")
    assert hangar_config(folder, "check").returncode == 1
    assert hangar_config(folder, "check", "--unsafe-no-auth").returncode == 0


def test_show_prints_what_is_in_effect_without_secrets(folder: Path) -> None:
    (folder / "hangar.yaml").write_text(GOOD)
    for arguments, parse in (((), YAML(typ="safe").load), (("--json",), json.loads)):
        done = hangar_config(folder, "show", *arguments)
        assert done.returncode == 0 and "s3cr3t" not in done.stdout
        shown: Any = parse(done.stdout)
        assert shown["server"]["token"] == "***"
        assert shown["providers"]["time"]["env"] == {"KEY": "***"}
        assert shown["providers"]["time"]["limits"]["call_timeout"] == "1m"


def test_schema_is_the_one_that_is_shipped(folder: Path) -> None:
    done = hangar_config(folder, "schema")
    shipped = Path(__file__).parents[2] / "schemas" / "hangar.schema.json"
    assert (done.returncode, done.stdout) == (0, shipped.read_text(encoding="utf-8"))
