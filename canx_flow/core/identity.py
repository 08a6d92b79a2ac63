"""Ids of runs, and the text that refers to a subject. Model-free, so that `models` can use it."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from django.apps import apps
from django.core.exceptions import ValidationError

from .naming import MAX_KEY, text

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid6 import uuid7 as _uuid7

    def uuid7() -> uuid.UUID:
        """Make a time-ordered UUID of the standard library's own class, which uuid6 only subclasses."""
        return uuid.UUID(int=_uuid7().int)


if TYPE_CHECKING:
    from django.db.models import Model

__all__ = ["find_subject", "first_id_at", "ids_beginning", "subject_reference", "uuid7", "uuid7_series"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The least and the greatest id there may be. Version and variant are right: MariaDB sorts others another way.
_LEAST = "00000000000070008000000000000000"
_MOST = "ffffffffffff7fffbfffffffffffffff"


def ids_beginning(digits: str) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the first and the last id that begin with these hexadecimal digits: a range of the primary key."""
    return uuid.UUID(digits + _LEAST[len(digits) :]), uuid.UUID(digits + _MOST[len(digits) :])


def first_id_at(moment: datetime) -> uuid.UUID:
    """Return the least id that can be made at this moment: ids begin with the milliseconds since 1970.

    So a range of moments is a range of the primary key. A moment before 1970 is taken for its first.
    """
    milliseconds = max(0, (moment - _EPOCH) // timedelta(milliseconds=1))
    return ids_beginning(f"{milliseconds:012x}")[0]


def uuid7_series(count: int) -> list[uuid.UUID]:
    """Make so many time-ordered UUIDs of one moment, each the next number after the one before.

    RFC 9562 allows this for batches (section 6.2, method 2). uuid6 would move its clock a millisecond ahead for each.
    """
    # The highest random bit is left out, so that counting never carries over into the version.
    first = uuid7().int & ~(1 << 61)
    return [uuid.UUID(int=number) for number in range(first, first + count)]


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
