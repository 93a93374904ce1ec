# SPDX-License-Identifier: MIT
"""`hangar init` as people run it: a home full of clients' files, real servers, and what is written where."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mcp_hangar.server.cli.onboarding.jsonc import parse
from scripts.cli_page import SHAPES
from tests.conftest import RealServers, make_repository
from tests.processes import plain_environment
from tests.warm import Ran, Warm, warm

ROOT = Path(__file__).resolve().parents[2]
GITHUB = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
BEARER = "s3cr3t-bearer-of-tests"
URL_KEY = "Ab3dEf6hIj9kLm2nOp5q"
SECRETS = (GITHUB, BEARER, URL_KEY, "hunter2")
HANGAR = [
    sys.executable,
    "-c",
    "import sys; from mcp_hangar.server.cli.main import main; sys.argv[0] = 'hangar'; main()",
]


class Machine:
    """A home and a project of someone who uses several clients."""

    def __init__(self, folder: Path, command: Warm) -> None:
        self.command = command
        self.home = folder / "home"
        self.project = folder / "home/project"
        self.project.mkdir(parents=True)

    def write(self, place: str, value: Any) -> Path:
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))
        return path

    def run(self, *arguments: str, code: int = 0, **environment: str) -> Ran:
        env = self.environment(**environment)
        done = self.command(*arguments, cwd=self.project, env=env, limit=200)
        assert done.code == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def environment(self, **more: str) -> dict[str, str]:
        return plain_environment(PYTHONPATH=str(ROOT / "src"), **more) | {"HOME": str(self.home)}

    def init(self, *arguments: str, **environment: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.run("init", "--yes", "--json", *arguments, **environment).stdout)
        assert tuple(report) == SHAPES["init"]
        return report

    @property
    def config(self) -> dict[str, Any]:
        value: dict[str, Any] = YAML(typ="safe", pure=True).load((self.project / "hangar.yaml").read_text())
        return value


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("warm")) as command:
        yield command


@pytest.fixture
def machine(tmp_path: Path, command: Warm) -> Machine:
    return Machine(tmp_path, command)


CURSOR = ".cursor/mcp.json"
CLAUDE = ".config/Claude/claude_desktop_config.json"


def servers(**entries: Any) -> dict[str, Any]:
    return {"mcpServers": entries}


def names(report: dict[str, Any]) -> list[str]:
    return [one["name"] for one in report["providers"]]


# with real servers


def test_servers_of_several_clients_become_one_checked_file(
    machine: Machine, real_servers: RealServers, tmp_path: Path
) -> None:
    repository = make_repository(tmp_path)
    machine.write(
        CURSOR,
        f"""{{
  // what I use every day
  "mcpServers": {{
    "time": {{ "command": "{real_servers.time}", "args": [], }},
    "My Git": {{
      "command": "{real_servers.git}",
      "args": ["--repository", "{repository}"],
      "env": {{"GIT_TOKEN": "{GITHUB}", "LOG_LEVEL": "debug"}},
    }},
  }},
}}
""",
    )
    machine.write(CLAUDE, servers(clock={"command": real_servers.time}))
    done = machine.run("init", "-y")
    text = (machine.project / "hangar.yaml").read_text()
    assert machine.config["providers"] == {
        "clock": {"mode": "subprocess", "command": [real_servers.time]},
        "my-git": {
            "mode": "subprocess",
            "command": [real_servers.git, "--repository", str(repository)],
            "env": {"GIT_TOKEN": "${GIT_TOKEN}", "LOG_LEVEL": "debug"},
        },
    }
    assert "# From Claude Desktop (~/.config/Claude/claude_desktop_config.json), Cursor (~/.cursor/mcp.json)." in text
    assert "# It started, and offers 2 tools." in text
    assert "git_reset" in text
    assert GITHUB not in text + done.stdout + done.stderr
    assert "export GIT_TOKEN=" in done.stdout
    assert "fine, 2 providers" in machine.run("config", "check", GIT_TOKEN="x").stdout


def test_a_server_that_does_not_start_is_told_with_its_stderr_and_stands_in_the_file_as_a_comment(
    machine: Machine, real_servers: RealServers
) -> None:
    dying = [sys.executable, "-c", f"import sys; sys.exit('no database for {GITHUB}')"]
    machine.write(
        CURSOR,
        servers(
            time={"command": real_servers.time},
            dying={"command": dying[0], "args": ["dying.py"], "env": {"TOKEN": GITHUB}},
            missing={"command": "no-such-program-of-tests"},
            gone={"url": "http://127.0.0.1:1/mcp"},
        ),
    )
    (machine.home / "dying.py").write_text("import os, sys; sys.exit('no database for ' + os.environ['TOKEN'])")
    path = machine.home / CURSOR
    path.write_text(path.read_text().replace('"dying.py"', json.dumps(str(machine.home / "dying.py"))))
    report = machine.init()
    tried = {one["name"]: one["tried"] for one in report["providers"]}
    assert tried["time"]["started"] and tried["time"]["tools"] == 2
    assert "no database for ***" in "\n".join(tried["dying"]["stderr"])
    assert "no-such-program-of-tests" in tried["missing"]["why"] and "PATH" in tried["missing"]["fix"]
    assert "refused the connection" in tried["gone"]["why"]
    assert list(machine.config["providers"]) == ["time"]
    text = (machine.project / "hangar.yaml").read_text()
    assert "  # missing:\n  #   mode: subprocess\n  #   command: [no-such-program-of-tests]\n" in text
    assert GITHUB not in text + json.dumps(report)
    machine.run("config", "check")


def test_the_file_that_init_writes_serves_calls(machine: Machine, real_servers: RealServers) -> None:
    machine.write(CURSOR, servers(time={"command": real_servers.time}))
    machine.init("--no-try")
    config = machine.project / "hangar.yaml"
    config.write_text(config.read_text().replace("127.0.0.1:8000", "127.0.0.1:0"))
    state = {"HANGAR_STATE_DIR": str(machine.home / ".local/state/hangar")}
    with subprocess.Popen(
        [*HANGAR, "serve"], env=machine.environment(), cwd=machine.project, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    ) as hangar:  # fmt: skip
        try:
            assert hangar.stderr is not None
            assert any("is ready at" in line for line in hangar.stderr)
            # Nobody has started it yet: it is started, to know what it offers.
            assert "time\tconvert_time\tready\treads" in machine.run("tools", **state).stdout
            wrong = machine.run("call", "time", "convert_time", "-a", "time=12:00", code=2, **state)
            assert "source_timezone is missing" in wrong.stderr
            called = machine.run("call", "time", "get_current_time", "-a", "timezone=UTC", **state)
            assert '"timezone": "UTC"' in called.stdout
        finally:
            hangar.terminate()
            hangar.communicate(timeout=60)


# what is taken over, and how


def test_a_server_in_several_clients_is_one_provider_and_equal_names_are_kept_apart(machine: Machine) -> None:
    machine.write(CURSOR, servers(files={"command": "files", "args": ["/a"]}, search={"url": "https://s.example/mcp"}))
    machine.write(
        CLAUDE,
        servers(files={"command": "files", "args": ["/b"]}, Finder={"type": "http", "url": "https://s.example/mcp"}),
    )
    machine.write(".claude.json", servers(files={"command": "files", "args": ["/b"]}) | {"numStartups": 3})
    report = machine.init("--no-try")
    found = {one["name"]: [each["client"] for each in one["found"]] for one in report["providers"]}
    assert found == {
        "files": ["claude-desktop", "claude-code"],
        "finder": ["claude-desktop", "cursor"],
        "files-cursor": ["cursor"],
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GitHub", "github"), ("my_server.v2", "my-server-v2"), ("@scope/thing", "scope-thing"),
        ("hangar", "hangar-server"),
        ("日本", "server"), ("9lives", "lives"), ("x" * 50, "x" * 32), ("-", "server"), ("mcp-server-time", "time"),
    ],
)  # fmt: skip
def test_names_are_made_to_fit_the_rule(machine: Machine, name: str, expected: str) -> None:
    machine.write(CURSOR, servers(**{name: {"command": "x"}}))
    assert names(machine.init("--no-try")) == [expected]
    machine.run("config", "check")


def test_every_place_of_every_client_is_looked_at(machine: Machine) -> None:
    places = {
        "a": (CLAUDE, "mcpServers"),
        "b": ("Library/Application Support/Claude/claude_desktop_config.json", "mcpServers"),
        "c": (CURSOR, "mcpServers"),
        "d": ("project/.cursor/mcp.json", "mcpServers"),
        "e": ("project/.mcp.json", "mcpServers"),
        "f": (".config/Code/User/mcp.json", "servers"),
        "g": ("Library/Application Support/Code/User/mcp.json", "servers"),
        "h": ("project/.vscode/mcp.json", "servers"),
    }
    for name, (place, key) in places.items():
        machine.write(place, {key: {name: {"command": name}}})
    machine.write(
        ".claude.json",
        servers(i={"command": "i"})
        | {"projects": {str(machine.project): servers(j={"command": "j"}), "/elsewhere": servers(k={"command": "k"})}},
    )
    report = machine.init("--no-try")
    assert sorted(names(report)) == list("abcdefghij")
    assert machine.config["providers"]["h"]["cwd"] == str(machine.project)


def test_secrets_become_references_wherever_they_stand(machine: Machine) -> None:
    machine.write(
        CURSOR,
        servers(
            one={"command": "one", "env": {"API_KEY": GITHUB, "MODE": "fast", "N": 3, "OFF": None}},
            two={"command": "two", "env": {"API_KEY": "hunter2"}},
            three={"command": "three", "env": {"API_KEY": GITHUB}},
            far={"url": f"https://far.example/s/{URL_KEY}/mcp?token={BEARER}&v=1", "headers": {"X-Team": "blue"}},
            near={"url": "https://near.example/mcp", "headers": {"Authorization": f"Bearer {BEARER}", "Accept": "x"}},
            bridged={
                "command": "npx",
                "args": ["-y", "mcp-remote", "https://b.example/sse", "--header", "Authorization:${AUTH}"],
                "env": {"AUTH": f"Bearer {GITHUB}"},
            },
        ),
    )
    done = machine.run("init", "-y", "--no-try", "--json")
    providers = machine.config["providers"]
    assert providers["one"]["env"] == {"API_KEY": "${API_KEY}", "MODE": "fast", "N": "3"}
    assert providers["two"]["env"] == {"API_KEY": "${TWO_API_KEY}"}
    assert providers["three"]["env"] == {"API_KEY": "${API_KEY}"}
    assert providers["far"]["url"] == "https://far.example/s/${FAR_URL_KEY}/mcp?token=${FAR_TOKEN}&v=1"
    assert providers["far"]["headers"] == {"X-Team": "blue"}
    assert providers["near"]["headers"] == {"Authorization": "Bearer ${NEAR_TOKEN}"}
    assert providers["bridged"] == {
        "mode": "remote",
        "url": "https://b.example/sse",
        "headers": {"Authorization": "Bearer ${BRIDGED_TOKEN}"},
    }
    everything = (machine.project / "hangar.yaml").read_text() + done.stdout + done.stderr
    assert [secret for secret in SECRETS if secret in everything] == []
    unset = {one["name"]: "x" for one in json.loads(done.stdout)["variables"] if not one["set"]}
    machine.run("config", "check", **unset)
    machine.run("config", "check", code=1)


def test_secrets_go_to_a_private_file_only_if_that_is_asked_for_and_serve_can_read_it(machine: Machine) -> None:
    odd = 'it\'s "odd" $HOME `x` \\n #1'
    machine.write(CURSOR, servers(one={"command": "one", "env": {"API_KEY": GITHUB, "ODD_KEY": odd}}))
    machine.init("--no-try")
    assert sorted(path.name for path in machine.project.iterdir()) == ["hangar.yaml"]
    machine.init("--no-try", "--force", "--env-file", "hangar.env")
    path = machine.project / "hangar.env"
    assert path.stat().st_mode & 0o777 == 0o600
    machine.run("config", "check", "--env-file", "hangar.env")
    by_shell = subprocess.run(
        ["sh", "-c", 'set -a; . ./hangar.env; printf "%s|%s" "$API_KEY" "$ODD_KEY"'],
        cwd=machine.project, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert by_shell.stdout == f"{GITHUB}|{odd}"
    path.chmod(0o644)
    assert "others may read" in machine.run("config", "check", "--env-file", "hangar.env", code=1).stderr


def test_without_a_secret_no_file_of_variables_is_written_or_named(machine: Machine) -> None:
    machine.write(CURSOR, servers(one={"command": "one"}))
    machine.write(CLAUDE, servers(two={"command": "two"}))
    told = machine.run("init", "--yes", "--no-try", "--env-file", "hangar.env", "--connect", "claude-desktop").stdout
    assert "hangar.env" not in told
    assert not (machine.project / "hangar.env").exists()
    desktop = json.loads((machine.home / CLAUDE).read_text())["mcpServers"]
    assert "--env-file" not in desktop["hangar"]["args"]


def test_vscode_inputs_and_environment_references_are_understood(machine: Machine) -> None:
    machine.write(
        "project/.vscode/mcp.json",
        {
            "inputs": [{"type": "promptString", "id": "perplexity-key", "description": "Perplexity's key"}],
            "servers": {
                "p": {
                    "type": "stdio",
                    "command": "${workspaceFolder}/run.sh",
                    "env": {"KEY": "${input:perplexity-key}", "WHO": "${env:USER_OF_TESTS}"},
                    "envFile": "${workspaceFolder}/.env",
                },
                "q": {"command": "x", "args": ["${env:NAME}"]},
            },
        },
    )
    (machine.project / ".env").write_text(f'# mine\nexport TOKEN="{GITHUB}"\nLEVEL=debug\n')
    report = machine.init("--no-try")
    assert machine.config["providers"]["p"] == {
        "mode": "subprocess",
        "command": [f"{machine.project}/run.sh"],
        "cwd": str(machine.project),
        "env": {"TOKEN": "${TOKEN}", "LEVEL": "debug", "KEY": "${PERPLEXITY_KEY}", "WHO": "${USER_OF_TESTS}"},
    }
    assert "Perplexity's key" in (machine.project / "hangar.yaml").read_text()
    assert [one["name"] for one in report["left"]] == ["q"]


def test_what_needs_a_variable_that_nobody_has_is_not_tried_and_named(machine: Machine) -> None:
    machine.write(CURSOR, servers(a={"command": "no-such-program", "env": {"X": "${env:SURELY_UNSET_OF_TESTS}"}}))
    report = machine.init()
    assert report["providers"][0]["tried"] is None
    assert report["providers"][0]["missing"] == ["SURELY_UNSET_OF_TESTS"]


def test_what_stays_in_its_client_is_told_with_the_reason(machine: Machine) -> None:
    machine.write(
        CURSOR,
        servers(
            docker={"command": "docker", "args": ["run", "-i", "--rm", "mcp/fetch"]},
            podman={"command": "/usr/bin/podman", "args": ["run", "x"]},
            postgres={"command": "npx", "args": ["server-postgres", "postgresql://u:hunter2@h/db"]},
            off={"command": "x", "disabled": True},
            empty={},
            laden={"url": "https://u:hunter2@h.example/mcp"},
            odd={"command": "x", "env": {"A-B": "c"}},
            hangar={"url": "http://127.0.0.1:9123/mcp"},
            gateway={"url": "http://localhost:8000/mcp"},
            started={"command": "/opt/bin/hangar", "args": ["serve", "--stdio"]},
        ),
    )
    report = machine.init("--no-try")
    why = {one["name"]: one["why"] for one in report["left"]}
    assert "container (docker run)" in why["docker"] and "container (podman run)" in why["podman"]
    assert "secret" in why["postgres"] and "ps" in why["postgres"]
    assert "disabled" in why["off"]
    assert "neither a command nor a url" in why["empty"]
    assert "credentials" in why["laden"]
    assert "'A-B' cannot be a variable's name" in why["odd"]
    assert names(report) == [] and not {"hangar", "gateway", "started"} & set(why)
    assert "hunter2" not in (machine.project / "hangar.yaml").read_text() + json.dumps(report)


def test_a_clients_file_that_is_no_json_is_told_and_the_others_are_read(machine: Machine) -> None:
    machine.write(CURSOR, '{"mcpServers": {\n  "a": {"command" "x"}}}')
    machine.write(CLAUDE, servers(b={"command": "b"}))
    done = machine.run("init", "-y", "--no-try")
    assert "line 2, column 19" in done.stdout
    assert list(machine.config["providers"]) == ["b"]


def test_strangers_names_cannot_break_the_file_or_the_terminal(machine: Machine) -> None:
    machine.write(CURSOR, servers(**{"a\nversion: 2\x1b[2J": {"command": "x\ny: [", "env": {"K": "a: b # c\nd"}}}))
    done = machine.run("init", "-y", "--no-try")
    assert "\x1b" not in done.stdout
    assert machine.config["version"] == 1
    assert next(iter(machine.config["providers"].values()))["command"] == ["x\ny: ["]


# asking, overwriting


def test_an_existing_file_is_not_overwritten_without_force(machine: Machine) -> None:
    machine.write(CURSOR, servers(a={"command": "a"}))
    (machine.project / "hangar.yaml").write_text("version: 1\n")
    refused = machine.run("init", "-y", "--no-try", code=1)
    assert "errors.md#config_exists" in refused.stderr and "--force" in refused.stderr
    assert (machine.project / "hangar.yaml").read_text() == "version: 1\n"
    machine.run("init", "-y", "--no-try", "--force")
    assert list(machine.config["providers"]) == ["a"]


def test_a_script_has_to_say_yes(machine: Machine) -> None:
    machine.write(CURSOR, servers(a={"command": "a"}))
    refused = machine.run("init", "--no-try", code=2)
    assert "--yes" in refused.stderr
    assert not (machine.project / "hangar.yaml").exists()


def test_where_nothing_is_found_a_file_to_start_from_is_written(machine: Machine) -> None:
    done = machine.run("init", "-y")
    assert "no server to take over was found in Claude Desktop, Claude Code, Cursor, VS Code" in done.stdout
    assert "0 providers" in machine.run("config", "check").stdout
    assert "uvx, mcp-server-time" in (machine.project / "hangar.yaml").read_text()


def on_a_terminal(machine: Machine, answer: str, *arguments: str, code: int = 0) -> str:
    """The command with a terminal for stdin, stdout and stderr; the answer is typed once it asks. Without one it is
    interrupted."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*HANGAR, *arguments], env=machine.environment(TERM="xterm"), cwd=machine.project,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        output = b""
        asked = False
        while select.select([ours], [], [], 120)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            output += chunk
            if b"[all]" in output and not asked:
                asked = True
                if answer:
                    os.write(ours, answer.encode())
                else:
                    process.send_signal(signal.SIGINT)
        os.close(ours)
        assert process.wait(60) == code, output.decode()
    return output.decode()


