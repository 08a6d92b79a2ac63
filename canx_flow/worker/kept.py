"""The journals of long runs that this worker has suspended last: their next claim loads only what may have changed.

Filled by the port when a run is left, emptied by the turn when it is claimed again. Part of one life of a worker.

A journal is that of the database, but for its unfinished records, if the claim's epoch is the next one. For between a
suspension and the next claim

- owners write records (`store.writes`, `store.atomic`) only while they own the run, and each claim raises the epoch;
- timers (`store.timers`) change open records only, which are unfinished;
- a retry (`store.runs`) changes a failed record, but only of a run that has failed, and whoever ends a suspended run
  raises its epoch; a run that its own owner has failed is not kept;
- a recovery raises the epoch; parking, pausing, resuming, waking and messages write no records;
- pruning deletes all of a run, whose id never comes back.

A database that was away may have come back without its last commits: then nothing is kept (`clear`). Nor is anything
once runs are claimed by another session than before: it may be another server's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ..core.claimed import ClaimedRun
from ..core.journal import Journal

#: Records of which a journal is worth keeping: fewer are loaded in the time that it takes to ask what has changed.
LEAST_RECORDS = 256
#: That all journals may take together; those left alone longest go first.
MOST_BYTES = 16_000_000
_BYTES_PER_RECORD = 500  # without its result and errors


@dataclass(frozen=True, slots=True)
class _Kept:
    journal: Journal
    epoch: int
    generation: int
    size: int


class KeptJournals:
    """As many as are small enough together, by run. Used by the worker's main thread, its slots and its committer."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._kept: OrderedDict[UUID, _Kept] = OrderedDict()
        self._size = 0
        #: The driver's connection by which runs were claimed last.
        self._session: object = None

    def keep(self, run: ClaimedRun, journal: Journal) -> None:
        """Keep the journal of a run whose suspension is stored, and with it all that the journal has."""
        records = len(journal.records)
        size = records * _BYTES_PER_RECORD + journal.size
        if records < LEAST_RECORDS or size > MOST_BYTES:
            return
        with self._mutex:
            self._pop(run.id)
            self._kept[run.id] = _Kept(journal, run.epoch, run.generation, size)
            self._size += size
            while self._size > MOST_BYTES:
                self._pop(next(iter(self._kept)))

    def give(self, runs: Sequence[ClaimedRun], session: object) -> None:
        """Give these runs, which were just claimed by the driver's connection `session`, the journals still theirs."""
        if session is not self._session:
            self._session = session
            self.clear()
        if not self._kept:
            return
        with self._mutex:
            for run in runs:
                kept = self._pop(run.id)
                if kept is not None and (kept.epoch + 1, kept.generation) == (run.epoch, run.generation):
                    run.journal = kept.journal

    def clear(self) -> None:
        """Forget all."""
        with self._mutex:
            self._kept.clear()
            self._size = 0

    def _pop(self, run_id: UUID) -> _Kept | None:
        kept = self._kept.pop(run_id, None)
        if kept is not None:
            self._size -= kept.size
        return kept
