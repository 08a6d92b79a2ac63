"""The connection that `pruneflows` and `flowhealth` work on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from django.db import connections

from ..store.db import engine


def own_connection(alias: str) -> AbstractContextManager[object]:
    """Use the engine's own connection; inside the caller's transaction the caller's, which alone sees what it wrote."""
    return nullcontext() if connections[alias].in_atomic_block else engine.use_engine_connection(alias)
