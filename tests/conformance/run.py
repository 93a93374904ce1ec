# SPDX-License-Identifier: MIT
"""Runs the official MCP conformance suite against Hangar, and writes what came of it to docs/reference/conformance.md.

    python -m tests.conformance.run            all runs, then the page
    python -m tests.conformance.run --check    the same, but only compares with the page
    python -m tests.conformance.run --direct   against the fixture itself, without Hangar (writes nothing)
    python -m tests.conformance.run --only "2026-07-28 over legacy" --keep FOLDER

Each run is a wire that the suite speaks, in front of a provider that speaks one era only: two runs stay within an
era, two cross it. A check that does not succeed must stand in expected-failures.yaml with a reason, and an entry
there that is no longer true is a failure as well.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.conftest import Node, find_node
from tests.house import ROOT, fixture_server, house, remote_provider
from tests.processes import plain_environment

PAGE = ROOT / "docs/reference/conformance.md"
EXPECTED = Path(__file__).with_name("expected-failures.yaml")
SUITE_LIMIT = 300
STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[0-9-]+Z$")


@dataclass(frozen=True)
class Run:
    name: str
    requirements: str
    era: str
    says: str


RUNS = (
    Run("2025-11-25", "2025-11-25", "legacy", "a client of 2025-11-25, a provider of the legacy era"),
    Run("2026-07-28", "2026-07-28", "modern", "a client of 2026-07-28, a provider of the modern era"),
    Run(
        "2025-11-25 over modern",
        "2025-11-25",
        "modern",
        "a client of 2025-11-25, a provider that knows 2026-07-28 only",
    ),
    Run(
        "2026-07-28 over legacy",
        "2026-07-28",
        "legacy",
        "a client of 2026-07-28, a provider that knows `initialize` only",
    ),
)


@dataclass(frozen=True)
class Check:
    id: str
    status: str
    why: str


@dataclass(frozen=True)
class Failure:
    """One check that did not succeed, or one that is expected not to."""

    run: str
    scenario: str
    check: str
    why: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.run, self.scenario, self.check


@dataclass(frozen=True)
class Outcome:
    run: Run
    scenarios: dict[str, list[Check]]
    """In the order of the requirement set; one that left no result has no checks."""
    log: str

    def failures(self) -> list[Failure]:
        found = []
        for scenario, checks in self.scenarios.items():
            if not checks:
                found.append(Failure(self.run.name, scenario, "*", "the scenario left no result"))
            found += [
                Failure(self.run.name, scenario, check.id, f"{check.status}: {check.why}")
                for check in checks
                if check.status in ("FAILURE", "WARNING")
            ]
        return found

    def cell(self, scenario: str) -> str:
        checks = self.scenarios.get(scenario)
        if checks is None:
            return ""
        judged = {check.id: check for check in checks if check.status != "INFO"}
        good = sum(1 for check in checks if check.status == "SUCCESS")
        bad = sum(1 for check in checks if check.status in ("FAILURE", "WARNING"))
        if bad or not judged:
            return f"**{bad or 'no result'}** of {good + bad}" if judged else "**no result**"
        return f"{good}" if good else "skipped by the suite"


def scenarios_of(node: Node, requirements: str) -> tuple[list[str], dict[str, str]]:
    """The server scenarios of a requirement set, and which of them are not scored, and why."""
    folder = node.modules / "@modelcontextprotocol/conformance/requirements"
    listed: dict[str, Any] = YAML(typ="safe").load(folder / f"{requirements}.yaml")
    unscored = {entry["scenario"]: entry["reason"] for entry in listed["not_scored"] if entry["leg"] == "server"}
    return [*listed["server"], *unscored], unscored


def suite_version(node: Node) -> str:
    about = json.loads((node.modules / "@modelcontextprotocol/conformance/package.json").read_text())
    return str(about["version"])


def run_suite(node: Node, url: str, run: Run, out: Path) -> Outcome:
    command = [*node.package("conformance"), "server", "--url", url, "--requirements", run.requirements, "-o", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SUITE_LIMIT, env=plain_environment(), check=False
    )
    names, _ = scenarios_of(node, run.requirements)
    results: dict[str, list[Check]] = {name: [] for name in names}
    for folder in sorted(out.iterdir()) if out.exists() else []:
        name = STAMP.sub("", folder.name).removeprefix("server-")
        if name not in results:  # a scenario may itself be called server-…
            name = f"server-{name}"
        checks = json.loads((folder / "checks.json").read_text())
        results[name] = [Check(c["id"], c["status"], c.get("errorMessage") or "") for c in checks]
    return Outcome(run, results, done.stdout + done.stderr)


def through_hangar(node: Node, run: Run, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        fixture_server(folder, run.era) as upstream,
        house(folder, {"fixture": remote_provider(upstream)}, expose={"prefix": "never"}) as hangar,
    ):
        return run_suite(node, hangar.url, run, folder / "results")


def direct(node: Node, run: Run, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    with fixture_server(folder, "dual" if "over" in run.name else run.era) as url:
        return run_suite(node, url, run, folder / "results")


# Expected failures


@dataclass(frozen=True)
class Expectations:
    recorded: int
    failures: tuple[Failure, ...]

    def problems(self) -> list[str]:
        """What is wrong with the file itself."""
        found = []
        if self.recorded != len(self.failures):
            found.append(f"`recorded` says {self.recorded}, the file holds {len(self.failures)}")
        keys = [failure.key for failure in self.failures]
        found += [f"twice: {key}" for key in sorted(set(keys)) if keys.count(key) > 1]
        found += [f"no reason: {failure.key}" for failure in self.failures if len(failure.why.strip()) < 20]
        runs = {run.name for run in RUNS}
        found += [f"no such run: {failure.run}" for failure in self.failures if failure.run not in runs]
        return found

    def of(self, failure: Failure) -> Failure | None:
        """The entry that expects it. `check: "*"` speaks of a whole scenario."""
        keys = (failure.key, (failure.run, failure.scenario, "*"))
        return next((known for known in self.failures if known.key in keys), None)


def expectations() -> Expectations:
    held = YAML(typ="safe").load(EXPECTED)
    entries = held["failures"] or []
    failures = [Failure(entry["run"], entry["scenario"], entry["check"], entry["reason"]) for entry in entries]
    return Expectations(held["recorded"], tuple(failures))


def compare(outcome: Outcome, expected: Expectations) -> list[str]:
    """What nobody expected, and what was expected in vain."""
    failures = outcome.failures()
    unexpected = [f"{f.scenario} {f.check}: {f.why}" for f in failures if expected.of(f) is None]
    met = {id(expected.of(failure)) for failure in failures}
    here = [known for known in expected.failures if known.run == outcome.run.name]
    stale = [f"stale, remove it: {known.scenario} {known.check}" for known in here if id(known) not in met]
    return unexpected + stale


# The page


def render(outcomes: Iterable[Outcome], expected: Expectations, node: Node) -> str:
    outcomes = list(outcomes)
    unscored: dict[str, str] = {}
    names: list[str] = []
    for run in RUNS:
        listed, not_scored = scenarios_of(node, run.requirements)
        unscored.update(not_scored)
        names += [name for name in listed if name not in names]
    lines = [
        "<!-- SPDX-License-Identifier: MIT -->",
        "<!-- Generated by `python -m tests.conformance.run`; do not edit. -->",
        "",
        "# Conformance",
        "",
        f"What the official suite (`@modelcontextprotocol/conformance` {suite_version(node)}) says of Hangar. It",
        "stands where a client would, at Hangar's `/mcp`; behind Hangar is a provider that speaks one era only. So two",
        "runs stay within an era, and two cross it:",
        "",
        *(f"- **{run.name}**: {run.says}." for run in RUNS),
        "",
        "A number counts the checks that succeeded; **n** of m says that n did not, warnings included; an empty cell,",
        "that the scenario is not part of that revision. Scenarios in *italics* are run but not scored by the suite.",
        "",
        "| scenario | " + " | ".join(run.name for run in RUNS) + " |",
        "|---|" + "---|" * len(RUNS),
    ]
    for name in names:
        shown = f"*{name}*" if name in unscored else name
        lines.append(f"| {shown} | " + " | ".join(outcome.cell(name) for outcome in outcomes) + " |")
    totals = [
        sum(check.status == "SUCCESS" for checks in outcome.scenarios.values() for check in checks)
        for outcome in outcomes
    ]
    lines += ["| **all** | " + " | ".join(f"**{total}**" for total in totals) + " |", ""]
    failures = [failure for outcome in outcomes for failure in outcome.failures()]
    if failures:
        lines += ["## What does not succeed, and why", "", "| run | scenario | checks | why |", "|---|---|---|---|"]
        told: dict[tuple[str, str, str], list[str]] = {}
        for failure in failures:
            known = expected.of(failure)
            why = known.why if known is not None else "**not expected**"
            told.setdefault((failure.run, failure.scenario, why), []).append(f"`{failure.check}`")
        lines += [f"| {run} | {scenario} | {'<br>'.join(ids)} | {why} |" for (run, scenario, why), ids in told.items()]
    else:
        lines += ["Nothing fails, and no failure is expected."]
    return "\n".join(lines) + "\n"


def column(page: str, run: Run) -> dict[str, str]:
    """One run's cells, as the page has them."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    head = next((row for row in rows if row[0] == "scenario"), [])
    at = head.index(run.name)
    return {
        row[0].strip("*"): row[at] for row in rows if len(row) == len(head) and row[0] not in ("scenario", "**all**")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the page instead of writing it")
    parser.add_argument("--direct", action="store_true", help="without Hangar")
    parser.add_argument("--only", choices=[run.name for run in RUNS], help="one run; the page is left alone")
    parser.add_argument("--keep", type=Path, help="a folder for results and logs")
    chosen = parser.parse_args()
    node = find_node()
    expected = expectations()
    problems = expected.problems()
    outcomes = []
    with tempfile.TemporaryDirectory() as made:
        for run in RUNS:
            if chosen.only not in (None, run.name):
                continue
            folder = (chosen.keep or Path(made)) / run.name.replace(" ", "-")
            outcome = direct(node, run, folder) if chosen.direct else through_hangar(node, run, folder)
            outcomes.append(outcome)
            wrong = (
                [f"{f.scenario} {f.check}: {f.why}" for f in outcome.failures()]
                if chosen.direct
                else compare(outcome, expected)
            )
            good = sum(check.status == "SUCCESS" for checks in outcome.scenarios.values() for check in checks)
            print(
                f"{run.name}: {good} checks succeeded, {len(outcome.failures())} did not, {len(wrong)} not as expected"
            )
            problems += [f"{run.name}: {line}" for line in wrong]
    for problem in problems:
        print("  " + problem)
    if not chosen.direct and chosen.only is None:
        page = render(outcomes, expected, node)
        if not chosen.check:
            PAGE.parent.mkdir(parents=True, exist_ok=True)
            PAGE.write_text(page)
        elif not PAGE.exists() or PAGE.read_text() != page:
            print(f"{PAGE.relative_to(ROOT)} is not what these runs say; run python -m tests.conformance.run")
            return 1
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
