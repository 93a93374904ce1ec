# SPDX-License-Identifier: MIT
"""One run of `hangar init`, as it goes along: what was found, chosen, tried and written, and how it is told."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_hangar.domain.errors import HangarError
from mcp_hangar.server.bootstrap.logs import configure_logs
from mcp_hangar.server.cli.environment import environment, write_env_file
from mcp_hangar.server.cli.onboarding import adoption, clients
from mcp_hangar.server.cli.onboarding import connect as connecting
from mcp_hangar.server.cli.onboarding.adoption import Candidate, Plan, Variable
from mcp_hangar.server.cli.onboarding.choosing import ask, runs, titles
from mcp_hangar.server.cli.onboarding.clients import Found, Place, Unreadable, home_of
from mcp_hangar.server.cli.onboarding.connect import Change
from mcp_hangar.server.cli.onboarding.trial import Outcome, try_all
from mcp_hangar.server.cli.onboarding.writing import as_written, problem_of, render
from mcp_hangar.server.cli.output import cell, print_json, safe, table, tell, waiting
from mcp_hangar.server.config import load


@dataclass(slots=True)
class Report:
    """One run, as it goes along: what was found, chosen, tried, written."""

    config: Path
    as_json: bool
    home: Path = field(default_factory=Path.home)
    places: list[Place] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    plan: Plan | None = None
    chosen: list[Candidate] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    untried: dict[str, list[str]] = field(default_factory=dict)
    """Providers that need variables whose values nobody has yet."""
    changes: list[Change] = field(default_factory=list)
    needs_env_file: bool = False
    """A client starts Hangar itself, and does not have the variables of anybody's shell."""

    def look(self) -> None:
        self.places = clients.places(self.home, Path.cwd(), os.environ)
        self.found, self.unreadable = clients.look(self.places)
        self.plan = adoption.plan(self.found, self.home)
        with tempfile.TemporaryDirectory(prefix="hangar-init-") as folder:
            for candidate in list(self.plan.candidates):
                problem = problem_of(candidate, Path(folder))
                if problem:
                    self.plan.candidates.remove(candidate)
                    self.plan.left += [adoption.Left(found=one, why=problem) for one in candidate.found]

    def choose(self, yes: bool) -> None:
        candidates = self._plan.candidates
        if yes or not candidates:
            self.chosen = list(candidates)
            return
        if self.as_json or not sys.stdin.isatty() or not sys.stderr.isatty():
            raise HangarError("not_asked")
        self.chosen = ask(candidates)

    def try_them(self, seconds: int | None) -> None:
        known = {one.name: one.value for one in self._plan.variables.values() if one.value is not None}
        values = {**known, **os.environ}
        self.untried = {
            one.name: sorted(one.names - set(values)) for one in self.chosen if not one.names <= set(values)
        }
        ready = [one for one in self.chosen if one.name not in self.untried]
        if seconds is None or not ready:
            return
        configure_logs("error")
        with tempfile.TemporaryDirectory(prefix="hangar-init-") as folder:
            path = Path(folder) / "hangar.yaml"
            path.write_text(f"{render(ready)}\ndefaults: {{lifecycle: {{start_timeout: {seconds}s}}}}\n")
            settings = load(path, values)
            used = {name: values[name] for one in ready for name in one.names}
            hide = frozenset(value for value in (*known.values(), *used.values()) if len(value) > 3)
            left = {one.name for one in ready}
            with waiting(f"Starting {', '.join(sorted(left))}", at_once=True) as say:

                def done(name: str) -> None:
                    left.discard(name)
                    say(f"Starting {', '.join(sorted(left))}" if left else "Stopping them again")

                self.outcomes = asyncio.run(try_all(settings, values, hide=hide, on_done=done))

    def write(self, env_file: Path | None) -> None:
        text = render(
            self.chosen,
            left=self._plan.left,
            outcomes=self.outcomes,
            variables=self.variables,
            home=self.home,
        )
        try:
            self.config.parent.mkdir(parents=True, exist_ok=True)
            self.config.write_text(text, encoding="utf-8")
        except OSError as error:
            raise HangarError(
                "path_unusable", detail=f"{self.config} cannot be written: {error.strerror or error}."
            ) from None
        values = {one.name: one.value for one in self.variables if one.value is not None}
        if env_file is not None and values:
            write_env_file(env_file, values)

    def connect(self, clients: Sequence[str], env_file: Path | None) -> None:
        variables = dict.fromkeys(self._plan.variables, "x" * 16)
        settings = load(self.config, {**variables, **environment(env_file)}, unsafe_no_auth=True)
        providers = as_written(self.config)
        taken = connecting.taken_over(self.found, self._plan.candidates, providers)
        self.needs_env_file = (
            "claude-desktop" in clients
            and env_file is None
            and re.search(r"\$\{[A-Za-z_]", repr(providers)) is not None
        )
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.server.host, settings.server.host)  # noqa: S104  # the address to reach
        command = [_program(), "serve", "--stdio", "--config", str(self.config.absolute())]
        if env_file is not None:
            command += ["--env-file", str(env_file.absolute())]
        for client in dict.fromkeys(clients):
            home = home_of(client, self.places)
            entry = connecting.entry_for(
                home,
                url=f"http://{host}:{settings.server.port}/mcp",
                token=bool(settings.server.token),
                command=command,
            )
            for place in [home, *(one for one in self.places if one.client == client and one != home)]:
                if place == home or place.path.exists():
                    change = connecting.connect(place, entry if place == home else {}, taken)
                    if change.backup is not None or place == home:
                        self.changes.append(change)

    # -- what is told -------------------------------------------------------------------------------------------------

    @property
    def _plan(self) -> Plan:
        assert self.plan is not None
        return self.plan

    @property
    def variables(self) -> list[Variable]:
        """What has to be set for the providers that are in the file, beside what every shell has."""
        running = [one for one in self.chosen if one.name not in self.outcomes or self.outcomes[one.name].started]
        return [one for one in self._plan.needed(running) if one.value is not None or one.name not in os.environ]

    def tell(self, wrote: bool, env_file: Path | None) -> None:
        if self.as_json:
            print_json(self._document(wrote))
            return
        for one in self.unreadable:
            tell(f"{safe(one.path)} was left out: {safe(one.why)}.")
        if wrote:
            self._tell_written(env_file)
        for change in self.changes:
            if change.backup is None:
                print(f"{safe(change.path)}: Hangar is there already.")
                continue
            gone = f", in place of {cell(', '.join(change.removed))}" if change.removed else ""
            tell(f"{safe(change.path)}: Hangar is in{gone}. What was there before: {safe(change.backup)}")
        if self.needs_env_file:
            tell(
                "Claude Desktop does not know your shell's variables, and the configuration refers to some: keep them "
                "in a file, and run this again with --env-file FILE."
            )
        if any(change.backup for change in self.changes):
            print("`hangar init --undo` puts them back. Restart the clients.")

    def _tell_written(self, env_file: Path | None) -> None:
        if self.chosen:
            print(f"Wrote {self.config} with what was found:")
            table(
                ["provider", "from", "runs", "result"],
                [self._row(one) for one in self.chosen],
                cut={"runs": 20, "from": 12},
            )
        else:
            looked = ", ".join(dict.fromkeys(place.title for place in self.places))
            tell(f"Wrote {self.config} without providers: no server to take over was found in {looked}.")
        for name, outcome in self.outcomes.items():
            if not outcome.started:
                tell(f"{name} did not start: {safe(outcome.why)} {safe(outcome.fix)}".rstrip())
                for line in dict.fromkeys(outcome.stderr):
                    if line not in outcome.why:
                        print(f"    {safe(line)}")
        for left in self._plan.left:
            tell(f"Left in {left.found.place.title}: {cell(left.found.name)}, since {safe(left.why)}.")
        unset = [one for one in self.variables if one.name not in os.environ]
        stored = {one.name for one in unset if one.value is not None} if env_file is not None else set()
        if stored:
            print(f"Secrets are in {env_file}, for your eyes only: {', '.join(sorted(stored))}.")
        missing = [one for one in unset if one.name not in stored]
        if missing:
            hint = (
                "" if env_file is not None else " (`hangar init --force --env-file FILE` would copy what clients have)"
            )
            tell(f"Set these before `hangar serve`{hint}:")
            for one in missing:
                print(f"  export {one.name}=…   # {cell('; '.join(one.uses))}")
        self._tell_next(env_file)

    def _tell_next(self, env_file: Path | None) -> None:
        named = "" if self.config == Path("hangar.yaml") else f" --config {self.config}"
        variables = f" --env-file {env_file}" if env_file is not None else ""
        print(f"Next: hangar serve{named}{variables}")
        mine = dict.fromkeys(one.place.client for candidate in self.chosen for one in candidate.found)
        if mine and not self.changes:
            print(f"Then: hangar init{named}{variables} --connect {next(iter(mine))}   # so that it asks Hangar")

    def _row(self, one: Candidate) -> tuple[str, str, str, str]:
        return one.name, titles(one), runs(one), self._result(one.name)

    def _result(self, name: str) -> str:
        if name in self.untried:
            return f"not tried: {', '.join(self.untried[name])} is not set"
        outcome = self.outcomes.get(name)
        if outcome is None:
            return "not tried"
        if not outcome.started:
            return "did not start, left out"
        return f"{outcome.tools} tool{'' if outcome.tools == 1 else 's'}"

    def _document(self, wrote: bool) -> dict[str, Any]:
        return {
            "config": str(self.config),
            "written": wrote,
            "providers": [self._provider(one) for one in self.chosen],
            "left": [{**_place(one.found), "why": one.why} for one in self._plan.left],
            "unreadable": [{"path": str(one.path), "why": one.why} for one in self.unreadable],
            "variables": [
                {"name": one.name, "set": one.name in os.environ, "uses": one.uses} for one in self.variables
            ],
            "connected": [
                {"path": str(one.path), "backup": str(one.backup or ""), "removed": list(one.removed)}
                for one in self.changes
            ],
        }

    def _provider(self, one: Candidate) -> dict[str, Any]:
        outcome = self.outcomes.get(one.name)
        tried = None
        if outcome is not None:
            tried = {
                "started": outcome.started,
                "why": outcome.why,
                "fix": outcome.fix,
                "stderr": outcome.stderr,
                "tools": outcome.tools,
            }
        return {
            "name": one.name,
            "mode": one.mode,
            "runs": runs(one),
            "found": [_place(found) for found in one.found],
            "tried": tried,
            "missing": self.untried.get(one.name, []),
        }


def _place(found: Found) -> dict[str, str]:
    return {"client": found.place.client, "path": str(found.place.path), "name": found.name}


def _program() -> str:
    """This very command, in full, for programs that do not know the shell's PATH."""
    beside = Path(sys.executable).parent / "hangar"
    return str(beside) if beside.exists() else str(Path(sys.argv[0]).absolute())