def test_on_a_terminal_one_chooses(machine: Machine) -> None:
    machine.write(CURSOR, servers(**{name: {"command": name} for name in "abcd"}))
    said = on_a_terminal(machine, "7\n1,3-4\n", "init", "--no-try")
    assert "no number from 1 to 4" in said
    assert list(machine.config["providers"]) == ["a", "c", "d"]
    on_a_terminal(machine, "\n", "init", "--no-try", "--force")
    assert list(machine.config["providers"]) == ["a", "b", "c", "d"]


def test_whoever_thinks_better_of_it_interrupts_and_nothing_is_written(machine: Machine) -> None:
    machine.write(CURSOR, servers(a={"command": "a"}))
    on_a_terminal(machine, "", "init", "--no-try", code=130)
    assert not (machine.project / "hangar.yaml").exists()


# into the clients, and out again


@pytest.fixture
def connected(machine: Machine) -> tuple[Machine, Path, str]:
    text = """{
  // mine
  "mcpServers": {
    "one": {"command": "one"}, // the first
    "box": {"command": "docker", "args": ["run", "x"]},
  },
  "theme": "dark", // as it should be
}
"""
    path = machine.write(CURSOR, text)
    path.chmod(0o640)
    return machine, path, text


def test_connect_puts_hangar_in_place_of_what_it_took_over_and_undo_restores_every_byte(
    connected: tuple[Machine, Path, str],
) -> None:
    machine, path, text = connected
    report = machine.init("--no-try", "--connect", "cursor")
    assert report["connected"][0]["removed"] == ["one"]
    changed = path.read_text()
    assert '"hangar": {\n      "url": "http://127.0.0.1:8000/mcp"\n    },' in changed
    assert '"one"' not in changed and '"box": {"command": "docker"' in changed
    for comment in ("// mine", "// the first", "// as it should be"):
        assert comment in changed
    backup = Path(report["connected"][0]["backup"])
    assert backup.read_text() == text
    assert {path.stat().st_mode & 0o777, backup.stat().st_mode & 0o777} == {0o640}
    assert "there already" in machine.run("init", "--connect", "cursor").stdout
    machine.run("init", "--undo")
    assert path.read_text() == text
    assert [one.name for one in path.parent.iterdir()] == ["mcp.json"]
    assert "errors.md#nothing_to_undo" in machine.run("init", "--undo", code=1).stderr


