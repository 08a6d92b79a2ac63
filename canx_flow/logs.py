"""The engine's loggers: what a project's handlers and filters do cannot break a thread of the engine's own.

A handler may write to the database that is away, raise, or end its thread with SystemExit. Every module of the engine
that logs takes its logger from here; a workflow's own `ctx.log` is the project's code, and is not one of these.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any


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


def logger(name: str) -> Logger:
    """The engine's logger of this name."""
    return Logger(logging.getLogger(name), {})
