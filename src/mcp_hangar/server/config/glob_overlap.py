# SPDX-License-Identifier: MIT
"""How patterns (`*`, `?`) relate as sets of names: is one covered by others, can two match the same name?

Exact and bounded. Used to refuse rules that can never match; beyond the bound the answer is the one that lets the rule
stand.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

MOST_STATES: Final = 5000

_States = tuple[frozenset[int], ...]


class Globs:
    """Many patterns, found by how they begin or end: few of thousands are like any given one.

    A pattern's *head* is what stands before its first wildcard, its *tail* what stands after its last.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs = frozenset(globs)
        self._by_head = _Beginnings((head, glob) for glob in self._globs if (head := _head(glob)))
        self._by_tail = _Beginnings((_head(glob[::-1]), glob) for glob in self._globs if not _head(glob))

    def cover(self, pattern: str) -> bool:
        """True if every name that `pattern` matches is matched by one of these."""
        if pattern in self._globs:
            return True
        # Two of its names, with a letter in them that no pattern has; most patterns that are not covered fail here.
        some = pattern.replace("?", "\0")
        short, long = some.replace("*", ""), some.replace("*", "\0\0")
        fitting = [glob for glob in self.near(long) if _fits(glob, long)]
        if not fitting or not any(_fits(glob, short) for glob in self.near(short)):
            return False
        if _head(pattern) == pattern or any(is_covered(pattern, [glob]) for glob in fitting):
            return True
        return is_covered(pattern, list(self.near(pattern)))

    def meet(self, pattern: str) -> bool:
        """True if some name is matched by `pattern` and by one of these."""
        return pattern in self._globs or any(can_meet(pattern, glob) for glob in self.near(pattern))

    def near(self, pattern: str) -> Iterator[str]:
        """Those that may share a name with it, by their beginnings and ends."""
        head, tail = _head(pattern), _head(pattern[::-1])
        for glob in self._by_head.like(head):
            other = _head(glob[::-1])
            if other.startswith(tail) or tail.startswith(other):
                yield glob
        yield from self._by_tail.like(tail)


class _Beginnings:
    """Values by a word, found by words that go on from theirs or that theirs goes on from."""

    def __init__(self, words: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for word, value in words:
            self._values.setdefault(word, []).append(value)
        self._words = sorted(self._values)

    def like(self, word: str) -> Iterator[str]:
        for end in range(len(word)):
            yield from self._values.get(word[:end], ())
        for index in range(bisect_left(self._words, word), len(self._words)):
            if not self._words[index].startswith(word):
                return
            yield from self._values[self._words[index]]


def _head(glob: str) -> str:
    return next((glob[:index] for index, letter in enumerate(glob) if letter in "*?"), glob)


def _fits(glob: str, name: str) -> bool:
    at = _resting(glob, {0})
    for letter in name:
        at = _step(glob, at, letter)
    return _accepts(glob, at)


def is_covered(pattern: str, by: Sequence[str]) -> bool:
    """True if every name that `pattern` matches is matched by one of `by`. For a few; `Globs` is for many."""
    globs = (pattern, *by)
    for count, states in enumerate(_reachable(globs)):
        if count > MOST_STATES:
            return False
        if _accepts(pattern, states[0]) and not any(map(_accepts, by, states[1:])):
            return False
    return True


def can_meet(pattern: str, other: str) -> bool:
    """True if some name is matched by both."""
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