def test_undo_keeps_what_was_changed_since(connected: tuple[Machine, Path, str]) -> None:
    machine, path, _ = connected
    machine.init("--no-try", "--connect", "cursor")
    path.write_text(
        path.read_text().replace("dark", "light").replace('"box":', '"new": {"command": "new"},\n    "box":')
    )
    undone = machine.run("init", "--undo")
    assert "was changed since" in undone.stdout
    text = path.read_text()
    assert "// mine" in text and '"theme": "light"' in text
    assert parse(text)["mcpServers"] == {
        "one": {"command": "one"},
        "new": {"command": "new"},
        "box": {"command": "docker", "args": ["run", "x"]},
    }
    assert [one.name for one in path.parent.iterdir()] == ["mcp.json"]


def test_undo_by_force_restores_every_byte(connected: tuple[Machine, Path, str]) -> None:
    machine, path, text = connected
    machine.init("--no-try", "--connect", "cursor")
    path.write_text("{ broken by hand")
    refused = machine.run("init", "--undo", code=1)
    assert "errors.md#client_changed" in refused.stderr
    assert path.read_text() == "{ broken by hand"
    machine.run("init", "--undo", "--force")
    assert path.read_text() == text


def test_a_client_that_writes_its_own_file_all_the_time_is_left_without_a_trace_of_hangar(machine: Machine) -> None:
    path = machine.write(".claude.json", servers(a={"command": "a"}) | {"numStartups": 1})
    machine.init("--no-try", "--connect", "claude-code")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"numStartups": 2}))
    machine.run("init", "--undo")
    assert json.loads(path.read_text()) == {"mcpServers": {"a": {"command": "a"}}, "numStartups": 2}


