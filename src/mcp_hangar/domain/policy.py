# SPDX-License-Identifier: MIT
"""What may happen: every judge is asked, one deny wins, an error denies, and all abstaining allows.

Judges are compiled when the configuration is loaded; on the call path `decide` is a loop over a tuple.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Final

from mcp_hangar.domain.call import Call
from mcp_hangar.domain.contracts.policy import Effect, Judge, PolicyDecision
from mcp_hangar.domain.provider import Provider, ToolRules

_MOST_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 256
"""Characters: names come from callers, existing or not."""


def decide(call: Call, target: Provider, judges: tuple[Judge, ...]) -> PolicyDecision | None:
    """The decision that denies, or None: the call may go on. The same answer is used for listing and for calling."""
    for judge in judges:
        try:
            decision = judge.judge(call, target)
            if decision is None or decision.effect is Effect.allow:
                continue
            if decision.effect is Effect.deny:
                return decision
            raise TypeError(decision.effect)
        except Exception as error:  # a policy that fails denies; what failed is in the record
            return PolicyDecision(
                effect=Effect.deny,
                policy=judge.name,
                reason=f"The policy failed: {type(error).__name__}.",
                way_out="Tell the operator; the policy has to be repaired.",
            )
    return None


class ToolJudge:
    """Core's own policy: the globs under `tools` of each provider. Deny wins; an empty allow means all."""

    name = "tools"

    def __init__(self, rules: dict[str, ToolRules]) -> None:
        self._rules = {
            provider: (_compile(rule.allow), _compile(rule.deny))
            for provider, rule in rules.items()
            if rule.allow or rule.deny
        }
        self._verdicts: dict[tuple[str, str], PolicyDecision | None] = {}
        self._looks = 0

    @property
    def has_rules(self) -> bool:
        return bool(self._rules)

    def judge(self, call: Call, target: Provider) -> PolicyDecision | None:
        if call.method != "tools/call" or target.name not in self._rules:
            return None
        key = (target.name, call.name)
        try:
            return self._verdicts[key]
        except KeyError:
            pass
        verdict = self._look(target.name, call.name)
        # A full memory is kept for a while, else a list that is longer than it would be judged anew each time; not for
        # ever, since it may be full of names that somebody made up.
        self._looks += 1
        if self._looks > 2 * _MOST_REMEMBERED:
            self._verdicts.clear()
            self._looks = 0
        if len(self._verdicts) < _MOST_REMEMBERED and len(call.name) <= _LONGEST_REMEMBERED:
            self._verdicts[key] = verdict
        return verdict

    def _look(self, provider: str, tool: str) -> PolicyDecision | None:
        allow, deny = self._rules[provider]
        if deny is not None and deny.match(tool):
            return self._deny(provider, "deny", f"The tool matches tools.deny of provider {provider}.")
        if allow is not None and not allow.match(tool):
            return self._deny(provider, "allow", f"The tool matches nothing in tools.allow of provider {provider}.")
        return None

    def _deny(self, provider: str, part: str, reason: str) -> PolicyDecision:
        return PolicyDecision(
            effect=Effect.deny,
            policy=f"providers.{provider}.tools.{part}",
            reason=reason,
            way_out="Use another tool, or ask the operator to change the rule.",
        )


def _compile(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)) if globs else None


def glob_matcher(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for many globs; matches nothing for none."""
    return _compile(globs) or re.compile(r"(?!)")
