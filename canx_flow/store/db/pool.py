"""Django's connection pool, as far as a worker's threads need it. Asked by the checks and by a worker at its start.

The engine's own connections are outside any pool: three or four for each worker, see `engine.open_connection`.
"""

from __future__ import annotations

from django.db import connections


def shortage(alias: str, concurrency: int) -> str:
    """Return why the pool of `alias` is too small for a worker of this concurrency, for people; empty if it is not."""
    size = _size(alias)
    wanted = needed(concurrency)
    if size is None or size >= wanted:
        return ""
    return (
        f"The connection pool of database {alias!r} has {size} connection{'' if size == 1 else 's'}, and a worker with "
        f"--concurrency {concurrency} needs {wanted}: a slot keeps its connection for as long as it has work. The "
        f"steps that find none wait, and fail after the pool's timeout."
    )


def needed(concurrency: int) -> int:
    """Return one for each slot: for its thread, or for the thread in which its async run has the ORM work."""
    return concurrency


def enough(concurrency: int) -> int:
    """Return what is always enough: a step with a timeout, or a plain one of async code, has a thread of its own."""
    return 2 * concurrency


def _size(alias: str) -> int | None:
    """Return the most connections that the pool of `alias` gives out; `None` if there is no pool, or no such number."""
    options = connections.settings[alias]["OPTIONS"].get("pool")
    if not options:
        return None
    given = options if isinstance(options, dict) else {}
    # psycopg_pool's own defaults: a pool of fixed size, four connections.
    size = given.get("max_size") or given.get("min_size", 4)
    return size if isinstance(size, int) else None
