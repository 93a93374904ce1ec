# SPDX-License-Identifier: MIT
"""From a trace to what each call makes."""

from __future__ import annotations

from collections import Counter

from benchmarks.syscalls import least, stretches_of

CALL = """\
77  read(20, "POST"..., 256000) = 532
77  write(19, "POST"..., 673 <unfinished ...>
78  write(6, "{\\"ty"..., 200) = 200
77  <... write resumed>)                 = 673
77  epoll_pwait(3, [{events=EPOLLIN}], 1024, 5, NULL, 8) = 1
77  read(19, "HTTP"..., 256000) = 292
77  write(20, "HTTP"..., 298) = 298
77  epoll_pwait(3, [], 1024, 0, NULL, 8) = 0
"""


def test_a_call_is_what_lies_between_two_requests_and_a_resumed_line_is_no_second_call() -> None:
    stretches = stretches_of(f"77  getpid() = 77\n{CALL}{CALL}{CALL}".splitlines())
    assert stretches == [Counter(read=2, write=3, epoll_pwait=2)] * 2


def test_what_nearly_every_call_makes_counts_and_what_some_make_does_not() -> None:
    usual = Counter(read=2, write=3)
    with_a_batch = Counter(read=2, write=4, futex=5)
    assert least([usual] * 30 + [with_a_batch] * 70) == {"read": 2, "write": 3}
    assert least([usual] * 2 + [with_a_batch] * 98) == {"read": 2, "write": 4, "futex": 5}
