# SPDX-License-Identifier: MIT
from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.domain.call import ANONYMOUS, NO_CAPABILITIES, CallerType, Capabilities

names = st.sampled_from(["elicitation", "sampling", "roots"])
values = st.recursive(
    st.one_of(st.booleans(), st.sampled_from(['"roots":', '{"sampling":{}}', "vendor/x"])),
    lambda inner: st.dictionaries(st.one_of(names, st.just("vendor/x")), inner, max_size=2),
)
objects = st.dictionaries(st.one_of(names, st.just("vendor/x")), values, max_size=2)


@given(st.dictionaries(names, objects), st.one_of(st.none(), objects))
def test_a_capability_counts_only_where_it_is_declared(declared: dict[str, object], extensions: object) -> None:
    said = declared if extensions is None else {**declared, "extensions": extensions}
    capabilities = Capabilities(key=json.dumps(said, sort_keys=True, separators=(",", ":")))
    for name in ("elicitation", "sampling", "roots"):
        assert capabilities.has(name) is (name in declared)
    for name in ("vendor/x", "roots"):
        assert capabilities.extends(name) is (isinstance(extensions, dict) and name in extensions)


def test_who_declares_nothing_has_nothing() -> None:
    assert not NO_CAPABILITIES.has("roots")
    assert not NO_CAPABILITIES.extends("roots")


def test_anonymous_is_a_caller_like_any_other() -> None:
    assert (ANONYMOUS.id, ANONYMOUS.type) == ("anonymous", CallerType.anonymous)
