# SPDX-License-Identifier: MIT
"""The life of a provider's instance as one table, and how long to wait before the next attempt.

Live and replayed state come from the same fold: `evolve` over what happened, in order. What a provider shows is
folded from its instances by `shown`. Who starts, stops and waits is `application/instances.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Final

from mcp_hangar.domain.provider import Backoff


class State(enum.StrEnum):
    cold = "cold"
    """Not running; the next call starts it."""
    starting = "starting"
    ready = "ready"
    degraded = "degraded"
    """Answers too rarely or too late, and still serves."""
    dead = "dead"
    """Failed to start, or ended by itself; the next call starts it again, after a while."""


SERVING: Final = frozenset({State.ready, State.degraded})


class Happening(enum.StrEnum):
    """What can happen to an instance, in the past tense."""

    launched = "launched"
    answered = "answered"
    """The handshake is done."""
    failed = "failed"
    """It did not come up."""
    sickened = "sickened"
    recovered = "recovered"
    died = "died"
    """It ended by itself, or was given up as dead."""
    ended = "ended"
    """It was stopped: idle, on request, or to make room."""


TRANSITIONS: Final[dict[State, dict[Happening, State]]] = {
    State.cold: {Happening.launched: State.starting},
    State.starting: {
        Happening.answered: State.ready,
        Happening.failed: State.dead,
        Happening.died: State.dead,
        Happening.ended: State.cold,
    },
    State.ready: {Happening.sickened: State.degraded, Happening.died: State.dead, Happening.ended: State.cold},
    State.degraded: {Happening.recovered: State.ready, Happening.died: State.dead, Happening.ended: State.cold},
    State.dead: {Happening.launched: State.starting, Happening.ended: State.cold},
}


def evolve(state: State, event: Happening) -> State:
    """The next state. What the table does not name changes nothing: news of an instance may come late
    (a process that dies while it is being stopped), and must not undo what was decided since."""
    return TRANSITIONS[state].get(event, state)


def shown(states: Iterable[State]) -> State:
    """What a provider shows, given its instances'. One that fails beside others that serve is a degraded provider,
    not a dead one; nothing at all is a cold one."""
    present = set(states)
    serving = present & SERVING
    if serving:
        return State.degraded if State.degraded in present or State.dead in present else State.ready
    for state in (State.starting, State.dead):
        if state in present:
            return state
    return State.cold


_DOUBLINGS: Final = 64
"""Beyond these any first wait is over any longest one, and floats would overflow."""


def delay(failures: int, backoff: Backoff, random: Callable[[], float]) -> float:
    """Seconds to wait after this many failures in a row: exponential with full jitter, never over the longest.

    Full jitter (anything from nothing to the bound) keeps many instances that failed together from coming back
    together. `random` answers 0 <= x < 1.
    """
    if failures <= 0:
        return 0.0
    return random() * min(backoff.longest, backoff.first * 2.0 ** min(failures - 1, _DOUBLINGS))
