# SPDX-License-Identifier: MIT
"""hangar.yaml to settings: what is read, what is refused and how it is told, what is shown."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck as Pace
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mcp_hangar.domain.errors import ConfigError, ConfigProblem
from mcp_hangar.domain.provider import (
    Backoff,
    ClientCredentials,
    HealthCheck,
    Lifecycle,
    Limits,
    Mode,
    Protocol,
    Provider,
    RemoteLaunch,
    Sharing,
    SubprocessLaunch,
    ToolRules,
)
from mcp_hangar.server.config import (
    AuditSettings,
    EventSettings,
    Expose,
    ServerLimits,
    ServerSettings,
    Settings,
    find_config,
    load,
    quantities,
    show,
)
from mcp_hangar.server.config.schema import is_secret, known_keys, section_at
from tests.server.config.bad_configs import BAD, LOCAL, REMOTE, Bad

KEY = "00" * 31 + "ff"
ENV = {"HOME": "/home/someone"}


def write(folder: Path, text: str) -> Path:
    path = folder / "hangar.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, env: dict[str, str] | None = None, **options: bool) -> Settings:
    return load(write(folder, text), ENV | (env or {}), **options)


def problems(folder: Path, text: str, env: dict[str, str] | None = None) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, env)
    return caught.value.problems


# what is read


def test_the_smallest_file_gives_every_default(tmp_path: Path) -> None:
    found = read(tmp_path, "version: 1\n")
    assert found.server == ServerSettings()
    assert found.server.limits == ServerLimits()
    assert (found.expose, found.events, found.audit) == (Expose(), EventSettings(), AuditSettings())
    assert found.providers == {}
    assert found.state_dir == Path("/home/someone/.local/state/hangar")
    assert found.file == tmp_path / "hangar.yaml"
    assert found.digest == hashlib.sha256(b"version: 1\n").hexdigest()


def test_a_subprocess_provider_with_nothing_but_its_command_has_the_domains_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "version: 1\nproviders: {time: {mode: subprocess, command: [uvx, mcp-server-time]}}\n")
    assert found.providers == {
        "time": Provider(
            name="time",
            mode=Mode.subprocess,
            launch=SubprocessLaunch(command=("uvx", "mcp-server-time")),
            sharing=Sharing.per_caller,
        )
    }


def test_a_remote_provider_with_nothing_but_its_url_has_the_domains_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "version: 1\nproviders: {web: {mode: remote, url: http://127.0.0.1:9/mcp}}\n")
    assert found.providers["web"] == Provider(
        name="web", mode=Mode.remote, launch=RemoteLaunch(url="http://127.0.0.1:9/mcp"), sharing=Sharing.per_session
    )


def test_every_key_of_a_provider_arrives(tmp_path: Path) -> None:
    text = """
        version: 1
        providers:
          local:
            mode: subprocess
            command: [server, "--flag"]
            env: {A: "1"}
            cwd: data
            sessions: shared
            protocol: legacy
            description: Some words.
            tools: {allow: ["get_*"], deny: [get_secret], idempotent: [get_a]}
            lifecycle: {start_timeout: 1s, idle_ttl: 0, stop_grace: 500ms, restart: {backoff: 2s..4s}}
            health: {interval: 0s, timeout: 2s, unhealthy_after: 4, healthy_after: 5}
            limits: {concurrency: 6, call_timeout: 7s, message_bytes: 8KiB, instances: 9}
          far:
            mode: remote
            url: https://example.com/mcp?a=b
            headers: {X-One: "1"}
            auth: {client_credentials: {token_url: https://a.example/t, client_id: i, client_secret: s, scope: c,
                   resource: r}}
            proxy: http://proxy:3128
            ca_file: ca.pem
            transport: streamable_http
            connect_timeout: 3s
            first_byte_timeout: 4s
            sessions: per_caller
            protocol: modern
    """
    found = read(tmp_path, text).providers
    assert found["local"] == Provider(
        name="local",
        mode=Mode.subprocess,
        launch=SubprocessLaunch(command=("server", "--flag"), env={"A": "1"}, cwd=str(tmp_path / "data")),
        sharing=Sharing.shared,
        protocol=Protocol.legacy,
        description="Some words.",
        tools=ToolRules(allow=("get_*",), deny=("get_secret",), idempotent=("get_a",)),
        lifecycle=Lifecycle(start_timeout=1, idle_ttl=0, stop_grace=0.5, restart=Backoff(first=2, longest=4)),
        health=HealthCheck(interval=0, timeout=2, unhealthy_after=4, healthy_after=5),
        limits=Limits(concurrency=6, call_timeout=7, message_bytes=8192, instances=9),
    )
    assert found["far"] == Provider(
        name="far",
        mode=Mode.remote,
        launch=RemoteLaunch(
            url="https://example.com/mcp?a=b",
            headers={"X-One": "1"},
            auth=ClientCredentials(
                token_url="https://a.example/t", client_id="i", client_secret="s", scope="c", resource="r"
            ),
            proxy="http://proxy:3128",
            ca_file=str(tmp_path / "ca.pem"),
            transport="streamable_http",
            connect_timeout=3,
            first_byte_timeout=4,
        ),
        sharing=Sharing.per_caller,
        protocol=Protocol.modern,
    )


def test_every_key_outside_the_providers_arrives(tmp_path: Path) -> None:
    text = f"""
        version: 1
        server:
          listen: "[::1]:9000"
          token: agent-token
          admin_token: admin-token
          admin_listen: unix:/run/hangar/admin.sock
          allowed_hosts: [hangar.internal, "hangar.internal:9000"]
          allowed_origins: [https://app.example]
          session_key: {KEY}
          session_idle: 1h
          limits: {{body_bytes: 1Mi, header_bytes: 4096, depth: 9, sessions: 8, sessions_per_caller: 7, parked: 6,
                   batch: 5}}
        state: {{dir: state}}
        expose: {{prefix: never, hangar_tools: all, list_timeout: 250ms}}
        events: {{backlog_bytes: 1MiB, keep: 2MiB, on_overflow: drop, durability: default}}
        audit: {{sink: ~/audit.jsonl, arguments: preview, hash_key: {KEY}, rotate: {{bytes: 1GiB, keep: 2}}}}
    """
    found = read(tmp_path, text)
    key = bytes.fromhex(KEY)
    assert found.server == ServerSettings(
        host="::1",
        port=9000,
        token="agent-token",
        admin_token="admin-token",
        admin_listen="unix:/run/hangar/admin.sock",
        allowed_hosts=("hangar.internal", "hangar.internal:9000"),
        allowed_origins=("https://app.example",),
        session_key=key,
        session_idle=3600,
        limits=ServerLimits(
            body_bytes=1024**2, header_bytes=4096, depth=9, sessions=8, sessions_per_caller=7, parked=6, batch=5
        ),
    )
    assert found.state_dir == tmp_path / "state"
    assert found.expose == Expose(prefix="never", hangar_tools="all", list_timeout=0.25)
    assert found.events == EventSettings(backlog_bytes=1024**2, keep=2 * 1024**2, on_overflow="drop")
    assert found.audit == AuditSettings(
        sink="/home/someone/audit.jsonl", arguments="preview", hash_key=key, rotate_bytes=1024**3, rotate_keep=2
    )


def test_defaults_reach_each_provider_key_by_key_and_its_own_keys_win(tmp_path: Path) -> None:
    text = """
        version: 1
        defaults:
          lifecycle: {idle_ttl: 1m, restart: {backoff: 3s..5s}}
          limits: {call_timeout: 5s, concurrency: 2}
        providers:
          one: {mode: subprocess, command: [x], limits: {concurrency: 3}}
          two: {mode: subprocess, command: [x], lifecycle: {restart: {backoff: 1s..2s}, idle_ttl: 5m}}
    """
    found = read(tmp_path, text).providers
    assert found["one"].limits == Limits(call_timeout=5, concurrency=3)
    assert found["one"].lifecycle == Lifecycle(idle_ttl=60, restart=Backoff(first=3, longest=5))
    assert found["two"].limits == Limits(call_timeout=5, concurrency=2)
    # 5m is the built-in value too: what was written wins over `defaults`, even so.
    assert found["two"].lifecycle == Lifecycle(idle_ttl=300, restart=Backoff(first=1, longest=2))


# what is filled in


def test_variables_files_and_defaults_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    text = f"""
        version: 1
        providers:
          p:
            mode: subprocess
            command: ["a$${{b}}"]
            env:
              WHOLE: ${{ONE}}
              INSIDE: "<${{ONE}}|${{TWO:-fallback}}|${{EMPTY:-fallback}}>"
              FILE: ${{file:{tmp_path}/secret}}
              PLAIN: $$${{ONE}}, $5 and $ONE
              ESCAPED: $${{ONE}}
            limits: {{concurrency: "${{NUMBER}}", call_timeout: "${{NUMBER}}s"}}
    """
    found = read(tmp_path, text, {"ONE": "${TWO}", "EMPTY": "", "NUMBER": "7"}).providers["p"]
    assert isinstance(found.launch, SubprocessLaunch)
    assert found.launch.command == ("a${b}",)
    assert found.launch.env == {
        "WHOLE": "${TWO}",
        "INSIDE": "<${TWO}|fallback|fallback>",
        "FILE": "from a file",
        "PLAIN": "$${ONE}, $5 and $ONE",
        "ESCAPED": "${ONE}",
    }
    assert (found.limits.concurrency, found.limits.call_timeout) == (7, 7.0)


def test_only_one_line_end_is_taken_from_a_files_value(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"two\n\r\n")
    text = (
        f'version: 1\nproviders: {{p: {{mode: subprocess, command: [x], env: {{A: "${{file:{tmp_path}/secret}}"}}}}}}'
    )
    launch = read(tmp_path, text).providers["p"].launch
    assert isinstance(launch, SubprocessLaunch) and launch.env == {"A": "two\n"}


# what is refused


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_mistake_is_told_with_its_place_and_a_fix(tmp_path: Path, bad: Bad) -> None:
    found = problems(tmp_path, bad.text)
    assert (found[0].line, found[0].column) == bad.place, found
    assert bad.what in found[0].what
    assert bad.fix in found[0].fix and found[0].fix
    assert len(found) == 1, "one mistake, one message"
    assert all(problem.file == str(tmp_path / "hangar.yaml") for problem in found)


def test_all_mistakes_come_in_one_run_in_their_order(tmp_path: Path) -> None:
    text = """\
version: 1
sever: {}
server: {listen: 0.0.0.0:1, token: "a b"}
providers:
  Bad: {mode: subprocess}
  web:
    mode: remote
    url: h
    command: [x, "${NO}"]
    headers: {Host: a}
    tools: {allow: [a, "b c"], deny: ["*"], idempotent: [a]}
    limits: {call_timeout: 5, queue: 1}
events: {durability: strict}
"""
    found = problems(tmp_path, text)
    assert [(one.line, one.column) for one in found] == sorted((one.line, one.column) for one in found)
    lines = [one.line for one in found]
    assert lines == [2, 3, 5, 5, 8, 9, 9, 10, 11, 11, 12, 12, 13], "\n".join(map(str, found))


def test_a_broken_value_does_not_bring_messages_about_what_follows_from_it(tmp_path: Path) -> None:
    text = "version: 1\nserver: {listen: '0.0.0.0:8000', token: '${NO_SUCH_TOKEN}'}\n"
    assert [one.what for one in problems(tmp_path, text)] == ["the environment has no variable NO_SUCH_TOKEN."]


def test_an_open_listener_is_accepted_only_when_that_was_asked_for(tmp_path: Path) -> None:
    text = "version: 1\nserver: {listen: '0.0.0.0:8000'}\n"
    assert read(tmp_path, text, unsafe_no_auth=True).server.host == "0.0.0.0"
    assert read(tmp_path, text.replace("}", ", token: abc}")).server.token == "abc"


def test_a_file_that_cannot_be_read_is_told_without_a_trace(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read: (No such file|Is a directory)"):
            load(path, ENV)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        load(huge, ENV)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"version: 1\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2:6: the file is not UTF-8 here"):
        load(latin, ENV)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "hangar.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\nserver:\r\n  listen: 127.0.0.1:1\r\n")
    assert load(path, ENV).server.port == 1


# secrets

SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nserver: {token: 's3cr3t-value x'}\n",
        "version: 1\nserver: {admin_token: [s3cr3t-value]}\n",
        "version: 1\nserver: {session_key: s3cr3t-value}\n",
        "version: 1\naudit: {hash_key: s3cr3t-value}\n",
        "version: 1\nserver: {tokn: s3cr3t-value}\n",
        "version: 1\nserver: s3cr3t-value\n",
        LOCAL + "    env: s3cr3t-value\n",
        LOCAL + "    env: {A: {B: s3cr3t-value}}\n",
        REMOTE + "    headers: {A: \" s3cr3t-value\"}\n",
        REMOTE + "    headers: [s3cr3t-value]\n",
        REMOTE + "    auth: {client_credentials: {token_url: https://h/, client_id: a, client_secret: [s3cr3t-value]}}",
        REMOTE.replace("https://h/mcp", "${SECRET}"),
        REMOTE.replace("https://h/mcp", "https://u:s3cr3t-value@h/"),
        LOCAL + "    limits: {concurrency: '${SECRET}', call_timeout: '${SECRET}'}\n",
        LOCAL.replace("subprocess", "${SECRET}"),
        "version: 1\nserver:\n  token: \"s3cr3t-value\n",
        "version: 1\nserver:\n  token: s3cr3t-value: x\n",
        "version: 1\nserver:\n  token: |\n    s3cr3t-value\n   x: y\n",
    ],
)  # fmt: skip
def test_no_message_quotes_a_secret(tmp_path: Path, text: str) -> None:
    found = problems(tmp_path, text, {"SECRET": SECRET})
    assert SECRET not in "\n".join(map(str, found))


def test_no_representation_of_the_settings_tells_a_secret(tmp_path: Path) -> None:
    text = f"""
        version: 1
        server: {{token: {SECRET}-1, admin_token: {SECRET}-2, session_key: "{KEY}"}}
        audit: {{hash_key: "{KEY}"}}
        providers:
          p: {{mode: subprocess, command: [x], env: {{A: {SECRET}}}}}
          r:
            mode: remote
            url: https://h/
            headers: {{A: Basic {SECRET}-3}}
          o:
            mode: remote
            url: https://h/?key=${{SECRET}}
            auth: {{client_credentials: {{token_url: https://h/, client_id: a, client_secret: {SECRET}}}}}
    """
    found = read(tmp_path, text, {"SECRET": SECRET})
    quiet = replace(found, providers={name: one for name, one in found.providers.items() if name != "o"})
    for told in (repr(quiet), repr(found.providers["o"].launch).partition("headers")[2], show(found)):
        assert SECRET not in told
        assert KEY not in told and repr(bytes.fromhex(KEY)) not in told
    assert "url: https://h/?key=***" in show(found)
    assert {SECRET, f"{SECRET}-1", f"{SECRET}-2", f"{SECRET}-3", f"Basic {SECRET}-3", KEY} <= found.secrets


def test_what_was_filled_in_through_defaults_is_masked_where_it_takes_effect(tmp_path: Path) -> None:
    text = """
        version: 1
        defaults: {limits: {concurrency: "${N}", instances: "${N:-3}"}}
        providers:
          one: {mode: subprocess, command: [x]}
          two: {mode: subprocess, command: [x], limits: {concurrency: 5}}
    """
    shown = YAML(typ="safe").load(show(read(tmp_path, text, {"N": "4"})))["providers"]
    assert shown["one"]["limits"]["concurrency"] == "***"
    assert shown["two"]["limits"]["concurrency"] == 5
    # A default stands in the file itself.
    shown = YAML(typ="safe").load(show(read(tmp_path, text.replace('"${N}"', "2"))))["providers"]
    assert shown["one"]["limits"]["instances"] == 3


# where the file is


def test_the_file_is_looked_for_in_order(tmp_path: Path) -> None:
    cwd, home = tmp_path / "cwd", tmp_path / "home"
    (home / ".config" / "hangar").mkdir(parents=True)
    cwd.mkdir()
    last = write(home / ".config" / "hangar", "version: 1\n")
    assert find_config(None, {}, cwd, home) == last
    third = write(cwd, "version: 1\n")
    assert find_config(None, {}, cwd, home) == third
    second, first = tmp_path / "second.yaml", tmp_path / "first.yaml"
    second.touch()
    first.touch()
    assert find_config(None, {"HANGAR_CONFIG": str(second)}, cwd, home) == second
    assert find_config(str(first), {"HANGAR_CONFIG": str(second)}, cwd, home) == first


def test_a_named_file_that_is_missing_is_an_error_and_nothing_else_is_tried(tmp_path: Path) -> None:
    write(tmp_path, "version: 1\n")
    with pytest.raises(ConfigError, match=r"other\.yaml: there is no such file \(--config\)"):
        find_config("other.yaml", {}, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"no such file \(HANGAR_CONFIG\)"):
        find_config(None, {"HANGAR_CONFIG": "other.yaml"}, tmp_path, tmp_path)


def test_no_file_at_all_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_config(None, {}, tmp_path / "a", tmp_path / "b")
    told = str(caught.value)
    assert "--config" in told and "HANGAR_CONFIG" in told
    assert str(tmp_path / "a" / "hangar.yaml") in told
    assert str(tmp_path / "b" / ".config" / "hangar" / "hangar.yaml") in told


# properties

words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\ufeff"), max_size=12)
TRICKY = ["", "yes", "1e3", "0x1f", "~", "null", "a: b", "- x", "#c", "${A}", "$${A}", "1:30", "2001-01-01", "a'b\"c"]
texts = words | st.sampled_from([*TRICKY, "é", " x", "x ", "*", "&a", "!t", "%", "@", "a\nb"])
durations = st.integers(1, 10**9).map(lambda millis: quantities.format_duration(millis / 1000))
sizes = st.integers(64 * 1024, 2**35).map(quantities.format_size)
counts = st.integers(1, 1000)
names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda name: name != "hangar")
globs = st.text("abc_*?", min_size=1, max_size=5)


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


sections: dict[str, st.SearchStrategy[Any]] = {
    "lifecycle": some(
        start_timeout=durations,
        idle_ttl=durations | st.just(0),
        stop_grace=durations,
        restart=some(backoff=st.tuples(durations, durations).map("..".join)),
    ),
    "health": some(interval=durations, timeout=durations, unhealthy_after=counts, healthy_after=counts),
    "limits": some(concurrency=counts, call_timeout=durations, message_bytes=sizes, instances=counts),
}
either = {
    **sections,
    "protocol": st.sampled_from(["auto", "modern", "legacy"]),
    "sessions": st.sampled_from(["per_session", "per_caller", "shared"]),
    "description": texts,
    "tools": some(allow=st.lists(globs, min_size=1), deny=st.lists(globs), idempotent=st.lists(globs)),
}
plain_headers = st.dictionaries(
    st.from_regex(r"X-[A-Za-z]{1,8}", fullmatch=True), st.from_regex(r"[!-~]*", fullmatch=True)
)
locals_ = st.fixed_dictionaries(
    {"mode": st.just("subprocess"), "command": st.lists(texts, min_size=1)},
    optional={**either, "env": st.dictionaries(st.from_regex(r"[A-Z_]{1,6}", fullmatch=True), texts), "cwd": words},
)
remotes = st.fixed_dictionaries(
    {
        "mode": st.just("remote"),
        "url": st.sampled_from(["https://h/mcp", "http://127.0.0.1:1/?a=b", "https://[::1]:9"]),
    },
    optional={
        **either,
        "headers": plain_headers,
        "proxy": st.just("http://proxy:3128"),
        "ca_file": words,
        "transport": st.sampled_from(["auto", "streamable_http", "legacy_sse"]),
        "connect_timeout": durations,
        "first_byte_timeout": durations,
    },
)
configs = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "server": some(
            listen=st.sampled_from(["127.0.0.1:0", "localhost:1", "[::1]:2"]),
            token=st.from_regex(r"[!-#%-~]+", fullmatch=True),
            session_idle=durations,
            limits=some(body_bytes=sizes, depth=st.integers(8, 1000), parked=counts),
        ),
        "state": some(dir=words),
        "providers": st.dictionaries(names, locals_ | remotes, max_size=3),
        "expose": some(prefix=st.sampled_from(["always", "never"]), list_timeout=durations),
        "defaults": some(**sections),
        "events": some(backlog_bytes=sizes, keep=sizes, on_overflow=st.sampled_from(["refuse", "drop"])),
        "audit": some(sink=st.sampled_from(["none", "/x", "stderr"]), arguments=st.sampled_from(["hash", "full"])),
    },
)


def outcome(folder: Path, text: str, env: dict[str, str]) -> Settings | list[ConfigProblem]:
    try:
        return read(folder, text, env)
    except ConfigError as error:
        return error.problems


def restored(shown: Any, original: Settings) -> Any:
    """What was shown, with the masked values put back: only the masks may differ."""
    for name, provider in shown.get("providers", {}).items():
        launch = original.providers[name].launch
        if "description" in provider:
            provider["description"] = unmasked(provider["description"], original.providers[name].description)
        if isinstance(launch, SubprocessLaunch):
            provider["command"] = list(map(unmasked, provider["command"], launch.command))
        if isinstance(launch, SubprocessLaunch) and "env" in provider:
            provider["env"] = {key: value.replace("${", "$${") for key, value in launch.env.items()}
        if isinstance(launch, RemoteLaunch) and "headers" in provider:
            provider["headers"] = {key: value.replace("${", "$${") for key, value in launch.headers.items()}
    if "token" in shown["server"]:
        shown["server"]["token"] = original.server.token
    return shown


def unmasked(shown: str, original: str) -> str:
    """What came from the environment is masked wherever it stands."""
    return original.replace("${", "$${") if "***" in shown else shown


def as_yaml(data: Any) -> str:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=[Pace.function_scoped_fixture, Pace.too_slow])
@given(data=configs)
@example(
    data={"version": 1, "providers": {"p": {"mode": "subprocess", "command": ["$${A}", "1e3"], "env": {"A": "~"}}}}
)
@example(data={"version": 1, "providers": {"p": {"mode": "subprocess", "command": ["${A}"], "description": "${A}"}}})
@example(data={"version": 1, "providers": {"p": {"mode": "subprocess", "command": ["x"], "env": {"A": ""}}}})
def test_an_accepted_configuration_survives_being_shown_and_read_again(tmp_path: Path, data: Any) -> None:
    first = outcome(tmp_path, as_yaml(data), {"A": "filled"})
    if not isinstance(first, Settings):
        assert all(problem.fix and problem.line for problem in first)
        return
    again = as_yaml(restored(YAML(typ="safe").load(show(first)), first))
    second = read(tmp_path, again, {"A": "filled"})
    assert replace(second, digest=first.digest, secrets=first.secrets) == first


@settings(max_examples=150, deadline=None, suppress_health_check=[Pace.function_scoped_fixture])
@given(text=st.text(max_size=200) | st.text("{}[]:,-#&*!|>'\"%@`\n\t $v1", max_size=60).map("version: 1\n".__add__))
def test_no_text_brings_anything_but_settings_or_problems(tmp_path: Path, text: str) -> None:
    found = outcome(tmp_path, text.encode("utf-8", "ignore").decode(), {})
    assert isinstance(found, Settings) or (found and all(problem.what and problem.fix for problem in found))


def test_every_secret_key_exists_and_is_hidden_with_all_that_it_holds() -> None:
    keys = list(known_keys())
    hidden = [key for key in keys if is_secret(key)]
    assert [".".join(key) for key in hidden] == [
        "server.token",
        "server.admin_token",
        "server.session_key",
        "providers.*.env",
        "providers.*.headers",
        "providers.*.auth.client_credentials.client_secret",
        "audit.hash_key",
    ]
    assert all(section_at(key) is None for key in hidden)
