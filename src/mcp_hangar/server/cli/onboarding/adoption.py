# SPDX-License-Identifier: MIT
"""From servers as clients have them to providers as Hangar would run them: duplicates merged, names made to fit,
secrets turned into references, and what cannot be taken over told with its reason. Pure, but for an
`envFile` that is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from mcp_hangar.server.cli.environment import parse_env
from mcp_hangar.server.cli.onboarding import references
from mcp_hangar.server.cli.onboarding.clients import Found, Place, inputs_of, read
from mcp_hangar.server.cli.onboarding.references import Parts, Reference, Unsupported
from mcp_hangar.server.config.checks import OWN_HEADERS

CONTAINERS: Final = frozenset({"docker", "podman", "nerdctl"})
_LONGEST_NAME: Final = 32


@dataclass(slots=True, kw_only=True)
class Variable:
    """Something to be set when Hangar starts."""

    name: str
    value: str | None = field(repr=False)
    """As the client has it; None where the client does not have it either."""
    uses: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Candidate:
    """A provider that could be."""

    name: str
    mode: str
    found: list[Found]
    command: tuple[str, ...] = ()
    url: Parts = ()
    env: dict[str, Parts] = field(default_factory=dict)
    headers: dict[str, Parts] = field(default_factory=dict)
    cwd: str = ""

    @property
    def texts(self) -> list[Parts]:
        return [self.url, *self.env.values(), *self.headers.values()]

    @property
    def names(self) -> set[str]:
        """The variables without a default."""
        parts = (part for text in self.texts for part in text)
        return {part.name for part in parts if isinstance(part, Reference) and part.default is None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A server that stays as it is in its client, and why."""

    found: Found
    why: str


@dataclass(slots=True, kw_only=True)
class Plan:
    candidates: list[Candidate] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    variables: dict[str, Variable] = field(default_factory=dict)

    def needed(self, chosen: Sequence[Candidate]) -> list[Variable]:
        names = {name for candidate in chosen for name in candidate.names}
        return [variable for name, variable in self.variables.items() if name in names]


def plan(found: Sequence[Found], home: Path) -> Plan:
    return _Adopting(home, found).run(found)


