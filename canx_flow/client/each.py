"""A control call about runs, and what became of each of them by this very call: for those who tell people so.

The runs are locked first, so of two calls at the same moment one finds what the other has done. Called by the bulk
verbs of the queryset and by the admin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from ..core.current import refuse_in_body
from ..core.options import checked_flag, checked_note
from ..store import rivals, telling
from ..store import runs as store
from ..store.afterwards import after_commit
from . import named
from .controls import Note, tell_of_cancel

#: What became of runs: of each, by its id, one of `cancelled`, `stopping`, `retried`, `paused`, `resumed`, `woken`, and
#: `unchanged` where the call found nothing to do.
Became = dict[UUID, str]

UNCHANGED = "unchanged"


def cancel_each(ids: Collection[UUID], reason: str = "", *, undo: bool = True, by: Any = None) -> Became:
    """Cancel these runs, and with them their children."""
    refuse_in_body("cancel")
    checked_flag(undo, "undo")

    def act(alias: str, note: Note) -> Became:
        runs = store.lock(alias, ids, why=not undo)
        ended, stopping = store.cancel(alias, runs, note, undo=undo)
        tell_of_cancel(alias, ended, stopping)
        became = dict.fromkeys((run.id for run in stopping), "stopping")
        became |= dict.fromkeys((run.id for run in ended), "cancelled")
        return {run.id: became.get(run.id, UNCHANGED) for run in runs}

    return _repeated(act, checked_note("cancel", reason, by))


def retry_each(ids: Collection[UUID], reason: str = "", *, by: Any = None) -> Became:
    """Retry those of these runs that have failed or are parked."""
    refuse_in_body("retry")

    def act(alias: str, note: Note) -> Became:
        runs = store.lock(alias, ids, why=True)
        retried = {run.id for run in store.retry(alias, runs, note)}
        after_commit(alias, telling.tell, alias)
        return {run.id: "retried" if run.id in retried else UNCHANGED for run in runs}

    return _repeated(act, checked_note("retry", reason, by))


def pause_each(ids: Collection[UUID], reason: str = "", *, by: Any = None) -> Became:
    """Pause those of these runs that are neither paused nor ending."""
    refuse_in_body("pause")

    def act(alias: str, note: Note) -> Became:
        runs = store.lock(alias, ids)
        paused = {run.id for run in store.pause(alias, runs, note)}
        return {run.id: "paused" if run.id in paused else UNCHANGED for run in runs}

    return _repeated(act, checked_note("pause", reason, by))


def resume_each(ids: Collection[UUID], reason: str = "", *, by: Any = None) -> Became:
    """Let those of these runs go on that are paused."""
    refuse_in_body("resume")

    def act(alias: str, note: Note) -> Became:
        runs = store.lock(alias, ids)
        resumed = {run.id for run in store.resume(alias, runs, note)}
        if resumed:
            after_commit(alias, telling.tell, alias)
        return {run.id: "resumed" if run.id in resumed else UNCHANGED for run in runs}

    return _repeated(act, checked_note("resume", reason, by))


def wake_each(ids: Collection[UUID], reason: str = "", *, by: Any = None) -> Became:
    """Have the nearest timer of each of these runs count as due."""
    refuse_in_body("wake")

    def act(alias: str, note: Note) -> Became:
        runs = store.lock(alias, ids)
        woken = {run.id for run in runs if store.wake(alias, run, note)}
        if woken:
            after_commit(alias, telling.tell, alias, "timer")
        return {run.id: "woken" if run.id in woken else UNCHANGED for run in runs}

    return _repeated(act, checked_note("wake", reason, by))


def _repeated(act: Callable[[str, Note], Became], note: Note) -> Became:
    alias = named.alias()
    return rivals.repeated(alias, lambda: act(alias, note))
