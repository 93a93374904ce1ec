# SPDX-License-Identifier: MIT
"""Logs, for operators: one line per entry on stderr, stdout being the record's or the client's.

Events are the record; a log line says what a person at the machine should see. No entry carries local variables or a
configured secret, and none spans two lines, whatever a provider or a client wrote into it.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Collection, Mapping
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from mcp_hangar.domain.errors import ConfigError, ConfigProblem

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
DEFAULT_LEVEL: Final = "info"
VARIABLE: Final = "HANGAR_LOG_LEVEL"
MASK: Final = "***"


def chosen_level(option: str | None, environment: Mapping[str, str]) -> str:
    """`--log-level`, else HANGAR_LOG_LEVEL, else info. Raises `ConfigError` for any other word."""
    for source, word in (("--log-level", option), (VARIABLE, environment.get(VARIABLE))):
        if word:
            if word.lower() in LEVELS:
                return word.lower()
            fix = f"Use one of: {', '.join(LEVELS)}."
            raise ConfigError([ConfigProblem(code="bad_option", what=f"{source} is {word!r}.", fix=fix)])
    return DEFAULT_LEVEL


def configure_logs(level: str, secrets: Collection[str] = (), stream: TextIO | None = None) -> None:
    """Ours and the libraries' entries go the same way, to stderr unless `stream` is given."""
    out = stream or sys.stderr
    number = LEVELS[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        _tell_exception,
        structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        _OneLine(secrets),
    ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def _tell_exception(logger: WrappedLogger, method: str, entry: EventDict) -> EventDict:
    """What was raised, from where, and out of what else: names of places, no values but the messages."""
    given = entry.pop("exc_info", None)
    found = given if isinstance(given, BaseException) else (given if isinstance(given, tuple) else sys.exc_info())[1]
    if given and found is not None:
        entry["exception"], entry["at"] = f"{type(found).__name__}: {found}", _places(found)
        cause = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
        if cause is not None:
            entry["cause"], entry["cause_at"] = f"{type(cause).__name__}: {cause}", _places(cause)
    return entry


def _places(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))


class _OneLine:
    """The rendered entry without line ends, control characters and secrets."""

    def __init__(self, secrets: Collection[str]) -> None:
        # As it is and as `repr` writes it; the longest first, since one secret may stand inside another.
        written = {form for secret in secrets for form in (secret, repr(secret)[1:-1]) if form}
        self._secrets = sorted(written, key=len, reverse=True)

    def __call__(self, logger: WrappedLogger, method: str, entry: str | EventDict) -> str:
        text = str(entry)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
