"""What the search box of the list of runs finds: ids and their beginnings, keys, workflows, subjects.

Each way is asked with what an index knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.db.models import Q, QuerySet

from ..core import registry
from ..core.identity import ids_beginning
from ..models import WorkflowRun
from ..models.conditions import HAS_SUBJECT, about

_ID = re.compile(r"[0-9a-f-]{4,36}", re.IGNORECASE)
#: As the list writes an id: its beginning and its end.
_SHORT = re.compile(r"([0-9a-f]{8})…([0-9a-f]{4})", re.IGNORECASE)

_MOST_TYPES = 100


def search(runs: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Find the runs that `text` may mean: an id, the beginning of one, a key, a workflow, a subject's key."""
    text = text.strip()
    if not text:
        return runs
    found = [way for way in _ways(runs, text) if runs.filter(way).exists()]
    return runs.filter(reduce(or_, found)) if found else runs.none()


def _ways(runs: QuerySet[Any], text: str) -> Iterator[Q]:
    """Yield what it may mean, each with one index: of several at once a database may read the whole table."""
    if (by_id := _by_id(text)) is not None:
        yield by_id
    # Looked up first: in the order of ids, PostgreSQL reads the whole table for them where it has no statistics.
    yield Q(id__in=list(runs.filter(key=text).order_by().values_list("id", flat=True)))
    known = {name for name, _version in registry.identities() if text.lower() in name.lower()}
    for name in sorted({*known, text}):
        yield Q(workflow=name)
    yield _by_subject(runs, text)


def _by_id(text: str) -> Q | None:
    if short := _SHORT.fullmatch(text):
        return _between(short[1]) & Q(id__endswith=short[2].lower())
    digits = text.replace("-", "")
    return _between(digits) if _ID.fullmatch(text) and 4 <= len(digits) <= 32 else None


def _between(digits: str) -> Q:
    least, most = ids_beginning(digits)
    return Q(id__gte=least, id__lte=most)


def _by_subject(runs: QuerySet[Any], text: str) -> Q:
    """Match a key of any model there is; `shop.Order 17` and `shop.Order:17` name the model, which may be gone.

    So does `order 17`, as the list writes it.
    """
    label, _, key = text.replace(":", " ", 1).partition(" ")
    if key and "." in label:
        with suppress(LookupError, ValueError):
            label = apps.get_model(label)._meta.label
        return about(label, key.strip())
    name, _, key = text.rpartition(" ")
    if key and (named := [label for label in _subject_types(runs) if _is_named(label, name)]):
        return Q(subject_type__in=named, subject_id=key) & HAS_SUBJECT
    return Q(subject_type__in=_subject_types(runs), subject_id=text) & HAS_SUBJECT


def _is_named(label: str, name: str) -> bool:
    """Tell whether the model of this label is called so."""
    with suppress(LookupError, ValueError):
        return str(apps.get_model(label)._meta.verbose_name).lower() == name.lower()
    return False


def _subject_types(runs: QuerySet[Any]) -> list[str]:
    """Return the models of the objects that runs are about, gone ones too: a look into the index for each."""
    types: list[str] = []
    about_any = WorkflowRun.objects.using(runs.db).filter(HAS_SUBJECT).order_by("subject_type")
    while len(types) < _MOST_TYPES:
        further = about_any.filter(subject_type__gt=types[-1]) if types else about_any
        found = further.values_list("subject_type", flat=True).first()
        if found is None:
            break
        types.append(found)
    return types
