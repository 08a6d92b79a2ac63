"""Somebody's transaction that has runs locked, for as long as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connections, transaction

from canx_flow.models import WorkflowRun


@contextmanager
def open_transaction(write: Callable[[], object]) -> Iterator[None]:
    """Another transaction has written this, and commits after the block."""
    written, commit = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic():
            write()
            written.set()
            commit.wait(30)
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert written.wait(10)
        yield
    finally:
        commit.set()
        thread.join()


@contextmanager
def locked_runs(run_ids: Collection[UUID]) -> Iterator[None]:
    """These runs are locked by another thread's transaction until the block ends."""
    with open_transaction(lambda: list(WorkflowRun.objects.select_for_update().filter(id__in=run_ids))):
        yield
