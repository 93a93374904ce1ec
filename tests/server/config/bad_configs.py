# SPDX-License-Identifier: MIT
"""Mistakes that people make in hangar.yaml: the text, where it is told, and words of what and of the fix."""

from __future__ import annotations

from typing import NamedTuple


class Bad(NamedTuple):
    text: str
    place: tuple[int, int]
    what: str
    fix: str


LOCAL = "version: 1\nproviders:\n  p:\n    mode: subprocess\n    command: [x]\n"
REMOTE = "version: 1\nproviders:\n  r:\n    mode: remote\n    url: https://h/mcp\n"

BAD = {
    # the text itself
    "empty file": Bad("# nothing\n", (1, 1), "the file is empty", "version: 1"),
    "a list at the top": Bad("- a\n", (1, 1), "expected keys and values", "version: 1"),
    "tab as indentation": Bad("version: 1\nserver:\n\tlisten: x\n", (3, 1), "a tab", "spaces"),
    "indentation that fits nowhere": Bad(
        "version: 1\nserver:\n    token: a\n  listen: b\n", (4, 3), "does not fit", "column"
    ),
    "indented below a value": Bad("version: 1\n  server: {}\n", (2, 9), "':' where none can stand", "indentation"),
    "colon in plain text": Bad(LOCAL + "    description: a: b\n", (6, 19), "':' where none can stand", "quote"),
    "no colon": Bad("version: 1\nserver\nstate: {}\n", (2, 1), "a key without ':'", "key: value"),
    "quote never closed": Bad("version: 1\nserver: {listen: 'x\n", (2, 18), "never closed", "Close it"),
    "bracket never closed": Bad("version: 1\nserver: {listen: x\n", (3, 1), "not closed", "Close it"),
    "reference in braces": Bad("version: 1\nserver: {token: ${A}}\n", (2, 18), "must be quoted", '"${NAME}"'),
    "unquoted star": Bad(LOCAL + "    tools: {deny: [*]}\n", (6, 21), "begins with '*'", "quotes"),
    "unquoted at sign": Bad(LOCAL + "    description: @me\n", (6, 18), "must be quoted", "quotes"),
    "unknown escape": Bad('version: 1\nstate: {dir: "\\q"}\n', (2, 16), "escape", "single quotes"),
    "alias": Bad("version: 1\nserver: *a\n", (2, 9), "aliases", "Write the value out"),
    "anchor": Bad("version: 1\nstate: &a {dir: x}\n", (2, 8), "anchors", "defaults"),
    "merge key": Bad("version: 1\nserver: {<<: {listen: x}}\n", (2, 10), "merge keys", "defaults"),
    "tag": Bad("version: 1\nstate: {dir: !!python/name:os.system x}\n", (2, 14), "tags", "Remove"),
    "second document": Bad("version: 1\n---\nversion: 1\n", (3, 1), "second document", "---"),
    "key twice": Bad(
        "version: 1\nstate: {dir: a}\nstate: {dir: b}\n", (3, 1), "'state' appears twice (first in line 2)", "Keep one"
    ),
    "key that is a list": Bad("version: 1\n? [a]\n: b\n", (2, 3), "a name as the key", "Quote"),
    "control character": Bad("version: 1\nstate: {dir: \x07}\n", (2, 14), "YAML does not allow", "Remove"),
    "nested without end": Bad("version: 1\nserver: " + "[" * 99 + "]" * 99, (2, 33), "nested deeper", "No setting"),
    "no value": Bad("version: 1\nserver:\n  token:\n", (3, 3), "'token' has no value", "remove it"),
    "section without keys": Bad("version: 1\nproviders:\n", (2, 1), "'providers' has no value", "remove it"),
    # names
    "no version": Bad("server: {}\n", (1, 1), "'version' is missing", "version: 1"),
    "version of the future": Bad(
        "version: 2\n", (1, 10), "'version' is not one that this Hangar reads, not 2", "version: 1"
    ),
    "version as text": Bad('version: "1"\n', (1, 10), "'version' is not one", "version: 1"),
    "misspelt section": Bad("version: 1\nsever: {}\n", (2, 1), "unknown key 'sever'", "Did you mean 'server'?"),
    "misspelt key": Bad(LOCAL + "    comand: [y]\n", (6, 5), "unknown key 'comand'", "Did you mean 'command'?"),
    "dashes for underscores": Bad(
        "version: 1\nserver:\n  allowed-hosts: [a]\n", (3, 3), "'allowed-hosts'", "'allowed_hosts'"
    ),
    "a client's file": Bad("version: 1\nmcpServers: {}\n", (2, 1), "unknown key 'mcpServers'", "'providers'"),
    "args beside command": Bad(LOCAL + "    args: [y]\n", (6, 5), "unknown key 'args'", "'command'"),
    "key in the wrong section": Bad(
        LOCAL + "    idle_ttl: 5m\n", (6, 5), "unknown key 'idle_ttl'", "'providers.NAME.lifecycle'"
    ),
    "provider at the top": Bad(
        "version: 1\ntime: {mode: subprocess, command: [x]}\n",
        (2, 1),
        "unknown key 'time'",
        "indent it below 'providers:'",
    ),
    "key of a later version": Bad("version: 1\ngroups: {}\n", (2, 1), "'groups' is not available yet", "Remove it"),
    "capabilities": Bad(
        LOCAL + "    capabilities: {network: []}\n", (6, 5), "'capabilities' is not available yet", "Remove it"
    ),
    "queue": Bad(LOCAL + "    limits: {queue: 1}\n", (6, 14), "'queue' is not available yet", "Remove it"),
    "breaker": Bad("version: 1\ndefaults: {breaker: {}}\n", (2, 12), "'breaker' is not available yet", "Remove it"),
    "provider name with capitals": Bad(
        "version: 1\nproviders:\n  My_Time: {mode: subprocess, command: [x]}\n",
        (3, 3),
        "'My_Time' cannot be",
        "Did you mean 'my-time'?",
    ),
    "provider name ending in a dash": Bad(
        "version: 1\nproviders:\n  a-: {mode: subprocess, command: [x]}\n",
        (3, 3),
        "'a-' cannot be",
        "Did you mean 'a'?",
    ),
    "provider called hangar": Bad(
        "version: 1\nproviders:\n  hangar: {mode: subprocess, command: [x]}\n", (3, 3), "reserved", "another name"
    ),
    "providers as a list": Bad(
        "version: 1\nproviders:\n  - mode: subprocess\n", (3, 3), "'providers' must hold names", "NAME:"
    ),
    # values
    "misspelt mode": Bad(
        "version: 1\nproviders:\n  p: {mode: subproces, command: [x]}\n",
        (3, 13),
        "'mode' must be subprocess or remote, not 'subproces'",
        "Did you mean 'subprocess'?",
    ),
    "mode of a later version": Bad(
        "version: 1\nproviders:\n  p: {mode: docker}\n", (3, 13), "mode 'docker' is not available yet", "remote"
    ),
    "no mode": Bad(
        "version: 1\nproviders:\n  p: {url: https://h/}\n", (3, 3), "'mode' is missing in provider 'p'", "mode: remote"
    ),
    "misspelt choice": Bad(
        "version: 1\nevents: {on_overflow: drp}\n",
        (2, 23),
        "'on_overflow' must be refuse or drop",
        "Did you mean 'drop'?",
    ),
    "choice as a boolean": Bad(
        "version: 1\nexpose: {hangar_tools: false}\n",
        (2, 24),
        "'hangar_tools' must be none, read or all, not false",
        "Choose one",
    ),
    "command as text": Bad(LOCAL.replace("[x]", "uvx 'a b'"), (5, 14), "'command' must be a list", "[uvx, a b]"),
    "command empty": Bad(LOCAL.replace("[x]", "[]"), (5, 14), "'command' is empty", "Give it a value"),
    "number in a command": Bad(LOCAL.replace("[x]", "[x, 8080]"), (5, 18), "must be text, not 8080", '"8080"'),
    "section as text": Bad("version: 1\nserver: yes\n", (2, 9), "'server' must hold keys", "listen"),
    "number in env": Bad(LOCAL + "    env: {PORT: 8080}\n", (6, 17), "'PORT' must be text", "quotes"),
    "bare number as duration": Bad(
        LOCAL + "    limits: {call_timeout: 30}\n", (6, 28), "expected a duration such as 30s, not 30", "30s"
    ),
    "unit that is none": Bad(
        LOCAL + "    limits: {call_timeout: 30sec}\n", (6, 28), "expected a duration", "ms, s, m and h"
    ),
    "negative duration": Bad(
        LOCAL + "    limits: {call_timeout: -1s}\n", (6, 28), "expected a duration", "ms, s, m and h"
    ),
    "endless duration": Bad(LOCAL + "    limits: {call_timeout: 99999h}\n", (6, 28), "at most 366 days", ""),
    "no time at all": Bad(
        LOCAL + "    limits: {call_timeout: 0s}\n", (6, 28), "'call_timeout' must be more than 0", "bound"
    ),
    "decimal unit": Bad(
        LOCAL + "    limits: {message_bytes: 16MB}\n", (6, 29), "expected a size", "Did you mean 16MiB?"
    ),
    "size that is none": Bad(LOCAL + "    limits: {message_bytes: much}\n", (6, 29), "expected a size", "KiB"),
    "size too small": Bad("version: 1\nserver: {limits: {body_bytes: 10}}\n", (2, 31), "at least 1024", "bound"),
    "count as text": Bad(LOCAL + "    limits: {concurrency: many}\n", (6, 27), "whole number, not 'many'", "digits"),
    "count with a fraction": Bad(
        LOCAL + "    limits: {concurrency: 1.5}\n", (6, 27), "whole number, not 1.5", "digits"
    ),
    "count of true": Bad(LOCAL + "    limits: {concurrency: true}\n", (6, 27), "whole number, not true", "digits"),
    "count of zero": Bad(LOCAL + "    limits: {instances: 0}\n", (6, 25), "at least 1, not 0", "bound"),
    "depth beyond reason": Bad("version: 1\nserver: {limits: {depth: 100000}}\n", (2, 26), "at most 1000", "bound"),
    "backoff that is no range": Bad(
        LOCAL + "    lifecycle: {restart: {backoff: 5s}}\n", (6, 36), "range of durations", "two dots"
    ),
    "backoff backwards": Bad(
        LOCAL + "    lifecycle: {restart: {backoff: 9s..1s}}\n", (6, 36), "not above the longest", "longest"
    ),
    "port alone": Bad("version: 1\nserver: {listen: 8000}\n", (2, 18), "must be text, not 8000", "quotes"),
    "address without host": Bad("version: 1\nserver: {listen: ':8000'}\n", (2, 18), "an address and a port", "0.0.0.0"),
    "port too high": Bad(
        "version: 1\nserver: {listen: '127.0.0.1:70000'}\n", (2, 18), "an address and a port", "0.0.0.0"
    ),
    "relative admin socket": Bad(
        "version: 1\nserver: {admin_listen: 'unix:a.sock'}\n", (2, 24), "absolute path", "unix:/run"
    ),
    "admin socket too long": Bad(
        f"version: 1\nserver: {{admin_listen: 'unix:/{'a' * 110}'}}\n", (2, 24), "107 bytes", "shorter"
    ),
    "host pattern": Bad(
        "version: 1\nserver: {allowed_hosts: ['*']}\n", (2, 26), "expected a host name", "patterns are not"
    ),
    "origin with a path": Bad(
        "version: 1\nserver: {allowed_origins: ['https://a.example/x']}\n",
        (2, 28),
        "expected an origin",
        "without path",
    ),
    "key too short": Bad("version: 1\nserver: {session_key: abcd}\n", (2, 23), "32 bytes", "openssl rand -hex 32"),
    "token with a blank": Bad("version: 1\nserver: {token: 'a b'}\n", (2, 17), "one word", "openssl"),
    "url without scheme": Bad(REMOTE.replace("https://h/mcp", "h/mcp"), (5, 10), "expected a URL", "scheme"),
    "url of a file": Bad(REMOTE.replace("https://h/mcp", "file:///etc/passwd"), (5, 10), "expected a URL", "scheme"),
    "url with a fragment": Bad(REMOTE.replace("h/mcp", "h/mcp#x"), (5, 10), "fragment", "Remove it"),
    "proxy by another protocol": Bad(REMOTE + "    proxy: socks5://p:1\n", (6, 12), "expected a proxy", "http://"),
    "sink misspelt": Bad("version: 1\naudit: {sink: stdot}\n", (2, 15), "expected stdout", "Did you mean 'stdout'?"),
    "sink with a relative path": Bad("version: 1\naudit: {sink: audit.jsonl}\n", (2, 15), "absolute path", "/var/log"),
    "empty pattern": Bad(LOCAL + "    tools: {deny: ['']}\n", (6, 20), "matches nothing", "Remove it"),
    "pattern with a class": Bad(
        LOCAL + "    tools: {deny: ['[ab]*']}\n", (6, 20), "* and ? as wildcards", "not supported"
    ),
    "nothing allowed, in words of everything": Bad(
        LOCAL + "    tools: {allow: []}\n", (6, 20), "would allow every tool", "deny: ['*']"
    ),
    # what is filled in
    "unset variable": Bad(LOCAL + "    env: {A: '${HANGAR_X}'}\n", (6, 14), "no variable HANGAR_X", "Set it"),
    "variable nearly set": Bad(
        LOCAL + "    env: {A: '${HOMEE}'}\n", (6, 14), "no variable HOMEE", "Did you mean HOME?"
    ),
    "reference not closed": Bad(LOCAL + "    env: {A: '${HOME'}\n", (6, 14), "never closed", "$${"),
    "reference of a shell": Bad(LOCAL + "    env: {A: '${HOME%/}'}\n", (6, 14), "not a reference", "${NAME:-default}"),
    "secret file missing": Bad(
        LOCAL + "    env: {A: '${file:/no/such}'}\n", (6, 14), "/no/such cannot be read: No such file", "path"
    ),
    "secret file relative": Bad(LOCAL + "    env: {A: '${file:such}'}\n", (6, 14), "must be absolute", "/run/secrets"),
    "secret that never ends": Bad(
        LOCAL + "    env: {A: '${file:/dev/zero}'}\n", (6, 14), "not a regular file", "holds the value"
    ),
    "secret in a command": Bad(LOCAL.replace("[x]", "[x, '${HOME}']"), (5, 18), "list of processes", "'env'"),
    "number filled in with words": Bad(
        LOCAL + "    limits: {concurrency: '${HOME}'}\n", (6, 27), "whole number.", "digits"
    ),
    # what does not go together
    "url for a subprocess": Bad(
        LOCAL + "    url: https://h/\n", (6, 5), "'url' is for mode remote, and 'p' is subprocess", "mode: remote"
    ),
    "headers for a subprocess": Bad(
        LOCAL + "    headers: {A: b}\n", (6, 5), "'headers' is for mode remote", "Remove it"
    ),
    "command for a remote": Bad(
        REMOTE + "    command: [x]\n", (6, 5), "'command' is for mode subprocess", "mode: subprocess"
    ),
    "env for a remote": Bad(REMOTE + "    env: {A: b}\n", (6, 5), "'env' is for mode subprocess", "Remove it"),
    "subprocess without command": Bad(
        "version: 1\nproviders:\n  p: {mode: subprocess}\n", (3, 3), "'command' is missing in provider 'p'", "uvx"
    ),
    "remote without url": Bad(
        "version: 1\nproviders:\n  p: {mode: remote}\n", (3, 3), "'url' is missing in provider 'p'", "https://"
    ),
    "program without a name": Bad(
        LOCAL.replace("[x]", "[' ', y]"), (5, 15), "program's name is empty", "program first"
    ),
    "plain names of two": Bad(
        LOCAL + "  q: {mode: subprocess, command: [x]}\nexpose: {prefix: never}\n",
        (7, 10),
        "only with one provider",
        "always",
    ),
    "allow that deny covers": Bad(
        LOCAL + "    tools: {allow: ['get_a*', b], deny: ['get_*']}\n", (6, 21), "'get_a*' can never allow", "deny"
    ),
    "idempotent that deny covers": Bad(
        LOCAL + "    tools: {deny: ['*a*'], idempotent: ['xa?']}\n", (6, 41), "'deny' covers it", "deny"
    ),
    "idempotent beside allow": Bad(
        LOCAL + "    tools: {allow: ['get_*'], idempotent: ['set_*']}\n", (6, 44), "'allow' lets no such name", "widen"
    ),
    "variable name with a dash": Bad(
        LOCAL + "    env: {A-B: c}\n", (6, 11), "'A-B' cannot be a variable's name", "letters"
    ),
    "header name with a blank": Bad(
        REMOTE + "    headers: {'A B': c}\n", (6, 15), "'A B' cannot be a header's name", "letters"
    ),
    "header of Hangar": Bad(REMOTE + "    headers: {mcp-session-id: c}\n", (6, 15), "written by Hangar", "Remove it"),
    "header twice": Bad(REMOTE + "    headers: {X-A: c, x-a: d}\n", (6, 23), "given twice", "Keep one"),
    "header of two lines": Bad(
        REMOTE + '    headers: {X-A: "b\\r\\nX-Injected: c"}\n', (6, 20), "one line", "line breaks"
    ),
    "two ways to authorize": Bad(
        REMOTE + "    headers: {authorization: a}\n"
        "    auth: {client_credentials: {token_url: https://h/, client_id: a, client_secret: b}}\n",
        (6, 15),
        "exclude each other",
        "Keep one",
    ),
    "credentials without their secret": Bad(
        REMOTE + "    auth: {client_credentials: {token_url: https://h/, client_id: a}}\n",
        (6, 12),
        "'client_secret' is missing",
        "Add it",
    ),
    "certificates without TLS": Bad(
        REMOTE.replace("https", "http") + "    ca_file: a.pem\n", (6, 5), "no effect without TLS", "https"
    ),
    "eras that exclude each other": Bad(
        REMOTE + "    transport: legacy_sse\n    protocol: modern\n", (7, 5), "legacy_sse", "Remove one"
    ),
    "first byte after the end": Bad(
        REMOTE + "    first_byte_timeout: 2m\n", (6, 5), "can never be reached", "call_timeout"
    ),
    "open door": Bad("version: 1\nserver: {listen: '0.0.0.0:8000'}\n", (2, 10), "without a token", "--unsafe-no-auth"),
    "door open to a name": Bad(
        "version: 1\nserver: {listen: 'example:8000'}\n", (2, 10), "without a token", "127.0.0.1"
    ),
    "one token for both planes": Bad(
        "version: 1\nserver: {token: abc, admin_token: abc}\n", (2, 22), "agents could change", "another"
    ),
    "one address for both planes": Bad(
        "version: 1\nserver: {admin_listen: '127.0.0.1:8000'}\n", (2, 10), "same address", "another port"
    ),
    "more for one than for all": Bad(
        "version: 1\nserver: {limits: {sessions: 5, sessions_per_caller: 6}}\n",
        (2, 32),
        "can never be reached",
        "sessions",
    ),
    "strict without a store": Bad(
        "version: 1\nevents: {durability: strict}\n", (2, 10), "needs a durable event store", "Remove it"
    ),
    "rotation of a stream": Bad(
        "version: 1\naudit: {sink: stderr, rotate: {keep: 1}}\n", (2, 23), "no effect with sink 'stderr'", "file"
    ),
}
