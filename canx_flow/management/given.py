"""What people type at the commands, as values: run ids, JSON or plain words, durations, moments.

Used by `flow` and `pruneflows`. Wrong input is a CommandError that names it; its exit status is 2.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.db.models import Model, Q
from django.utils import timezone

from .. import conf
from ..core import clock
from ..core.durations import ago, aware
from ..core.identity import ids_beginning
from ..core.naming import is_storable, shown
from ..models import RunQuerySet, WorkflowRun

ARGUMENTS = 2  # the exit status for wrong arguments
LEAST_PREFIX = 6
LEAST_ENDING = 4
_SHOWN = 5
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)?")
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def refuse(message: str) -> NoReturn:
    """Make the error for wrong arguments."""
    raise CommandError(message, returncode=ARGUMENTS)


def within(option: str, value: float, least: float, most: float) -> None:
    """Refuse a number outside its bounds, or none at all, as nan."""
    if not least <= value <= most:
        refuse(f"{option} must be from {least:g} to {most:,}, not {shown(value)}")


def check_texts(options: Mapping[str, Any]) -> None:
    """Refuse text that no database could store or look for: what was typed was not in the terminal's encoding."""
    for given in (value for name, value in options.items() if name != "pythonpath"):
        for text in given if isinstance(given, (list, tuple)) else (given,):
            if isinstance(text, str) and not is_storable(text):
                refuse(f"{shown(text)} is not text in this terminal's encoding, {sys.getfilesystemencoding()}")


def who() -> str:
    """Name the user at the terminal, for the run's control calls."""
    try:
        return f"terminal:{getpass.getuser()}"
    except (KeyError, OSError):  # A container's user without a name.
        return f"terminal:{os.getuid()}"


def run_id(text: str) -> UUID:
    """Find a run id: whole, or by its first characters, its last ones, or both: `01a20aa3…4f2c`.

    What begins an id is a range of the primary key. Only where no run begins so are the ends of all ids looked at.
    """
    beginning, cut, ending = text.strip().replace("...", "…").partition("…")
    first, last = _digits(beginning, text), _digits(ending, text)
    if len(first) == 32 and not cut:
        return UUID(first)
    if max(len(first) - LEAST_PREFIX, len(last if cut else first) - LEAST_ENDING) < 0:
        refuse(
            f"{shown(text)} is too short: give at least the first {LEAST_PREFIX} characters of the run's id, or its "
            f"last {LEAST_ENDING}."
        )
    runs = WorkflowRun.objects.using(conf.get().database)
    if cut:
        return _only(text, "fit", _beginning(runs, first).filter(_ending(last)))
    found = _beginning(runs, first) if len(first) >= LEAST_PREFIX else runs.none()
    return _only(text, "begin", found) if found.exists() else _only(text, "end", runs.filter(_ending(first)))


def _digits(part: str, text: str) -> str:
    digits = part.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{0,32}", digits):
        refuse(f"{shown(text)} is no run id: those are UUIDs; see `flow list`.")
    return digits


def _beginning(runs: RunQuerySet, digits: str) -> RunQuerySet:
    if not digits:
        return runs
    first, last = ids_beginning(digits)
    return runs.filter(id__gte=first, id__lte=last)


def _ending(digits: str) -> Q:
    if not digits:
        return Q()
    whole = str(UUID(digits.rjust(32, "0")))  # With its hyphens, which some databases store.
    hyphens = sum(len(digits) > place for place in (12, 16, 20, 24))
    return Q(id__endswith=whole[-len(digits) - hyphens :])


def _only(text: str, how: str, runs: RunQuerySet) -> UUID:
    found = list(runs.order_by("id").only("id", "workflow", "state", "created_at")[: _SHOWN + 1])
    if not found:
        raise CommandError(f"There is no run whose id begins or ends with {text}; see `flow list`.")
    if len(found) == 1:
        return found[0].id
    now = clock.now()
    lines = [f"  {run.id}  {run.state}  {run.workflow}, {ago(run.created_at, now)}" for run in found[:_SHOWN]]
    more = "\n  and more" if len(found) > _SHOWN else ""
    with_ = "" if how == "fit" else " with"
    raise CommandError(f"Several runs {how}{with_} {text}: give more of the id.\n" + "\n".join(lines) + more)


