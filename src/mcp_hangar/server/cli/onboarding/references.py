# SPDX-License-Identifier: MIT
"""Values of other programs' configurations: what is a secret and must not be copied, and what refers to something that
is filled in later. In doubt a value is a secret: a reference too many costs a moment, a copied secret may cost more."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mcp_hangar.server.cli.onboarding.clients import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`${NAME}` or `${NAME:-default}`."""

    name: str
    default: str | None = None


Parts = tuple["str | Reference", ...]
"""A text in pieces: as it stands, or filled in when Hangar starts."""


class Unsupported(Exception):
    """Something that Hangar has nothing like; the words say what."""


_SUSPICIOUS: Final = re.compile(
    r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|DSN|COOKIE|PRIVATE|SIGNATURE|WEBHOOK|BEARER|\bPAT\b|_PAT\b|CONNECTION",
    re.IGNORECASE,
)
_MARKED: Final = re.compile(
    r"\b(sk-|sk_|pk_|rk_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|xox[a-z]-|AKIA|ASIA|AIza|hf_|npm_|pypi-|eyJ)"
    r"|\bBearer\s|\bBasic\s",
)
_PLAIN: Final = re.compile(
    r"|true|false|yes|no|on|off|-?\d{1,10}(\.\d{1,6})?"  # settings
    r"|[A-Za-z]{1,16}([_-][A-Za-z]{1,16}){0,2}"  # words: debug, production, en_US
    r"|[A-Z][A-Za-z]{1,20}(/[A-Z][A-Za-z_]{1,20}){1,2}"  # Europe/Berlin
    r"|[a-z]{2}_[A-Z]{2}\.UTF-?8"
    r"|v?\d{1,4}(\.\d{1,4}){1,3}"  # versions
    r"|(localhost|127\.0\.0\.1|\[::1\]):\d{1,5}",
    re.IGNORECASE,
)
_OPEN_FLAGS: Final = frozenset({"--key-file", "--token-file", "--password-file", "--auth-type", "--max-tokens"})


def is_harmless(name: str, value: str) -> bool:
    """True only for a value that is surely no secret: then it may stand in the file."""
    if value.lower() in ("", "true", "false"):
        return True
    if _SUSPICIOUS.search(name) or _MARKED.search(value):
        return False
    if _PLAIN.fullmatch(value):
        return True
    if value.startswith(("/", "~/", "./", "../")):
        return not any(map(is_random, re.split(r"[/:]", value))) and "\n" not in value
    if re.fullmatch(r"https?://[!-~]+", value):
        return not secret_in_url(value)
    return False


def is_random(word: str) -> bool:
    """Long and mixed, as keys are and names are not."""
    mixed = bool(re.search(r"\d", word)) and bool(re.search(r"[A-Za-z]", word))
    if mixed and len(word) >= 16 and not re.search(r"[ .@]", word):
        return True
    return len(word) >= 40 and bool(re.fullmatch(r"[A-Za-z0-9_=+-]+", word))


def is_random_segment(word: str) -> bool:
    """The same for a part of a URL's path, where shorter keys are usual."""
    mixed = re.search(r"\d", word) and re.search(r"[A-Za-z]", word)
    return is_random(word) or bool(mixed and len(word) >= 10 and (re.search(r"[A-Z]", word) or word.isalnum()))


def secret_in_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return parts.password is not None or bool(parts.query) or any(map(is_random_segment, parts.path.split("/")))


def secret_in_command(words: list[str]) -> str:
    """Where a command line holds what looks like a secret, in words that do not repeat it; empty if it does not."""
    before = ""
    for number, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if not (equals and re.fullmatch(r"-{0,2}[A-Za-z][\w.-]*", flag)):
            flag, value = "", word
        named = flag or before
        if number and named not in _OPEN_FLAGS and not value.startswith("-") and _secret_argument(named, value):
            return f"after {named}" if named else f"in argument {number}"
        before = word if word.startswith("-") and not equals else ""
    return ""


def _secret_argument(flag: str, value: str) -> bool:
    if not value or value.lower() in ("true", "false"):
        return False
    if _MARKED.search(value) or re.fullmatch(r"[0-9a-f]{32,}", value):
        return True
    if re.match(r"[a-z][a-z0-9+.-]*://", value, re.IGNORECASE):
        parts = urlsplit(value)
        laden = any(map(is_random, re.split(r"[/?&=]", f"{parts.path}?{parts.query}")))
        return parts.password is not None or laden or bool(_SUSPICIOUS.search(parts.query))
    if value.startswith(("/", "~/", "./", "../", "@")):
        return False
    if flag and _SUSPICIOUS.search(flag):
        return not re.fullmatch(r"\d{1,6}", value)
    return "/" not in value and is_random(value) and bool(re.search(r"[A-Z]", value))


_REFERENCE: Final = re.compile(r"\$\{([^{}]*)\}")


def read(text: str, place: Place, home: Path, name_input: Callable[[str], str]) -> Parts:
    """A text with its client's references understood. `name_input` names the variable for one of VS Code's inputs."""
    parts: list[str | Reference] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(_understood(match[1], match[0], place, home, name_input))
        end = match.end()
    parts.append(text[end:])
    joined: list[str | Reference] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)


def _understood(inner: str, whole: str, place: Place, home: Path, name_input: Callable[[str], str]) -> str | Reference:
    if place.client == "claude-desktop":
        return whole  # it fills in nothing
    if place.client == "claude-code":
        variable = re.fullmatch(r"([A-Za-z_]\w*)(?::-(.*))?", inner, re.ASCII)
        return Reference(name=variable[1], default=variable[2]) if variable else whole
    kind, colon, name = inner.partition(":")
    if kind == "env" and colon and re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        return Reference(name=name)
    if kind == "input" and colon:
        return Reference(name=name_input(name))
    if inner in ("workspaceFolder", "workspaceRoot"):
        if place.project is None:
            raise Unsupported(f"it needs {whole}, and no folder is open here")
        return str(place.project)
    known = {"userHome": str(home), "/": "/", "pathSeparator": "/"}
    if place.project is not None:
        known["workspaceFolderBasename"] = place.project.name
    if inner in known:
        return known[inner]
    if colon or inner in ("file", "cwd"):
        raise Unsupported(f"Hangar has nothing like {whole}")
    return whole


def plain(parts: Parts) -> str | None:
    """The text, if nothing is filled in."""
    return "".join(part for part in parts if isinstance(part, str)) if all(isinstance(p, str) for p in parts) else None


def written(parts: Parts) -> str:
    """As hangar.yaml has it."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part.replace("${", "$${"))
        else:
            texts.append(f"${{{part.name}}}" if part.default is None else f"${{{part.name}:-{part.default}}}")
    return "".join(texts)