class _Adopting:
    def __init__(self, home: Path, found: Sequence[Found]) -> None:
        self._home = home
        self._plan = Plan()
        self._seen: dict[str, Candidate] = {}
        self._inputs: dict[Path, dict[str, str]] = {}
        # What is referred to keeps its name: no secret may take it first.
        self._referred = {
            name
            for one in found
            for name in re.findall(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-[^}]*)?\}", json.dumps(dict(one.entry)))
        }

    def run(self, found: Sequence[Found]) -> Plan:
        for one in found:
            if is_hangar(one.name, one.entry):
                continue
            try:
                self._one(one)
            except Unsupported as reason:
                self._plan.left.append(Left(found=one, why=str(reason)))
        return self._plan

    def _one(self, found: Found) -> None:
        entry = found.entry
        if entry.get("disabled") is True or entry.get("enabled") is False:
            raise Unsupported("it is disabled there")
        identity = self._identity(found)
        if identity in self._seen:
            self._seen[identity].found.append(found)
            return
        url = entry.get("url") or entry.get("serverUrl")
        if isinstance(entry.get("command"), str):
            candidate = self._subprocess(found)
        elif isinstance(url, str):
            candidate = self._remote(found, url, entry.get("headers"), {})
        else:
            raise Unsupported("it has neither a command nor a url")
        self._plan.candidates.append(candidate)
        self._seen[identity] = candidate

    def _identity(self, found: Found) -> str:
        """Equal for what would run the same, whatever it is called."""
        entry = found.entry
        about = {key: entry.get(key) for key in ("command", "url", "serverUrl", "cwd", "envFile")}
        listed = {key: entry.get(key) or None for key in ("args", "env", "headers")}
        local = any("${workspace" in str(value) or str(value).startswith(".") for value in entry.values())
        project = str(found.place.project) if local else ""
        return json.dumps([about, listed, project], sort_keys=True, default=str)

    # -- the two modes ------------------------------------------------------------------------------------------------

    def _subprocess(self, found: Found) -> Candidate:
        entry, place = found.entry, found.place
        words = [str(entry["command"]), *map(_text, _list(entry.get("args")))]
        program = Path(words[0]).name
        if program in CONTAINERS:
            raise Unsupported(
                f"it runs in a container ({program} {words[1] if len(words) > 1 else ''}".rstrip() + "), and Hangar "
                "cannot run containers yet"
            )
        bridged = bridged_remote(program, words[1:])
        if bridged:
            return self._remote(found, bridged[0], bridged[1], _mapping(entry.get("env")))
        command = []
        for word in words:
            parts = self._read(word, place)
            text = references.plain(parts)
            if text is None:
                raise Unsupported(
                    "its command line refers to a variable, and Hangar fills in nothing there, because every user of "
                    "this machine can read it with ps; hand the value over in env"
                )
            command.append(text)
        where = references.secret_in_command(command)
        if where:
            raise Unsupported(
                f"its command line holds what looks like a secret ({where}), which every user of this machine can read "
                "with ps; hand it over in env if the server can, and add it to hangar.yaml by hand"
            )
        name = self._name(found)
        given = {**self._env_file(found), **_mapping(entry.get("env"))}
        return Candidate(
            name=name,
            mode="subprocess",
            found=[found],
            command=tuple(command),
            env={
                key: self._value(key, _text(value), found, name, f"env {key}")
                for key, value in given.items()
                if value is not None
            },
            cwd=self._cwd(found),
        )

    def _remote(self, found: Found, url: str, headers: Any, env: Mapping[str, Any]) -> Candidate:
        name = self._name(found)
        rows = {key: _text(value) for key, value in _mapping(headers).items() if key.lower() not in OWN_HEADERS}
        for variable, value in env.items():
            rows = {key: text.replace(f"${{{variable}}}", _text(value)) for key, text in rows.items()}
        return Candidate(
            name=name,
            mode="remote",
            found=[found],
            url=self._url(url, found, name, rows),
            headers={
                key: self._value(f"{name}_{key}", text.strip(), found, name, f"header {key}")
                for key, text in rows.items()
            },
        )

    # -- values -------------------------------------------------------------------------------------------------------

    def _read(self, text: str, place: Place) -> Parts:
        def name_input(id: str) -> str:
            if place.path not in self._inputs:
                self._inputs[place.path] = inputs_of(place)
            about = self._inputs[place.path].get(id, "")
            return self._variable(_upper(id), None, f"input {id}{f' ({about})' if about else ''} in {place.title}")

        parts = references.read(text, place, self._home, name_input)
        for part in parts:
            if isinstance(part, Reference) and part.name not in self._plan.variables and part.default is None:
                self._variable(part.name, None, f"{place.title} refers to it")
        return parts

    def _value(self, key: str, text: str, found: Found, provider: str, use: str) -> Parts:
        """A text that may be a secret. What is one gets a variable named after `key`."""
        parts = self._read(text, found.place)
        whole = references.plain(parts)
        if whole is not None and references.is_harmless(key, whole):
            return parts
        use = f"{use} of {found.name} in {found.place.title}"
        if whole is None:
            # What is filled in stays; what stands around it is code, unless it looks like more.
            around = "".join(part for part in parts if isinstance(part, str))
            if not references.is_random(around.replace("Bearer", "").strip()):
                return parts
            raise Unsupported(f"{use} mixes a reference with what looks like a secret")
        scheme, blank, token = whole.partition(" ")
        if blank and scheme.lower() in ("bearer", "basic", "token") and token:
            return (f"{scheme} ", Reference(name=self._variable(_upper(f"{provider}_TOKEN"), token, use, provider)))
        return (Reference(name=self._variable(_upper(key), whole, use, provider)),)

    def _url(self, text: str, found: Found, provider: str, headers: dict[str, str]) -> Parts:
        parts = self._read(text, found.place)
        whole = references.plain(parts)
        if whole is None:
            return parts
        try:
            url = urlsplit(whole)
        except ValueError:
            raise Unsupported("its url cannot be read") from None
        if url.username is not None or url.password is not None:
            raise Unsupported("its url holds credentials; put them into a header")
        if not references.secret_in_url(whole):
            return parts
        return self._hidden(url, found, provider)

    def _hidden(self, url: SplitResult, found: Found, provider: str) -> Parts:
        """The URL with each value of its query, and what looks random in its path, as references."""
        marked: list[str] = []

        def hide(value: str, name: str) -> str:
            use = f"a part of the url of {found.name} in {found.place.title}"
            marked.append(self._variable(_upper(f"{provider}_{name}"), value, use, provider))
            return f"\0{marked[-1]}\0"

        path = "/".join(
            hide(one, "URL_KEY") if references.is_random_segment(one) else one for one in url.path.split("/")
        )
        query = "&".join(
            f"{key}{equals}{hide(value, key) if value and not references.is_harmless(key, value) else value}"
            for key, equals, value in (pair.partition("=") for pair in url.query.split("&"))
        )
        text = urlunsplit((url.scheme, url.netloc, path, query, url.fragment))
        pieces = text.split("\0")
        return tuple(Reference(name=piece) if number % 2 else piece for number, piece in enumerate(pieces) if piece)

    def _variable(self, name: str, value: str | None, use: str, provider: str = "") -> str:
        """A variable for a value: the one that has it already, or one of a free name."""
        names = [name, f"{_upper(provider)}_{name}", *(f"{_upper(provider)}_{name}_{n}" for n in range(2, 1000))]
        for wanted in names:
            known = self._plan.variables.get(wanted)
            if known is None and (value is None or wanted not in self._referred):
                known = self._plan.variables[wanted] = Variable(name=wanted, value=value)
            if known is not None and known.value == value:
                if use not in known.uses:
                    known.uses.append(use)
                return wanted
        raise Unsupported(f"no name is left for {name}")

    def _env_file(self, found: Found) -> dict[str, str]:
        named = found.entry.get("envFile")
        if not isinstance(named, str):
            return {}
        path = references.plain(self._read(named, found.place))
        if path is None:
            raise Unsupported("its envFile cannot be told")
        try:
            text = read(_at(path, found.place, self._home))
        except (OSError, UnicodeDecodeError) as error:
            raise Unsupported(
                f"its envFile {path} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None
        return parse_env(text)

    def _cwd(self, found: Found) -> str:
        named = found.entry.get("cwd")
        if isinstance(named, str) and named:
            path = references.plain(self._read(named, found.place))
            if path is None:
                raise Unsupported("its cwd refers to a variable")
            return str(_at(path, found.place, self._home))
        return str(found.place.project or "")

    def _name(self, found: Found) -> str:
        """A name by Hangar's rule that no other provider has."""
        base = fitting(found.name)
        taken = {candidate.name for candidate in self._plan.candidates}
        client = found.place.client
        for name in (base, _cut(base, f"-{client}"), *(_cut(base, f"-{number}") for number in range(2, 1000))):
            if name not in taken:
                return name
        raise Unsupported("no name is left for it")


def is_hangar(name: str, entry: Mapping[str, Any]) -> bool:
    """An entry that an earlier `hangar init --connect` (or a person) wrote: Hangar does not run itself."""
    words = [Path(_text(entry.get("command") or "")).name, *map(_text, _list(entry.get("args")))]
    starts = "serve" in words and ("hangar" in words or "mcp_hangar" in words)
    url = re.match(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):(\d+)/mcp", _text(entry.get("url") or ""))
    return starts or (url is not None and (name == "hangar" or url[1] == "8000"))


def bridged_remote(program: str, words: list[str]) -> tuple[str, dict[str, str]] | None:
    """`npx mcp-remote URL --header …` is a remote server behind a bridge that Hangar can do without: URL and headers.

    None for anything else, also where the bridge logs in through the browser: that it does better."""
    rest = [word for word in words if word not in ("-y", "--yes")]
    if program not in ("npx", "bunx") or len(rest) < 4 or not re.fullmatch(r"mcp-remote(@[\w.-]+)?", rest[0]):
        return None
    url, headers, options = rest[1], {}, iter(rest[2:])
    for option in options:
        name, colon, value = next(options, "").partition(":")
        if option == "--header" and colon:
            headers[name.strip()] = value.strip()
        elif option != "--transport":
            return None
    return (url, headers) if headers else None


def fitting(name: str) -> str:
    """A name by the rule for providers: lower-case letters, digits and `-`, from a letter on, at most 32."""
    plain = (
        re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("mcp-server-"))
        .lstrip("-0123456789")[:_LONGEST_NAME]
        .strip("-")
    )
    return {"": "server", "hangar": "hangar-server"}.get(plain, plain)


def _cut(base: str, end: str) -> str:
    return base[: _LONGEST_NAME - len(end)].rstrip("-") + end


def _upper(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").upper()
    return f"_{plain}" if plain[:1].isdigit() else plain or "VALUE"


def _at(path: str, place: Place, home: Path) -> Path:
    expanded = str(home) + path[1:] if path == "~" or path.startswith("~/") else path
    return (place.project or home) / expanded


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
