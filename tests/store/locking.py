"""Somebody's transaction that has runs locked, for as long as a test says."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connections, transaction

from canx_flow.models import WorkflowRun


@contextmanager
def locked_runs(run_ids: Collection[UUID]) -> Iterator[None]:
    """These runs are locked by another thread's transaction until the block ends."""
    locked, release = threading.Event(), threading.Event()

    def lock() -> None:
        with transaction.atomic():
            list(WorkflowRun.objects.select_for_update().filter(id__in=run_ids))
            locked.set()
            release.wait(30)
        connections.close_all()

    rival = threading.Thread(target=lock)
    rival.start()
    try:
        assert locked.wait(10)
        yield
    finally:
        release.set()
        rival.join()
