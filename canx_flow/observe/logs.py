"""The engine's loggers: what a project's handlers and filters do cannot break a thread of the engine's own.

A handler may write to the database that is away, raise, or end its thread with SystemExit. Every module of the engine
that logs takes its logger from here; a workflow's own `ctx.log` is the project's code, and is not one of these.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from ..core.pretty import printable

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_BRIEF = 300  # characters of an error in a line


class Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger of `logging` by its name; a line that its handlers refuse goes to standard error."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log it as `logging.Logger.log` does, and raise nothing."""
        try:
            kwargs.setdefault("stacklevel", 2)  # It is our caller's line that is told, not this one.
            self.logger.log(level, msg, *args, **kwargs)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is no matter of the engine's
            with suppress(Exception):
                line = str(msg) % args if args else str(msg)
                sys.stderr.write(f"{logging.getLevelName(level)} {self.name} {line} (logging failed: {error!r})\n")
                sys.stderr.flush()


def template(text: str, names: Sequence[str]) -> str:
    """A line's text with these names at its `{}`: what reports errors groups lines by their text, before its `%s`."""
    return text.format(*(name.replace("%", "%%") for name in names))


def brief(text: str) -> str:
    """A text of any length as a part of one line: what no terminal obeys, cut off."""
    line = printable(" ".join(text[: 4 * _BRIEF].split()))
    return line if len(line) <= _BRIEF else f"{line[: _BRIEF - 1]}…"


def exc_info(error: BaseException | None) -> ExcInfo | None:
    """This exception for a line, with whatever traceback it has."""
    return None if error is None else (type(error), error, error.__traceback__)


def logger(name: str) -> Logger:
    """The engine's logger of this name."""
    found = logging.getLogger(name)
    found.addFilter(_escape_traceback)
    return Logger(found, {})


def _escape_traceback(record: logging.LogRecord) -> bool:
    """Write as escapes what no stream encodes, such as half a surrogate pair: a handler would drop the whole line."""
    if record.exc_info and record.exc_text is None:
        text = logging.Formatter().formatException(record.exc_info)
        written = text.encode("utf-8", "backslashreplace").decode("utf-8")
        if written != text:
            record.exc_text = written  # Which formatters take instead of their own.
    return True
