# SPDX-License-Identifier: MIT
from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_hangar.domain.call import ANONYMOUS, NO_CAPABILITIES, Call, Session
from mcp_hangar.domain.contracts.policy import Effect, PolicyDecision
from mcp_hangar.domain.mcp.eras import Era
from mcp_hangar.domain.policy import ToolJudge, decide, glob_matcher
from mcp_hangar.domain.provider import Provider, ToolRules
from tests.fakes import a_provider

TIME = a_provider("time")


def a_call(name: str = "now", method: str = "tools/call") -> Call:
    return Call(
        id="c",
        method=method,
        provider="time",
        name=name,
        caller=ANONYMOUS,
        session=Session(id="s"),
        era=Era.modern,
        capabilities=NO_CAPABILITIES,
        params={},
        meta={},
    )


def decision(effect: Any, policy: str) -> PolicyDecision:
    return PolicyDecision(effect=effect, policy=policy, reason="because")


class Says:
    def __init__(self, name: str, verdict: Any) -> None:
        self.name = name
        self._verdict = verdict

    def judge(self, call: Call, target: Provider) -> PolicyDecision | None:
        if isinstance(self._verdict, Exception):
            raise self._verdict
        found: PolicyDecision | None = self._verdict
        return found


abstains = st.builds(Says, st.just("abstains"), st.none())
allows = st.just(Says("allows", decision(Effect.allow, "allows")))
denies = st.just(Says("denies", decision(Effect.deny, "denies")))
fails = st.builds(
    Says, st.just("fails"), st.sampled_from([ValueError("secret"), KeyError(), "deny", True, 0, decision("maybe", "x")])
)


@given(st.lists(st.one_of(abstains, allows)))
@example([])
def test_a_call_that_nobody_denies_goes_on(judges: list[Says]) -> None:
    assert decide(a_call(), TIME, tuple(judges)) is None


@given(st.lists(st.one_of(abstains, allows, denies, fails)), st.data())
def test_one_deny_wins_in_any_order_and_a_failure_denies(judges: list[Says], data: st.DataObject) -> None:
    refusing = {judge.name for judge in judges} & {"denies", "fails"}
    for order in (judges, data.draw(st.permutations(judges))):
        found = decide(a_call(), TIME, tuple(order))
        assert (found is None) is (not refusing)
        if found is not None:
            assert found.effect is Effect.deny
            assert found.policy in refusing
            assert found.reason
            assert "secret" not in found.reason


def test_what_denied_is_told_as_it_was_said() -> None:
    said = PolicyDecision(effect=Effect.deny, policy="p", reason="r", way_out="w", hidden=False)
    assert decide(a_call(), TIME, (Says("p", said),)) is said


globs = st.text("ab*?[]!-_.|", min_size=1, max_size=6)
tools = st.text("ab_.-|*", max_size=8)


@given(st.lists(globs, max_size=3), st.lists(globs, max_size=3), tools)
@example([], ["*"], "a")
@example(["*"], ["a*"], "ab")
@example(["a|b"], [], "a")
def test_deny_wins_over_allow_and_an_empty_allow_means_all(allow: list[str], deny: list[str], tool: str) -> None:
    judge = ToolJudge({"time": ToolRules(allow=tuple(allow), deny=tuple(deny))})
    allowed = not allow or any(fnmatch.fnmatchcase(tool, glob) for glob in allow)
    denied = any(fnmatch.fnmatchcase(tool, glob) for glob in deny)
    for _ in range(2):  # decided, then remembered
        verdict = judge.judge(a_call(tool), TIME)
        assert (verdict is None) is (allowed and not denied)
        if verdict is not None:
            assert verdict.effect is Effect.deny
            assert verdict.policy == f"providers.time.tools.{'deny' if denied else 'allow'}"
            assert verdict.hidden
    assert judge.has_rules is bool(allow or deny)


def test_rules_bind_tools_of_their_own_provider_only() -> None:
    judge = ToolJudge({"time": ToolRules(deny=("*",)), "free": ToolRules()})
    assert judge.judge(a_call(), TIME) is not None
    assert judge.judge(a_call(), a_provider("git")) is None
    assert judge.judge(a_call(), a_provider("free")) is None
    for method in ("prompts/get", "resources/read", "completion/complete"):
        assert judge.judge(a_call(method=method), TIME) is None
    assert not ToolJudge({"free": ToolRules(idempotent=("*",))}).has_rules


@pytest.mark.parametrize("tool", ["Drop", "drop\n", "\ndrop", "drop\x00"])
def test_globs_mean_the_whole_name_and_its_case(tool: str) -> None:
    judge = ToolJudge({"time": ToolRules(allow=("drop",))})
    assert judge.judge(a_call(tool), TIME) is not None
    assert judge.judge(a_call("drop"), TIME) is None
    assert ToolJudge({"time": ToolRules(deny=("*",))}).judge(a_call(tool), TIME) is not None


def test_names_that_callers_make_up_do_not_pile_up() -> None:
    judge = ToolJudge({"time": ToolRules(deny=("bad*",))})
    for number in range(10_000):
        assert judge.judge(a_call(f"made-up-{number}"), TIME) is None
    assert judge.judge(a_call("x" * 1_000_000), TIME) is None
    assert judge.judge(a_call("bad" + "x" * 1_000_000), TIME) is not None
    remembered = judge._verdicts
    assert len(remembered) <= 4096
    assert sum(len(name) for _, name in remembered) <= 4096 * 256


def test_a_list_longer_than_the_memory_is_not_judged_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    look = ToolJudge._look

    def counted(self: ToolJudge, provider: str, tool: str) -> PolicyDecision | None:
        looked.append(tool)
        return look(self, provider, tool)

    monkeypatch.setattr(ToolJudge, "_look", counted)
    judge = ToolJudge({"time": ToolRules(deny=("bad*",))})
    for number in range(4096):
        judge.judge(a_call(f"made-up-{number}"), TIME)
    looked.clear()
    for _ in range(10):  # what was made up is forgotten in time
        for number in range(5000):
            assert judge.judge(a_call(f"tool-{number}"), TIME) is None
    assert len(looked) < 10 * 5000 / 2


def test_hostile_globs_and_names_are_matched_without_backtracking_for_ever() -> None:
    matcher = glob_matcher(("*a" * 30 + "b", "?*" * 30 + "c"))
    assert not matcher.match("a" * 2_000)
    assert matcher.match("a" * 2_000 + "b")


def test_no_globs_match_nothing() -> None:
    assert not glob_matcher(()).match("")
    assert not glob_matcher(()).match("x")
    assert glob_matcher(("a", "b*")).match("bc")
