# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from mcp_hangar.application.event_codec import FIELD_CHARS, ArgumentsMode, Codec, decode
from mcp_hangar.domain import events
from mcp_hangar.domain.events import AnyEvent, CallAdmitted, CallDenied, ConfigLoaded, Event, ProviderStartFailed

GOLDEN = Path(__file__).parent.parent / "golden" / "events.jsonl"
KEY = b"k" * 32
TYPES: list[type[Event]] = list(get_args(AnyEvent))


def codec(mode: ArgumentsMode = ArgumentsMode.hash) -> Codec:
    return Codec(epoch="e1", hash_key=KEY, arguments=mode, entropy=lambda bits: 1 << bits - 1)


def one_of_each() -> list[Event]:
    """Every field of every event, filled with a value that tells which field it is."""
    filled: list[Event] = []
    for cls in TYPES:
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(cls):
            if field.name == "at":
                values["at"] = 1764000000.123456
            elif field.name == "severity":
                values["severity"] = events.Severity.low
            elif field.name == "version":
                values["version"] = 1
            elif field.name == "arguments":
                values["arguments"] = b'{"timezone":"Europe/Berlin","password":"hunter2"}'
            elif field.type is str:
                values[field.name] = f"the {field.name}"
            elif field.type is int:
                values[field.name] = 7
            elif field.type is float:
                values[field.name] = 0.25
            else:
                values[field.name] = ("one", "two")
        filled.append(cls(**values))
    return filled


def test_the_record_of_each_event_is_as_the_golden_file_has_it() -> None:
    lines = [
        codec(ArgumentsMode.preview).encode(event, seq).data.decode() for seq, event in enumerate(one_of_each(), 1)
    ]
    if os.environ.get("HANGAR_GOLDEN") == "write":
        GOLDEN.write_text("\n".join(lines) + "\n")
    assert lines == GOLDEN.read_text().splitlines()


def test_every_event_class_is_part_of_the_union() -> None:
    assert {cls for cls in vars(events).values() if isinstance(cls, type) and issubclass(cls, Event)} - {Event} == set(
        TYPES
    )


def test_a_record_carries_the_envelope() -> None:
    record = codec().encode(ConfigLoaded(at=1764000000.5, file="/f", digest="d"), 12)
    line = json.loads(record.data)
    assert list(line) == ["type", "version", "id", "epoch", "seq", "at", "severity", "file", "digest"]
    assert (line["at"], line["seq"], record.seq, record.type) == (
        "2025-11-24T16:00:00.500000Z",
        12,
        12,
        "config.loaded",
    )
    identity = uuid.UUID(line["id"])
    assert identity.version == 7
    assert identity.variant == uuid.RFC_4122
    assert identity.int >> 80 == 1764000000500


_text = st.text(max_size=20)
_floats = st.floats(min_value=0, max_value=4e9, allow_nan=False)


def _values(cls: type[Event]) -> st.SearchStrategy[Event]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(cls):
        if field.name == "version":
            fields["version"] = st.just(1)
        elif field.name == "arguments":
            fields["arguments"] = st.just(b"")
        elif field.name == "severity":
            fields["severity"] = st.sampled_from(events.Severity)
        else:
            fields[field.name] = {str: _text, int: st.integers(0, 2**53), float: _floats}.get(
                field.type, st.lists(_text, max_size=3).map(tuple)
            )
    return st.fixed_dictionaries(fields).map(lambda values: cls(**values))


@given(st.one_of([_values(cls) for cls in TYPES]), st.integers(0, 2**40))
def test_every_event_comes_back_as_it_was(event: Event, seq: int) -> None:
    record = codec().encode(event, seq)
    back = decode(record.data)
    assert abs(back.at - event.at) <= 1e-6
    assert msgspec.structs.replace(back, at=event.at) == event
    assert type(back) is type(event)
    assert codec().encode(back, seq) == record


@given(st.text(max_size=60), st.binary(max_size=60))
def test_a_record_is_one_line_whatever_strangers_write(text: str, raw: bytes) -> None:
    event = CallDenied(at=1.0, code="denied", name=text, reason=text, client=text, arguments=raw)
    for mode in ArgumentsMode:
        data = codec(mode).encode(event, 1).data
        line = data.decode()
        assert len(line.splitlines()) == 1
        assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in line)
        assert json.loads(line).get("name", "") == text


