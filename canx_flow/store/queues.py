"""What is kept of queues: their limits, whether they are paused; and which workflows are paused.

Written by operators through `client`, and by each worker that starts, from the settings. A claim within limits has the
queue's row locked (`queue_claims`), so what is written here holds for every claim that begins after its commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.models import F

from .. import conf
from ..core import clock
from ..core.queue_limits import AS_SETTINGS, Limits, in_force
from ..models import PausedWorkflow, Queue
from . import rivals
from .db.engine import transaction


def declare(alias: str) -> None:
    """Write to the queues' rows what the settings say, if they say something else now. An operator's limits stay."""
    wanted = {name: json.dumps(options, sort_keys=True) for name, options in conf.get().queues.items()}
    rows = Queue.objects.using(alias)
    found = dict(rows.values_list("name", "declared"))
    if missing := wanted.keys() - found.keys():
        # In a transaction of its own: MySQL keeps a lock on the row of a rival that an INSERT meets, and workers start
        # together.
        with transaction(connections[alias]):
            rows.bulk_create([Queue(name=name) for name in sorted(missing)], ignore_conflicts=True)
    for name, text in wanted.items() | {(name, "{}") for name in found.keys() - wanted.keys()}:
        if found.get(name) != text:
            with _row(alias, name) as row:
                row.declared = text


def limit(alias: str, name: str, options: Mapping[str, Any]) -> Limits:
    """Set an operator's limits, each checked; `AS_SETTINGS` takes one back. Returns those in force from now on."""
    with _row(alias, name) as row:
        chosen = json.loads(row.chosen) | options
        row.chosen = json.dumps({key: value for key, value in chosen.items() if value != AS_SETTINGS}, sort_keys=True)
    return row.limits


def limits(alias: str, name: str) -> Limits:
    """Return the limits in force."""
    row = Queue.objects.using(alias).filter(name=name).first()
    return Limits() if row is None else row.limits


def pause(alias: str, name: str, note: Mapping[str, Any]) -> bool:
    """Have nothing more claimed from a queue; return whether it was not paused. One that was stays as it was paused."""
    with _row(alias, name) as row:
        is_new = not row.paused
        if is_new:
            row.paused, row.paused_at = True, clock.now()
            row.paused_reason, row.paused_by = note["control_reason"], note["control_by"]
    return is_new


def resume(alias: str, name: str) -> bool:
    """Have a paused queue's runs claimed again; return whether it was paused."""
    with _row(alias, name) as row:
        was_paused = row.paused
        row.paused, row.paused_reason, row.paused_by, row.paused_at = False, "", "", None
    return was_paused


def pause_workflow(alias: str, name: str, note: Mapping[str, Any]) -> bool:
    """Have no run of this workflow claimed; return whether it was not paused. One that was stays as it was paused."""
    row = PausedWorkflow(workflow=name, reason=note["control_reason"], by=note["control_by"], at=clock.now())
    return rivals.stored(alias, row)


def resume_workflow(alias: str, name: str) -> bool:
    """Have a paused workflow's runs claimed again; return whether it was paused."""
    return bool(PausedWorkflow.objects.using(alias).filter(workflow=name).delete()[0])


@contextmanager
def _row(alias: str, name: str) -> Iterator[Queue]:
    """Lock a queue's row, made if there is none; store what has become of it."""
    connection = connections[alias]
    rows = Queue.objects.using(alias)
    with transaction(connection):
        found = rows.filter(name=name)
        # A write first: SQLite takes its lock with that. Elsewhere it locks the row, as no INSERT that meets it does.
        if not found.update(paused=F("paused")):
            rows.bulk_create([Queue(name=name)], ignore_conflicts=True)
        row = (found.select_for_update() if connection.features.has_select_for_update else found).get()
        yield row
        row.apart = row.paused or in_force(row.declared, row.chosen).any
        row.save(using=alias, force_update=True)
