"""Keeping what the engine logs, for tests that read it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def kept_lines(name: str, level: int) -> Iterator[list[logging.LogRecord]]:
    """Keep what is logged on this logger and those below it, from this level on."""
    logger, kept = logging.getLogger(name), _Kept()
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(kept)
    try:
        yield kept.records
    finally:
        logger.removeHandler(kept)
        logger.setLevel(before)
