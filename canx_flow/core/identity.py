"""Ids of runs, and the text that refers to a subject. Model-free, so that `models` can use it."""

from __future__ import annotations

import json
import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from django.apps import apps
from django.core.exceptions import ValidationError

from . import clock
from .naming import MAX_KEY, text

if TYPE_CHECKING:
    from django.db.models import Model

__all__ = [
    "find_subject", "first_id_at", "ids_beginning", "moment_of", "subject_reference", "uuid7", "uuid7_series",
]  # fmt: skip

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The least and the greatest id there may be. Version and variant are right: MariaDB sorts others another way.
_LEAST = "00000000000070008000000000000000"
_MOST = "ffffffffffff7fffbfffffffffffffff"
_VERSION = 7 << 76 | 2 << 62  # and the variant
_LOW = (1 << 30) - 1  # the bits of the counter behind the variant
_SET_BACK = 1000  # milliseconds that a clock may go back and ids still be made in order


def ids_beginning(digits: str) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the first and the last id that begin with these hexadecimal digits: a range of the primary key."""
    return uuid.UUID(digits + _LEAST[len(digits) :]), uuid.UUID(digits + _MOST[len(digits) :])


def first_id_at(moment: datetime) -> uuid.UUID:
    """Return the least id that can be made at this moment: ids begin with the milliseconds since 1970.

    So a range of moments is a range of the primary key. A moment before 1970 is taken for its first.
    """
    return ids_beginning(f"{_milliseconds(moment):012x}")[0]


def moment_of(run_id: uuid.UUID) -> datetime:
    """Return when an id was made, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=run_id.int >> 80)


def uuid7() -> uuid.UUID:
    """Make a time-ordered UUID: greater than all that this process has made before."""
    return _maker.make(1)[0]


def uuid7_series(count: int) -> list[uuid.UUID]:
    """Make so many of them, in order."""
    return _maker.make(count)


class _Maker:
    """Makes ids of a millisecond's 48 bits, a counter's 42 and 32 of chance (RFC 9562, section 6.2, method 1).

    The counter, which begins anywhere, keeps in order what is made in one millisecond: no id is ahead of the clock,
    however many are made. A clock that was set back a little stands until it has caught up; one that was set back by
    more is followed.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin anew; also in a forked process, whose parent may have been making one."""
        self._mutex = threading.Lock()
        self._milliseconds, self._counter = 0, 0

    def make(self, count: int) -> list[uuid.UUID]:
        """Make so many ids, each greater than the one before."""
        *tails, high, low = memoryview(os.urandom(4 * (count + 2))).cast("I")
        with self._mutex:
            now = _milliseconds(clock.now())
            if not 0 <= self._milliseconds - now <= _SET_BACK:
                # Of 41 bits at first, so that it never overflows.
                self._milliseconds, self._counter = now, high << 9 | low >> 23
            begin = self._milliseconds << 80 | _VERSION
            first, self._counter = self._counter, self._counter + count
        return [
            uuid.UUID(int=begin | number >> 30 << 64 | (number & _LOW) << 32 | tail)
            for number, tail in enumerate(tails, first)
        ]


_maker = _Maker()
os.register_at_fork(after_in_child=_maker.begin)


def _milliseconds(moment: datetime) -> int:
    since = moment - _EPOCH  # To divide it would take as long as all the rest of an id.
    return max(0, since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000)


def subject_reference(subject: Model) -> tuple[str, str]:
    """Return the concrete model's label and the primary key as text (JSON for a composite key).

    ValueError for an unsaved object and TypeError for something that is no model instance.
    """
    from django.db.models import Model  # Only now: the package is imported before Django's models can be.

    if not isinstance(subject, Model):
        raise TypeError(f"subject must be a saved model instance, not {type(subject).__name__}")
    meta, pk = subject._meta, subject.pk
    if pk is None or subject._state.adding:
        raise ValueError(f"subject must be saved first: {meta.label} has no row yet")
    key = json.dumps([str(part) for part in pk]) if isinstance(pk, tuple) else text(str(pk), "subject's primary key")
    if len(key) > MAX_KEY:
        raise ValueError(f"subject has a primary key of {len(key)} characters, at most {MAX_KEY} are allowed")
    return cast("type[Model]", meta.concrete_model)._meta.label, key


def find_subject(label: str, key: str) -> Model | None:
    """Read the object that `subject_reference` named; `None` if it is gone."""
    if not label:
        return None
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return None
    pk = tuple(json.loads(key)) if key.startswith("[") and hasattr(model._meta, "pk_fields") else key
    try:
        found: Model | None = model._base_manager.filter(pk=pk).first()
    except (ValueError, TypeError, ValidationError):
        return None  # The key has another type by now.
    return found
