# SPDX-License-Identifier: MIT
"""JSON as strangers write it: any spelling of any value, as text. Used by the property tests of `domain/mcp`."""

from __future__ import annotations

import json

from hypothesis import strategies as st

blanks = st.text(" \t\r\n", max_size=2)
letters = st.characters(exclude_categories=["Cs"])
words = st.text(letters, max_size=6)
numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["0", "-0", "1.0", "1e2", "1E+2", "1.50", "0.1e-7", "9" * 400, "9" * 5000, "1e400"]),
)


@st.composite
def spelled(draw: st.DrawFn, word: str) -> str:
    """`word` as a JSON string, each character plain or escaped at will."""
    parts = []
    for letter in word:
        escaped = json.dumps(letter)[1:-1]
        numeric = json.dumps(letter)[1:-1] if ord(letter) > 0xFFFF else f"\\u{ord(letter):04x}"
        plain = letter if letter >= " " and letter not in '"\\' else escaped
        parts.append(draw(st.sampled_from([plain, plain, escaped, numeric, numeric.upper().replace("\\U", "\\u")])))
    return '"' + "".join(parts) + '"'


strings = words.flatmap(spelled)
scalars = st.one_of(numbers, strings, st.sampled_from(["true", "false", "null", '"}"', '"[{"', '"\\\\"', '"\\""']))


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.lists(values, max_size=3), blanks).map(lambda each: f"[{each[1]}" + ",".join(each[0]) + "]")


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str], keys: st.SearchStrategy[str] = words) -> str:
    """Few keys, so that some repeat, in different spellings."""
    choice = draw(st.lists(keys, min_size=1, max_size=3))
    members = []
    for _ in range(draw(st.integers(0, 4))):
        key = draw(spelled(draw(st.sampled_from(choice))))
        members.append(f"{draw(blanks)}{key}{draw(blanks)}:{draw(blanks)}{draw(values)}{draw(blanks)}")
    return "{" + (",".join(members) or draw(blanks)) + "}"


texts = st.recursive(scalars, lambda inner: st.one_of(arrays(inner), objects(inner)), max_leaves=8)
object_texts = objects(texts)


def pairs_of(text: str) -> list[tuple[str, object]]:
    """The members of an object in order, repeated ones too, as the reference parser reads them."""
    found = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
    assert isinstance(found, list)
    return found
