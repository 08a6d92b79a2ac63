"""Stored texts that may be long: the whole of one, or its beginning and what reads the rest.

A thousand results of a megabyte each are no reason to load a gigabyte for what is cut anyway. Made by `timeline`,
shown by `display`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.db.models import Case, Func, IntegerField, Model, QuerySet, Value, When
from django.db.models.functions import Left

#: Characters from which on not even the beginning of a text is read: the database would load all of it for that.
LARGE = 100_000

Rows = TypeVar("Rows", bound=QuerySet[Any])


@dataclass(frozen=True, slots=True)
class Stored:
    """A text of `length` characters, of which `text` is the beginning or all."""

    text: str
    length: int
    read: Callable[[], str] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it has been read."""
        return len(self.text) >= self.length

    def whole(self) -> str:
        """Return all of it, which is read now if it has not been."""
        return self.text if self.is_whole or self.read is None else self.read()


class _Size(Func):
    """The number of characters of a text. What is stored is ASCII, so it is that of its bytes.

    PostgreSQL knows that of a compressed text without reading it, and SQLite from 3.43 on: before, it has to count.
    """

    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        known = connection.Database.sqlite_version_info >= (3, 43)
        return self.as_sql(compiler, connection, function=self.function if known else "LENGTH", **context)


def beginnings(rows: Rows, column: str, most: int, *, large: int | None = None) -> Rows:
    """Have the database give up to `most` characters of this column of each row; none of one longer than `large`."""
    sized = rows.defer(column).annotate(length=_Size(column))
    if large is None:
        return sized.annotate(beginning=Left(column, most))
    # To cut a text, a database may load all of it.
    cut = Case(When(length__lte=large, then=Left(column, most)), When(length__gt=large, then=Value("")))
    return sized.annotate(beginning=cut)


def of_row(row: Model, column: str) -> Stored | None:
    """Return this column of a row, or its beginning, if that was asked for; `None` if it was not loaded or is NULL."""
    loaded = row.__dict__
    if "beginning" not in loaded:
        text = loaded.get(column)
        return None if text is None else Stored(text, len(text))
    if loaded["beginning"] is None:
        return None
    return Stored(loaded["beginning"], loaded["length"], partial(_read, row, column))


def _read(row: Model, column: str) -> str:
    rows = type(row)._base_manager.using(row._state.db).filter(pk=row.pk)
    # It may have been pruned meanwhile: its beginning is what there is.
    found: str = rows.values_list(column, flat=True).first() or row.__dict__["beginning"]
    return found
