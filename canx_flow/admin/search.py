"""What the search box of the list of runs finds: ids and their beginnings, keys, workflows, subjects.

Each way is asked with what an index knows; only if none of them finds anything is the whole table read.
"""

from __future__ import annotations

import re
from typing import Any

from django.apps import apps
from django.db.models import Q, QuerySet

from ..core import registry
from ..core.identity import ids_beginning

_ID = re.compile(r"[0-9a-f-]{4,36}", re.IGNORECASE)
#: As the list writes an id: its beginning and its end.
_SHORT = re.compile(r"([0-9a-f]{8})…([0-9a-f]{4})", re.IGNORECASE)


def search(runs: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Find the runs that `text` may mean: an id, the beginning of one, a key, a workflow, a subject's key."""
    text = text.strip()
    if not text:
        return runs
    indexed = runs.filter(_by_name(text) | _by_id(text))
    if indexed.exists():
        return indexed
    # Runs of a workflow, or for a model, that this code no longer knows.
    return runs.filter(Q(key=text) | Q(workflow=text) | Q(subject_id=text))


def _by_id(text: str) -> Q:
    if short := _SHORT.fullmatch(text):
        return _between(short[1]) & Q(id__endswith=short[2].lower())
    digits = text.replace("-", "")
    return _between(digits) if _ID.fullmatch(text) and 4 <= len(digits) <= 32 else Q()


def _between(digits: str) -> Q:
    least, most = ids_beginning(digits)
    return Q(id__gte=least, id__lte=most)


def _by_name(text: str) -> Q:
    """Match the leading columns of indexes: keys are unique within a workflow, subjects are sorted by model."""
    known = sorted({name for name, _ in registry.identities()})
    workflows = {name for name in known if text.lower() in name.lower()}
    found = Q(workflow__in=[*workflows, text]) | Q(workflow__in=known, key=text)
    label, key = _subject(text)
    labels = [label] if label else [model._meta.label for model in apps.get_models()]
    return found | Q(subject_type__in=labels, subject_id=key)


def _subject(text: str) -> tuple[str, str]:
    """Match `shop.Order 17` and `shop.Order:17`, which name the model too."""
    label, _, key = text.replace(":", " ", 1).partition(" ")
    try:
        return (apps.get_model(label)._meta.label, key.strip()) if key and "." in label else ("", text)
    except (LookupError, ValueError):
        return "", text
