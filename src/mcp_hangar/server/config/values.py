# SPDX-License-Identifier: MIT
"""The forms of single values: addresses, keys, URLs, patterns, quantities. Each says what it expects."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from mcp_hangar.domain.provider import Backoff
from mcp_hangar.server.config import quantities
from mcp_hangar.server.config.text import Interpolated


def refuse(what: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("hangar", "{what}", {"what": what, "fix": fix})


def _duration(value: object) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if not isinstance(value, str):
        bare = isinstance(value, int) and not isinstance(value, bool)
        raise refuse(
            "expected a duration such as 30s", f"Write {value}s if you mean seconds" if bare else "Write it so"
        )
    try:
        return quantities.parse_duration(value)
    except ValueError as error:
        raise refuse(str(error), "Units are ms, s, m and h") from None


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise refuse("expected a size such as 4MiB", "Write it so")
    try:
        return quantities.parse_size(value)
    except ValueError as error:
        meant = re.fullmatch(r"(\d{1,9})\s*([kKmMgG])[bB]?", value)
        known = f"Did you mean {meant[1]}{meant[2].upper()}iB?" if meant else "Units are B, KiB, MiB and GiB"
        raise refuse(str(error), known) from None


def _backoff(value: object) -> Backoff:
    if isinstance(value, Backoff):
        return value
    try:
        return quantities.parse_backoff(value if isinstance(value, str) else "")
    except ValueError as error:
        raise refuse(str(error), "Write the first wait, two dots, the longest wait") from None


def _count(value: object) -> object:
    if isinstance(value, Interpolated) and re.fullmatch(r"\d{1,15}", value, re.ASCII):
        return int(value)
    return value


def parse_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:8000`, `[::1]:8000` or `localhost:8000` to host and port. `ValueError` says what was expected."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError("expected an address and a port such as 127.0.0.1:8000")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("expected an IPv6 address in brackets, such as [::1]:8000") from None
    elif not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
        raise ValueError("expected an address and a port such as 127.0.0.1:8000")
    return host, int(port)


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_key(text: str) -> bytes:
    """32 bytes from hex or base64; empty for none. `ValueError` says what was expected."""
    if not text:
        return b""
    try:
        key = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != 32:
        raise ValueError("expected a key of 32 bytes in hex or base64")
    return key


def _address(value: str) -> str:
    try:
        parse_address(value)
    except ValueError as error:
        raise refuse(str(error), "0.0.0.0 stands for all IPv4 addresses of this machine") from None
    return value


def _admin_address(value: str) -> str:
    if not value.startswith("unix:"):
        return _address(value)
    path = value.removeprefix("unix:")
    if not path.startswith("/"):
        raise refuse("expected an absolute path after 'unix:'", "Write it as unix:/run/hangar/admin.sock")
    if len(path.encode()) > 107:
        raise refuse("the socket's path is longer than 107 bytes", "The kernel allows no more; choose a shorter one")
    return value


def _key(value: str) -> str:
    try:
        parse_key(value)
    except ValueError as error:
        raise refuse(str(error), "Make one with `openssl rand -hex 32`") from None
    if not value:
        raise refuse("the key is empty", "Remove it, or make one with `openssl rand -hex 32`")
    return value


def _token(value: str) -> str:
    if not re.fullmatch(r"[!-~]+", value, re.ASCII):
        empty = "the token is empty" if not value else "a token is one word of printable ASCII characters"
        raise refuse(empty, "Make one with `openssl rand -hex 32`")
    return value


def _split(text: str) -> SplitResult | None:
    """The parts of a URL of printable ASCII with a host and, if any, a usable port."""
    try:
        url = urlsplit(text)
        usable = bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if usable and re.fullmatch(r"[!-~]+", text, re.ASCII) else None


def _url(value: str) -> str:
    url = _split(value)
    if url is None or url.scheme not in ("http", "https"):
        raise refuse(
            "expected a URL such as https://mcp.example.com/mcp", "Write scheme (http or https), host and path"
        )
    if url.username is not None or url.password is not None:
        raise refuse("credentials in a URL would be shown in logs", "Use 'headers' or 'auth'")
    if "#" in value:
        raise refuse("a fragment ('#…') is never sent", "Remove it")
    return value


def _proxy(value: str) -> str:
    url = _split(value)
    bare = url is not None and url.path in ("", "/") and not url.query and "#" not in value
    if url is None or not bare or url.scheme != "http" or not url.port or url.username is not None:
        raise refuse(
            "expected a proxy such as http://proxy.internal:3128", "Write http://, host and port, nothing else"
        )
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:\d{1,5})?", value, re.ASCII):
        raise refuse("expected a host name such as hangar.internal", "Write each name out; patterns are not supported")
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", value, re.ASCII):
        raise refuse(
            "expected an origin such as https://app.example.com", "Write scheme and host, without path or pattern"
        )
    return value


def _glob(value: str) -> str:
    if not value:
        raise refuse("an empty pattern matches nothing", "Remove it, or write a name such as get_*")
    if len(value) > 128 or not re.fullmatch(r"[^\s\[\]]+", value):
        raise refuse("expected a name with * and ? as wildcards", "Other wildcards, and blanks, are not supported")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise refuse("a NUL character cannot be passed on", "Remove it")
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[\t -~\x80-\xff]*", value) or value != value.strip():
        raise refuse("a header's value is one line without blanks at its ends", "Check the value for line breaks")
    return value


def _sink(value: str) -> str:
    if value not in ("stdout", "stderr", "none") and not value.startswith(("/", "~/")):
        close = next(
            (word for word in ("stdout", "stderr", "none") if value and word.startswith(value[:3].lower())), ""
        )
        raise refuse(
            "expected stdout, stderr, none or an absolute path",
            f"Did you mean '{close}'?" if close else "Write a file as /var/log/hangar/audit.jsonl",
        )
    return value


def _path(value: str) -> str:
    if not value or "\0" in value:
        raise refuse("expected a path", "Name one, or remove the key")
    return value


Text = Annotated[str, AfterValidator(_text)]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(quantities.format_duration, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": quantities.DURATION_PATTERN}, {"const": 0}],
            "examples": ["30s"],
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(quantities.format_size, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": quantities.SIZE_PATTERN}, {"type": "integer", "minimum": 0}],
            "examples": ["4MiB"],
        }
    ),
]
BackoffRange = Annotated[
    Backoff,
    PlainValidator(_backoff),
    PlainSerializer(quantities.format_backoff, return_type=str),
    WithJsonSchema({"type": "string", "pattern": quantities.BACKOFF_PATTERN, "examples": ["1s..60s"]}),
]
Count = Annotated[int, BeforeValidator(_count)]
Glob = Annotated[str, AfterValidator(_glob)]
Address = Annotated[str, AfterValidator(_address)]
AdminAddress = Annotated[str, AfterValidator(_admin_address)]
Key = Annotated[str, AfterValidator(_key)]
Token = Annotated[str, AfterValidator(_token)]
Url = Annotated[str, AfterValidator(_url)]
Proxy = Annotated[str, AfterValidator(_proxy)]
HostName = Annotated[str, AfterValidator(_host)]
Origin = Annotated[str, AfterValidator(_origin)]
HeaderValue = Annotated[str, AfterValidator(_header)]
Sink = Annotated[str, AfterValidator(_sink)]
FilePath = Annotated[str, AfterValidator(_path)]
