# SPDX-License-Identifier: MIT
"""Probe results to a verdict, with hysteresis both ways. Pure; `application/probing.py` feeds it.

Two runs are counted, because slow is not dead. *Misses* are questions not answered in time: enough of them make the
provider unhealthy, and it goes on serving. *Silence* is a run in which nothing at all was heard: only that, twice as
long, makes it dead, since ending a provider that works slowly helps nobody. What real calls heard counts like an
answer to a probe.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mcp_hangar.domain.provider import HealthCheck


class Evidence(enum.StrEnum):
    """What one interval told."""

    answered = "answered"
    """The probe was answered in time (an error is an answer too), or a real call was."""
    late = "late"
    """The answer to an earlier probe came after its time."""
    busy = "busy"
    """No answer in time, but calls are in flight that may still be within their own time."""
    silent = "silent"
    """No answer, and nothing that would explain it."""


class Verdict(enum.StrEnum):
    healthy = "healthy"
    unhealthy = "unhealthy"
    dead = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is known so far. The counts are runs: each is broken by evidence of the other kind."""

    verdict: Verdict = Verdict.healthy
    answers: int = 0
    misses: int = 0
    silence: int = 0


def weigh(health: Health, evidence: Evidence, check: HealthCheck) -> Health:
    """One more piece of evidence. Dead is final: what comes back is another instance."""
    if health.verdict is Verdict.dead:
        return health
    answers = health.answers + 1 if evidence is Evidence.answered else 0
    misses, silence = health.misses, health.silence
    match evidence:
        case Evidence.answered:
            misses, silence = 0, 0
        case Evidence.late:
            # The miss itself was counted when its time was up.
            silence = 0
        case Evidence.busy:
            misses += 1
        case Evidence.silent:
            misses, silence = misses + 1, silence + 1
    verdict = _verdict(health.verdict, answers, misses, silence, check)
    return Health(verdict=verdict, answers=answers, misses=misses, silence=silence)


def _verdict(before: Verdict, answers: int, misses: int, silence: int, check: HealthCheck) -> Verdict:
    if silence >= 2 * max(1, check.unhealthy_after):
        return Verdict.dead
    if misses >= max(1, check.unhealthy_after):
        return Verdict.unhealthy
    if answers >= max(1, check.healthy_after):
        return Verdict.healthy
    return before


def missed(*, in_flight: int, unheard: float, call_timeout: float, interval: float) -> Evidence:
    """What an unanswered probe says. A provider that does one thing at a time answers no probe during a long call; so
    calls in flight excuse it, but no longer than one call may take, counted from when it was last heard."""
    if in_flight > 0 and unheard < call_timeout + interval:
        return Evidence.busy
    return Evidence.silent
