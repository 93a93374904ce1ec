# SPDX-License-Identifier: MIT
"""How patterns (`*`, `?`) relate as sets of names: is one covered by others, can two match the same name?

Exact and bounded. Used to refuse rules that can never match; beyond the bound the answer is the one that lets the rule
stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

MOST_STATES: Final = 5000

_States = tuple[frozenset[int], ...]


def is_covered(pattern: str, by: Sequence[str]) -> bool:
    """True if every name that `pattern` matches is matched by one of `by`."""
    globs = (pattern, *by)
    for count, states in enumerate(_reachable(globs)):
        if count > MOST_STATES:
            return False
        if _accepts(pattern, states[0]) and not any(map(_accepts, by, states[1:])):
            return False
    return True


def can_meet(pattern: str, others: Sequence[str]) -> bool:
    """True if some name is matched by `pattern` and by one of `others`."""
    for other in others:
        for count, states in enumerate(_reachable((pattern, other))):
            if count > MOST_STATES or (_accepts(pattern, states[0]) and _accepts(other, states[1])):
                return True
    return False


def _reachable(globs: tuple[str, ...]) -> Iterator[_States]:
    """Where all patterns stand together after some name, as long as the first is alive."""
    # All letters that no pattern names are alike; "\0" stands for them.
    letters = sorted({letter for glob in globs for letter in glob if letter not in "*?"} | {"\0"})
    start = tuple(_resting(glob, {0}) for glob in globs)
    seen, waiting = {start}, [start]
    while waiting:
        states = waiting.pop()
        yield states
        for letter in letters:
            after = tuple(_step(glob, at, letter) for glob, at in zip(globs, states, strict=True))
            if after[0] and after not in seen:
                seen.add(after)
                waiting.append(after)


def _resting(glob: str, at: set[int]) -> frozenset[int]:
    """With each `*` passed over as well as stayed at."""
    rest = set(at)
    for index in range(len(glob)):
        if index in rest and glob[index] == "*":
            rest.add(index + 1)
    return frozenset(rest)


def _step(glob: str, at: frozenset[int], letter: str) -> frozenset[int]:
    after: set[int] = set()
    for index in at:
        if index < len(glob):
            if glob[index] == "*":
                after.add(index)
            elif glob[index] in ("?", letter):
                after.add(index + 1)
    return _resting(glob, after)


def _accepts(glob: str, at: frozenset[int]) -> bool:
    return len(glob) in at