def test_a_forged_line_stays_inside_of_its_field() -> None:
    name = 'x"}\n{"type":"call.completed","outcome":"ok"}\u2028\x1b[2J\u202e'
    data = codec().encode(CallDenied(at=1.0, code="denied", name=name), 1).data
    assert data.isascii()
    assert b"\n" not in data
    assert json.loads(data)["name"] == name


def test_a_name_that_is_no_unicode_is_recorded_all_the_same() -> None:
    data = codec().encode(ConfigLoaded(at=1.0, file="/etc/\udcff.yaml", digest="d"), 1).data
    assert json.loads(data)["file"] == "/etc/\\udcff.yaml"


@given(st.binary(min_size=1, max_size=200))
def test_arguments_are_hashed_raw_and_keyed(raw: bytes) -> None:
    line = json.loads(codec().encode(CallAdmitted(at=1.0, arguments=raw), 1).data)
    assert line["arguments_hash"] == blake3(raw, key=KEY).hexdigest()
    assert "arguments" not in line
    assert "arguments_preview" not in line


def test_equal_after_redaction_is_not_equal_in_hash() -> None:
    one, other = (
        json.loads(codec(ArgumentsMode.preview).encode(CallAdmitted(at=1.0, arguments=raw), 1).data)
        for raw in (b'{"password":"a"}', b'{"password":"b"}')
    )
    assert one["arguments_preview"] == other["arguments_preview"]
    assert one["arguments_hash"] != other["arguments_hash"]


def test_the_mode_decides_what_is_kept_of_arguments() -> None:
    event = CallAdmitted(at=1.0, arguments=msgspec.Raw(b'{\n "password" : "hunter2",\t"n": 1.50}'))
    kept = {mode: json.loads(codec(mode).encode(event, 1).data) for mode in ArgumentsMode}
    assert set(kept[ArgumentsMode.none]) & {"arguments", "arguments_hash", "arguments_preview"} == set()
    assert set(kept[ArgumentsMode.hash]) & {"arguments", "arguments_preview"} == set()
    assert "hunter2" not in kept[ArgumentsMode.preview]["arguments_preview"]
    assert kept[ArgumentsMode.full]["arguments"] == {"password": "hunter2", "n": 1.5}
    whole = codec(ArgumentsMode.full).encode(event, 1).data
    assert b'"n": 1.50' in whole
    back = decode(whole)
    assert isinstance(back, CallAdmitted)
    assert json.loads(back.arguments) == {"password": "hunter2", "n": 1.5}


def test_a_longer_key_than_the_hash_takes_is_no_error_and_still_a_key() -> None:
    hashes = {
        json.loads(Codec(epoch="e", hash_key=key).encode(CallAdmitted(at=1.0, arguments=b"{}"), 1).data)[
            "arguments_hash"
        ]
        for key in (b"a" * 100, b"a" * 101, b"a" * 64)
    }
    assert len(hashes) == 3


def test_endless_words_of_a_stranger_are_cut_and_say_so() -> None:
    event = ProviderStartFailed(at=1.0, provider="p", code="start_failed", detail="x" * 1_000_000)
    line = json.loads(codec().encode(event, 1).data)
    assert len(line["detail"]) < FIELD_CHARS + 50
    assert line["detail"].endswith(f"… (+{1_000_000 - FIELD_CHARS} characters)")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"type":"no.such","at":"2025-11-24T16:00:00Z"}', b'{"type":"system.stopping","at":1}'],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        decode(data)


def test_a_newer_version_is_refused_rather_than_misread() -> None:
    with pytest.raises(ValueError, match="newer version"):
        decode(b'{"type":"system.stopping","version":2,"at":"2025-11-24T16:00:00Z"}')


def test_ids_of_one_run_sort_as_the_events_do() -> None:
    made = [
        json.loads(codec().encode(ConfigLoaded(at=5.0, file="f", digest="d"), seq).data)["id"] for seq in range(100)
    ]
    assert made == sorted(made)