def value(text: str) -> Any:
    """Read JSON, or a plain word: `7` is a number, `ada` and `2026-11-23` are text, and so is `'"7"'`.

    What begins like an object, a list or a quoted text and is none is refused, not taken for text.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        refuse(f"{shown(text)} is nested too deep")
    except ValueError as exc:
        if text.lstrip()[:1] in ("{", "[", '"') or text.strip().lstrip("-").isdecimal():
            refuse(f"{shown(text)} is no JSON: {exc}")
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_object(text: str | None, option: str) -> dict[str, Any]:
    """Return the JSON object given to an option."""
    found = value(text) if text is not None else {}
    if not isinstance(found, dict):
        refuse(f'{option} must be a JSON object, as in \'{{"plan": "pro"}}\', not {text}')
    return found


def json_list(text: str | None, option: str) -> list[Any]:
    """Return the JSON list given to an option."""
    found = value(text) if text is not None else []
    if not isinstance(found, list):
        refuse(f"{option} must be a JSON list, as in '[7, \"ada\"]', not {text}")
    return found


def duration(text: str | None, option: str) -> timedelta | None:
    """Read seconds, or a number with one of the units ms, s, m, h, d and w: `90`, `1.5h`, `30d`."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        refuse(f"{option} must be a duration such as 90, 15m, 2h or 30d, not {shown(text)}")
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2] or ""])
    except OverflowError:
        refuse(f"{option} is too long: {shown(text)}")


def moment(text: str | None, option: str, more: str = "") -> datetime | None:
    """Return the moment of an ISO date and time; without an offset it is in the project's time zone."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        return aware(found if found.tzinfo is not None else timezone.make_aware(found), option)
    except (ValueError, OverflowError):
        refuse(f"{option} must be a moment such as 2026-11-24T08:00 or 2026-11-24T08:00+01:00{more}, not {shown(text)}")


def clock_change(text: str | None, option: str) -> str:
    """Say which moment was taken where local clocks show that time twice, or never; else empty."""
    if text is None or _DURATION.fullmatch(text.strip()) is not None:
        return ""
    found, zone = datetime.fromisoformat(text.strip()), timezone.get_current_timezone()
    first, second = (found.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if found.tzinfo is not None or first.utcoffset() == second.utcoffset():
        return ""
    taken, shown_as = first.astimezone(UTC).astimezone(zone), found.isoformat(timespec="minutes")
    if taken.replace(tzinfo=None, fold=0) != found:
        return f"{option}: {shown_as} never comes in {zone}; {taken.isoformat()} is taken."
    return (
        f"{option}: {shown_as} comes twice in {zone}; the first is taken, {taken.isoformat()}. "
        f"The second is {second.isoformat()}."
    )


def since(text: str | None, option: str) -> datetime | None:
    """Return a moment, given as such or as how long ago it was."""
    if text is None or _DURATION.fullmatch(text.strip()) is None:
        return moment(text, option, ", or 1h, 2d")
    ago = duration(text, option)
    assert ago is not None
    try:
        return clock.now() - ago
    except OverflowError:
        return datetime.min.replace(year=1001, tzinfo=UTC)


def subject_reference(text: str, option: str) -> tuple[str, str]:
    """Return what runs store of the object that `app.Model:key` names; the object itself may be gone."""
    model, key = _model(text, option)
    meta = model._meta
    try:
        if meta.pk is not None and len(getattr(meta, "pk_fields", ())) < 2:  # A composite one is JSON.
            key = str(meta.pk.to_python(key))
    except ValidationError:
        refuse(f"{option}: {shown(key)} is no key of {meta.label}")
    assert meta.concrete_model is not None
    return meta.concrete_model._meta.label, key


def _model(text: str, option: str) -> tuple[Any, str]:
    label, colon, key = text.partition(":")
    if not colon or label.count(".") != 1:
        refuse(f"{option} must be app.Model:key, as in shop.Order:7, not {shown(text)}")
    try:
        return apps.get_model(label), key
    except LookupError as exc:
        refuse(f"{option}: {exc}")


def subject(text: str | None, option: str) -> Model | None:
    """Return the object that `app.Model:key` names."""
    if text is None:
        return None
    model, key = _model(text, option)
    label = model._meta.label
    try:
        found: Model = model._default_manager.get(pk=key)
    except (model.DoesNotExist, ValueError, ValidationError):
        refuse(f"{option}: there is no {label} with the key {shown(key)}")
    return found
