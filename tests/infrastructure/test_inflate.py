# SPDX-License-Identifier: MIT
from __future__ import annotations

import gzip
import resource
import zlib

import pytest

from mcp_hangar.domain.errors import ProtocolError
from mcp_hangar.infrastructure.transports.inflate import Inflate, decoded

LIMIT = 64 * 1024


def test_compressed_bodies_are_undone() -> None:
    text = b'{"jsonrpc":"2.0"}' * 1000
    raw = zlib.compressobj(wbits=-15)
    assert decoded(gzip.compress(text), b"gzip", LIMIT, "time") == text
    assert decoded(zlib.compress(text), b"Deflate", LIMIT, "time") == text
    assert decoded(raw.compress(text) + raw.flush(), b"deflate", LIMIT, "time") == text
    assert decoded(text, b"", LIMIT, "time") == text


def test_a_gzip_bomb_is_refused_at_the_limit() -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProtocolError) as raised:
        decoded(bomb, b"gzip", 1024 * 1024, "time")
    assert raised.value.code == "message_too_large"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"junk", b"gzip"), (gzip.compress(b"x", mtime=0)[:-3], b"gzip"), (b"", b"br")]
)
def test_a_body_that_is_not_what_its_encoding_says_is_refused(body: bytes, encoding: bytes) -> None:
    with pytest.raises(ProtocolError):
        decoded(body, encoding, LIMIT, "time")


def test_a_compressed_stream_is_undone_as_it_comes_and_in_bounded_steps() -> None:
    text = bytes(range(256)) * 4096
    packed = gzip.compress(text)
    inflate = Inflate(b"gzip")
    found = b""
    for index in range(0, len(packed), 1000):
        inflate.feed(packed[index : index + 1000])
        while piece := inflate.read():
            assert len(piece) <= 65536
            found += piece
    assert found == text
    assert inflate.finished