def test_each_client_gets_what_it_understands(machine: Machine) -> None:
    machine.write(CLAUDE, servers(one={"command": "one", "env": {"KEY": GITHUB}}))
    machine.write(
        ".claude.json", {"numStartups": 1, "projects": {str(machine.project): servers(two={"command": "two"})}}
    )
    machine.init(
        "--no-try", "--env-file", "hangar.env", "--connect", "claude-desktop", "--connect", "claude-code", "--connect",
        "vscode", "--connect", "cursor",
    )  # fmt: skip
    desktop = json.loads((machine.home / CLAUDE).read_text())["mcpServers"]
    assert list(desktop) == ["hangar"]
    assert desktop["hangar"]["args"] == [
        "serve", "--stdio", "--config", str(machine.project / "hangar.yaml"), "--env-file",
        str(machine.project / "hangar.env"),
    ]  # fmt: skip
    assert shutil.which(desktop["hangar"]["command"])
    code = json.loads((machine.home / ".claude.json").read_text())
    assert code["mcpServers"] == {"hangar": {"type": "http", "url": "http://127.0.0.1:8000/mcp"}}
    assert code["projects"][str(machine.project)]["mcpServers"] == {} and code["numStartups"] == 1
    vscode = machine.home / ".config/Code/User/mcp.json"
    assert json.loads(vscode.read_text())["servers"]["hangar"]["type"] == "http"
    machine.run("init", "--undo")
    assert not vscode.exists() and not (machine.home / CURSOR).exists()
    assert json.loads((machine.home / CLAUDE).read_text()) == servers(one={"command": "one", "env": {"KEY": GITHUB}})
    restored = json.loads((machine.home / ".claude.json").read_text())
    assert restored["projects"] == {str(machine.project): servers(two={"command": "two"})}


