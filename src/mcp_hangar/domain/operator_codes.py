# SPDX-License-Identifier: MIT
"""What can go wrong for the person at the command line, before or beside any call: rows of `errors.CODES` that are
never sent over MCP. The problems of a configuration carry words of their own; their rows tell what they have in common.
"""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3

ROWS: Final[dict[str, tuple[str, str, str, int]]] = {
    # the configuration
    "config_missing": (
        "There is no configuration: {detail}",
        "Hangar reads one file: --config, HANGAR_CONFIG, ./hangar.yaml, or hangar.yaml in ~/.config/hangar.",
        "Write one with `hangar init`, or name it with --config.",
        FAILED,
    ),
    "config_unreadable": (
        "The configuration cannot be read: {detail}",
        "It must be a file that this user may read, in UTF-8, of at most 1 MiB.",
        "Check the path and its rights.",
        FAILED,
    ),
    "config_syntax": (
        "The configuration is not YAML that Hangar reads: {detail}",
        "Indentation carries meaning in YAML; tabs, aliases, anchors, tags and merge keys are refused.",
        "Correct the place that is named; an editor with the JSON Schema (`hangar config schema`) shows such mistakes.",
        FAILED,
    ),
    "config_duplicate_key": (
        "A key of the configuration appears twice: {detail}",
        "Only one of the two could hold, and which one would be a guess.",
        "Keep one of the two.",
        FAILED,
    ),
    "config_unknown_key": (
        "The configuration has a key that Hangar does not know: {detail}",
        "A misspelt setting would be a control that is not there.",
        "Use the key that the message suggests; docs/reference/config.md lists all.",
        FAILED,
    ),
    "config_not_yet": (
        "The configuration asks for something that this version does not do: {detail}",
        "A control that is not enforced is worse than none.",
        "Remove it until a version of Hangar does what it says.",
        FAILED,
    ),
    "config_missing_key": (
        "The configuration lacks a key: {detail}",
        "The section means nothing without it.",
        "Add it, as the message shows.",
        FAILED,
    ),
    "config_value": (
        "A value of the configuration is not one that its key takes: {detail}",
        "Values are read strictly: no unit, word or type is guessed.",
        "Write it as the message shows.",
        FAILED,
    ),
    "config_reference": (
        "Something that the configuration refers to cannot be filled in: {detail}",
        "`${{NAME}}` is taken from the environment of `hangar serve`, `${{file:/path}}` from a file it may read.",
        "Set the variable (or name a file of variables with --env-file), or correct the path.",
        FAILED,
    ),
    "config_conflict": (
        "Settings contradict each other, or can never take effect: {detail}",
        "Which of them was meant would be a guess.",
        "Keep one of them, as the message says.",
        FAILED,
    ),
    "config_open_door": (
        "The configuration would let in everyone who can reach the address: {detail}",
        "Off loopback, agents must send a token.",
        "Set server.token, listen on 127.0.0.1, or start with --unsafe-no-auth.",
        FAILED,
    ),
    # starting
    "address_unavailable": (
        "Hangar cannot listen where it should: {detail}",
        "Another program has the address, or this user or machine may not have it.",
        "Stop the other program, or set server.listen to another port.",
        FAILED,
    ),
    "path_unusable": (
        "A folder or file that Hangar writes to cannot be used: {detail}",
        "The state and the audit trail are kept there.",
        "Give it to the user that runs Hangar, or configure another path.",
        FAILED,
    ),
    "bad_option": (
        "An option or variable has a value that it does not take: {detail}",
        "Only the values that are named there have a meaning.",
        "Use one of them.",
        FAILED,
    ),
    "env_file": (
        "The file of variables {path} cannot be used: {detail}.",
        "It holds secrets: NAME=value lines, in a file of your own that nobody else may read.",
        "Check the path; chmod 600 {path}",
        FAILED,
    ),
    # asking a Hangar that runs
    "not_running": (
        "{detail}",
        "The command asks a Hangar that runs.",
        "Start one with `hangar serve`, or name one with --url or HANGAR_URL.",
        NOT_RUNNING,
    ),
    "several_running": (
        "Several Hangars are running: {detail}.",
        "Every MCP client that starts one over stdio starts one more.",
        "Name one with --pid, --url or HANGAR_URL.",
        USAGE,
    ),
    "no_admin_token": (
        "{detail}",
        "The operator plane opens only to who has the admin token.",
        "Run as the user that Hangar runs as, or set HANGAR_ADMIN_TOKEN.",
        FAILED,
    ),
    "no_answer": (
        "{detail}",
        "It is busy or stopped, or the address is not Hangar's operator plane.",
        "Check --url, and the terminal or log of `hangar serve`.",
        FAILED,
    ),
    "usage": (
        "The command was called in a way it does not know: {detail}",
        "Nothing was done.",
        "See `hangar COMMAND --help`.",
        USAGE,
    ),
    "invalid_arguments": (
        "The arguments do not fit the tool {tool} of {provider}: {detail}",
        "The tool's own schema says what it takes; nothing was called.",
        "{fix}",
        USAGE,
    ),
    # hangar init
    "config_exists": (
        "{path} is there already.",
        "A configuration that someone wrote is not overwritten.",
        "Name another with --config, or overwrite it with --force.",
        FAILED,
    ),
    "not_asked": (
        "Nobody can be asked which servers to take: this is no terminal.",
        "`hangar init` lets you choose before it writes.",
        "Take all with --yes.",
        USAGE,
    ),
    "client_config": (
        "The client's configuration {path} was left as it is: {detail}.",
        "A file that is not surely understood is not edited.",
        "Correct it, or add Hangar by hand, as the README shows.",
        FAILED,
    ),
    "client_changed": (
        "{path} was changed since Hangar was connected, and cannot be read.",
        "Putting back what was before would lose that change.",
        "Correct it, or compare it with {backup}; `hangar init --undo --force` puts that back.",
        FAILED,
    ),
    "nothing_to_undo": (
        "No client's configuration was changed by Hangar.",
        "No file from before lies beside any of them.",
        "Nothing to do.",
        FAILED,
    ),
}
