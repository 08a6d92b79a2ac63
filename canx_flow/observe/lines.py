"""One line of Python's `logging`, made of a fact; and the receiver that writes the lines, which `log` holds.

What handlers and filters of the project do cannot break a thread of the engine: a handler may write to the database
that is away, raise, or end its thread with SystemExit. The line then goes to standard error.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any, NamedTuple

from . import pages
from .facts.runs import Fact, RunFact

#: `%(name)s` is an argument of the line, `{name}` a part of its text: each an attribute of the fact, or computed.
_PIECE = re.compile(r"%\((?P<argument>[\w.]+)\)(?P<format>[^a-z]*[a-z])|\{(?P<part>[\w.]+)\}")
#: From `Logger.log` up to the caller of `announce`: the line says where that is.
_FRAMES = 4


class Part(NamedTuple):
    """A part of a line's text with arguments of its own."""

    text: str
    arguments: tuple[object, ...] = ()


class Line:
    """One line of the log: its logger, level and text, and what goes along with it.

    What reports errors to people groups lines by their text as it is before its arguments are put in: which run it was
    and what an error said are arguments. `exc_info` and `extra` are made of the fact, `computed` are parts of the text
    and arguments that are no attributes of it.
    """

    def __init__(
        self,
        logger: str,
        level: int,
        text: str,
        /,
        *,
        exc_info: Callable[[Any], BaseException | None] | None = None,
        extra: Callable[[Any], dict[str, object]] | None = None,
        **computed: Callable[[Any], object],
    ) -> None:
        self.logger = logging.getLogger(logger)
        self.logger.addFilter(_escape_traceback)
        self.level = level
        self._pieces = list(_pieces(text, computed))
        self._exc_info = exc_info
        self._extra = extra

    def is_wanted(self) -> bool:
        """Return whether this process's `LOGGING` lets such lines through."""
        return self.logger.isEnabledFor(self.level)

    def write(self, fact: Fact) -> None:
        """Log it; whatever a handler does, nothing is raised."""
        try:
            error = self._exc_info(fact) if self._exc_info is not None else None
            extra = self.about(fact)
            text, arguments = self.filled(fact, str(extra.get("run_url", "")))
            self.logger.log(self.level, text, *arguments, exc_info=error, extra=extra, stacklevel=_FRAMES)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is no matter of the engine's
            with suppress(Exception):
                text, arguments = self.filled(fact)
                said = text % arguments if arguments else text
                name = logging.getLevelName(self.level)
                sys.stderr.write(f"{name} {self.logger.name} {said} (logging failed: {error!r})\n")
                sys.stderr.flush()

    def about(self, fact: Fact) -> dict[str, object]:
        """Return the extra attributes of the line: of one about a run, with the address of its page."""
        found = _extra(fact) | (self._extra(fact) if self._extra is not None else {})
        run_id = found.get("run_id", getattr(fact, "run_id", None))
        url = pages.of_run(run_id, found.get("step"))
        return {**found, "run_url": url} if url else found

    def filled(self, fact: Fact, url: str = "") -> tuple[str, tuple[object, ...]]:
        """Return the text with its parts in place, and its arguments; an error's ends with where the run is shown."""
        parts = [piece(fact) for piece in self._pieces]
        if url and self.level >= logging.ERROR:
            parts.append(Part("; see %s", (url,)))
        return "".join(part.text for part in parts), tuple(value for part in parts for value in part.arguments)


class Log:
    """The receiver that writes the line of each fact that has one."""

    calls_project = False

    def __init__(self, lines: Mapping[type[Fact], Line]) -> None:
        self._lines = lines

    def wanting(self, kind: type[Fact]) -> Callable[[], object] | None:
        """Return what tells whether `LOGGING` lets the line of this kind through, if it has one."""
        line = self._lines.get(kind)
        return line.is_wanted if line is not None else None

    def receive(self, fact: Fact) -> None:
        """Write its line."""
        self._lines[type(fact)].write(fact)


def _pieces(text: str, computed: dict[str, Callable[[Any], object]]) -> Iterator[Callable[[Any], Part]]:
    """Yield for each piece of a text a function that fills it with what a fact has."""
    end = 0
    for found in _PIECE.finditer(text):
        if found.start() > end:
            yield _literal(text[end : found.start()])
        name = found["argument"] or found["part"]
        value = computed.get(name) or attrgetter(name)
        yield _argument(f"%{found['format']}", value) if found["argument"] else _part(value)
        end = found.end()
    if end < len(text):
        yield _literal(text[end:])


def _literal(text: str) -> Callable[[Any], Part]:
    part = Part(text)
    return lambda _fact: part


def _argument(form: str, value: Callable[[Any], object]) -> Callable[[Any], Part]:
    return lambda fact: Part(form, (value(fact),))


def _part(value: Callable[[Any], object]) -> Callable[[Any], Part]:
    def part(fact: Any) -> Part:
        found = value(fact)
        return found if isinstance(found, Part) else Part(str(found).replace("%", "%%"))

    return part


def _extra(fact: Fact) -> dict[str, object]:
    """Return the extra attributes of the line of a run: which one it is, and which step of it."""
    if not isinstance(fact, RunFact):
        return {}
    run = fact.run
    return {
        "run_id": str(run.id),
        "workflow": run.workflow,
        "queue": run.queue,
        "step": getattr(fact, "step", None),
    }


def _escape_traceback(record: logging.LogRecord) -> bool:
    """Write as escapes what no stream encodes, such as half a surrogate pair: a handler would drop the whole line."""
    if record.exc_info and record.exc_text is None:
        text = logging.Formatter().formatException(record.exc_info)
        written = text.encode("utf-8", "backslashreplace").decode("utf-8")
        if written != text:
            record.exc_text = written  # Which formatters take instead of their own.
    return True
