# SPDX-License-Identifier: MIT
"""Secrets out of what we keep: previews of arguments, lines of text that strangers wrote.

Every pattern here either fails within a fixed number of characters or consumes what it has read, and only a bounded
window is looked at, so hostile text costs what friendly text costs. This is a safety net for people who read records,
no proof that nothing secret is left: what must not be kept is hashed, not previewed.
"""

from __future__ import annotations

import json
import re
from typing import Final

PREVIEW_CHARS: Final = 256
MASK: Final = "[redacted]"
CUT: Final = "…"
WINDOW: Final = 2048
"""Characters that are looked at; what is longer is cut before, so that the cost has a bound."""

_SECRET_NAMES: Final = (
    "password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "apikey", "accesskey", "privatekey",
    "signingkey", "encryptionkey", "masterkey", "credential", "authorization", "bearer", "cookie", "connectionstring",
    "clientassertion", "jwt", "sessionid", "mnemonic", "seedphrase",
)  # fmt: skip
_SECRET_EXACT: Final = frozenset(
    {
        "auth",
        "pass",
        "pw",
        "pin",
        "otp",
        "totp",
        "mfacode",
        "cvv",
        "cvc",
        "ssn",
        "dsn",
        "sid",
        "xauth",
        "cardnumber",
        "iban",
    }
)
_COUNTING: Final = ("tokens", "tokencount", "tokenlimit", "tokenbudget", "tokenizer")
_SEPARATORS: Final = str.maketrans("", "", "_-. :/[]")


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name (a JSON key, a header, a variable) is to be masked. When in doubt, it is."""
    plain = name[:200].lower().translate(_SEPARATORS)
    if plain in _SECRET_EXACT:
        return True
    if plain.endswith(_COUNTING):
        return False
    return any(part in plain for part in _SECRET_NAMES)


# The names again, as they appear in running text: `api_key=…`, `"password": "…"`, `X-Auth-Token: …`.
_NAMED: Final = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_\-. ]?key|access[_\-. ]?key(?:[_\-. ]?id)?"
    r"|private[_\-. ]?key|credentials?|authorization|cookie|jwt|session[_\-. ]?id|client[_\-. ]?assertion)"
)
_SHAPES: Final = re.compile(
    r"(?P<pem>-----BEGIN [A-Z0-9 ]{0,40}-----(?:(?!-----END )[\s\S])*+(?:-----END [A-Z0-9 ]{0,40}-----)?)"
    r"|(?P<userinfo>://)[^\s/@:\"'\\]{0,256}:[^\s/@\"'\\]{1,256}@"
    rf"|(?P<named>(?i:{_NAMED})[\"'\\]{{0,4}}[ \t]{{0,4}}(?:=>|[=:])[ \t]{{0,4}}[\"'\\]{{0,4}})"
    r"(?:(?i:bearer|basic|digest|token|negotiate)[ \t]{1,4})?[^\s\"'\\&,;})]++"
    r"|(?P<scheme>(?i:\b(?:bearer|basic)[ \t]{1,4}))[A-Za-z0-9+/_.~=\-]{8,}+"
    r"|(?<![A-Za-z0-9])(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|xapp-|[srp]k-|[srp]k_(?:live|test)_|whsec_|npm_|pypi-|hf_|hvs\."
    r"|dop_v1_|shp(?:at|ss|ca|pa)_|lin_api_|ya29\.|SG\.|AIza|AGE-SECRET-KEY-|eyJ)[A-Za-z0-9_.\-]{10,}+"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}+"
    r"|(?P<opaque>(?<![A-Za-z0-9+_=])[A-Za-z0-9+_=]{32,}+)"
)


def _mask(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "opaque":
        # A long word of letters only is a word; with digits among them it may be a key.
        word = match.group()
        return MASK if any(map(str.isdigit, word)) and any(map(str.isalpha, word)) else word
    if kind == "userinfo":
        return f"://{MASK}@"
    return f"{match.group(kind)}{MASK}" if kind in ("named", "scheme") else MASK


def mask_shapes(text: str) -> str:
    """Masks what looks like a secret, whatever it is called. Linear; the caller bounds the text."""
    return _SHAPES.sub(_mask, text)


def redact_text(text: str, limit: int = PREVIEW_CHARS) -> str:
    """A line of text to be kept: secrets masked, control characters escaped, at most `limit` characters."""
    seen = _window(text)
    return _cut(escape_controls(mask_shapes(seen)), len(seen) < len(text), limit)


_TOKENS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]:,]|[^"{}\[\]:,]++', re.DOTALL)


def redact_json(data: bytes, limit: int = PREVIEW_CHARS) -> str:
    """A preview of JSON, of which only the beginning is read, so it need not be whole or even valid.

    The value of a member with a secret's name is masked whole, however deep it is; elsewhere what looks like a
    secret is.
    """
    whole = data[: WINDOW * 4].decode("utf-8", "replace")
    text = _window(whole)
    out: list[str] = []
    last = ""  # the last string seen, which is a key if a colon follows
    masking = 0  # depth inside of a value that is masked; -1: it is about to begin
    for match in _TOKENS.finditer(text):
        piece = match.group()
        if masking > 0:
            masking += (piece in ("{", "[")) - (piece in ("}", "]"))
            continue
        if masking < 0 and not piece.isspace():
            if piece in ("}", "]", ","):
                masking = 0
            else:
                out.append(f'"{MASK}"')
                masking = 1 if piece in ("{", "[") else 0
                continue
        if piece == ":" and last and is_secret_name(_unquoted(last)):
            masking = -1
        last = piece if piece[0] == '"' else (last if piece.isspace() else "")
        out.append(mask_shapes(piece) if piece[0] == '"' else piece)
    more = len(data) > WINDOW * 4 or len(text) < len(whole)
    return _cut(escape_controls("".join(out)), more, limit)


def _unquoted(token: str) -> str:
    try:
        name = json.loads(token)
    except ValueError:
        return token.strip('"')
    return name if isinstance(name, str) else token


def _window(text: str) -> str:
    """The beginning of a text, ending between words, so that no secret is cut to a length that looks harmless."""
    if len(text) <= WINDOW:
        return text
    text = text[:WINDOW]
    end = max(map(text.rfind, (" ", "\n", "\t", '"', ",", "&", ";")))
    return text[: end + 1]


def _cut(text: str, more: bool, limit: int) -> str:
    if len(text) > limit or more:
        return text[: limit - 1] + CUT
    return text


# What moves a terminal, turns a line around, or ends it: C0, DEL, C1, bidirectional marks, line separators, BOM,
# tags, lone surrogates.
_CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def _escape(match: re.Match[str]) -> str:
    point = ord(match.group())
    if point > 0xFFFF:
        point -= 0x10000
        return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
    return f"\\u{point:04x}"


def escape_controls(text: str) -> str:
    """Control characters as JSON escapes. Inside of a JSON text that is the same string, written in a harmless way."""
    return _CONTROLS.sub(_escape, text)