def test_a_client_that_starts_hangar_itself_is_told_to_need_the_variables(machine: Machine) -> None:
    machine.write(CLAUDE, servers(one={"command": "one", "env": {"KEY": GITHUB}}))
    assert "--env-file FILE" in machine.run("init", "-y", "--no-try", "--connect", "claude-desktop").stdout
    told = machine.run("init", "--connect", "claude-desktop", "--env-file", "hangar.env", code=1).stderr
    assert "errors.md#env_file" in told
    (machine.project / "hangar.env").write_text(f"KEY={GITHUB}\n")
    (machine.project / "hangar.env").chmod(0o600)
    told = machine.run("init", "--connect", "claude-desktop", "--env-file", "hangar.env").stdout
    assert "does not know your shell" not in told
    assert "hangar.env" in (machine.home / CLAUDE).read_text()


def test_a_client_that_cannot_be_edited_surely_is_left_as_it_is(machine: Machine) -> None:
    path = machine.write(CURSOR, "{ not json")
    refused = machine.run("init", "-y", "--connect", "cursor", code=1)
    assert "errors.md#client_config" in refused.stderr
    assert path.read_text() == "{ not json"
    path.write_text(json.dumps(servers(hangar={"command": "another"})))
    machine.run("init", "-y", "--connect", "cursor", "--no-try", "--force", code=1)
    assert json.loads(path.read_text()) == servers(hangar={"command": "another"})


def test_a_token_is_referred_to_and_never_written_into_a_client(machine: Machine) -> None:
    (machine.project / "hangar.yaml").write_text(
        "version: 1\nserver: {token: a-token-of-tests, listen: '127.0.0.1:9123'}\n"
    )
    machine.run("init", "--connect", "cursor")
    entry = json.loads((machine.home / CURSOR).read_text())["mcpServers"]["hangar"]
    assert entry == {
        "url": "http://127.0.0.1:9123/mcp",
        "headers": {"Authorization": "Bearer ${env:HANGAR_TOKEN}"},
    }
