"""Noting what was done to runs: control calls, and what the engine does to them beyond their ordinary way.

Called by `transitions` for every arrow that the table of arrows wants noted, by `settling` for those of a whole batch,
and by the verbs that take none. In the transaction of the change that it tells of, once that has found its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import Count

from ..core import channel
from ..core.arrows import Arrow
from ..models import RunHistory, Worker
from ..models.conditions import of_runs

PEOPLE, ENGINE = "people", "engine"
#: Rows that a run keeps. One whose workers die for months, or that begins anew each hour, forgets its oldest.
MOST = 500
#: So many more it may have until they are deleted, so that not each one costs a DELETE.
_SLACK = 50
MOST_REASON = 2_000
_AT_ONCE = 1000

#: What a control call stores with the run: see `core.options.checked_note`.
Note = Mapping[str, Any]


def of_arrow(
    arrow: Arrow, run_ids: Sequence[UUID], note: Note, given: Mapping[str, Any], *, now: datetime, detail: str = ""
) -> list[RunHistory]:
    """Return what is to be stored where these runs take this arrow: by a control call, whose note that is, or not."""
    by_engine = {"actor": ENGINE, "verb": arrow.verb, "reason": given.get("reason") or ""}
    told = _by_people(note) if "control" in note else by_engine
    beside = {"at": now, "state": arrow.after, "detail": detail}
    return [_row(run_id, {**told, **beside}) for run_id in run_ids]


def store(alias: str, rows: Sequence[RunHistory], worker: UUID | None) -> None:
    """Store what was noted of any number of runs at once; `worker`: who had them, for what the engine did."""
    if not rows:
        return
    name = _named(alias, worker)
    for row in rows:
        row.by = name if row.actor == ENGINE else row.by
    _store(alias, rows)
    _bound(alias, [row.run_id for row in rows])


def called(alias: str, run_ids: Sequence[UUID], note: Note, *, verb: str = "", detail: str = "") -> None:
    """Note a control call that takes no arrow of these runs."""
    told = _by_people(note)
    _insert(alias, run_ids, {**told, "at": note["control_at"], "verb": verb or told["verb"], "detail": detail})


def copied(alias: str, old: UUID, new: UUID, note: Note) -> None:
    """Note with both that a run was made from another one: by a fork or a rerun."""
    told = {**_by_people(note), "at": note["control_at"]}
    started = {**told, "verb": "start", "detail": str(old)}
    _store(alias, [_row(old, {**told, "detail": str(new)}), _row(new, started)])
    _bound(alias, [old])


def _by_people(note: Note) -> dict[str, str]:
    return {
        "actor": PEOPLE, "by": note["control_by"], "channel": channel.current(), "verb": note["control"],
        "reason": note["control_reason"],
    }  # fmt: skip


def _named(alias: str, worker: UUID | None) -> str:
    try:
        return _name_of(alias, worker) if worker is not None else ""
    except Worker.DoesNotExist:
        return ""


@lru_cache(maxsize=64)
def _name_of(alias: str, worker: UUID) -> str:
    """Return a worker's name, which it keeps: asked once, not with each of its runs that fails."""
    return str(Worker.objects.using(alias).only("name", "host", "pid").get(id=worker))[:255]


def _insert(alias: str, run_ids: Sequence[UUID], told: dict[str, Any]) -> None:
    _store(alias, [_row(run_id, told) for run_id in run_ids])
    _bound(alias, run_ids)


def _row(run_id: UUID, told: dict[str, Any]) -> RunHistory:
    return RunHistory(run_id=run_id, **{**told, "reason": told["reason"][:MOST_REASON]})


def _store(alias: str, rows: Sequence[RunHistory]) -> None:
    RunHistory.objects.using(alias).bulk_create(rows, batch_size=_AT_ONCE)


def _bound(alias: str, run_ids: Sequence[UUID]) -> None:
    """Delete the oldest rows of those of these runs that have too many."""
    rows = RunHistory.objects.using(alias)
    for first in range(0, len(run_ids), _AT_ONCE):
        some = run_ids[first : first + _AT_ONCE]
        counted = rows.filter(of_runs(some)).order_by().values_list("run_id").annotate(rows=Count("id"))
        for run_id, _number in counted.filter(rows__gt=MOST + _SLACK):
            _forget_oldest(alias, run_id)


def _forget_oldest(alias: str, run_id: UUID) -> None:
    rows = RunHistory.objects.using(alias).filter(run_id=run_id).order_by("-id")
    last = rows.values_list("id", flat=True)[MOST : MOST + 1].first()
    if last is not None:
        RunHistory.objects.using(alias).filter(run_id=run_id, id__lte=last).delete()
