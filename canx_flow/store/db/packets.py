"""How much a change sends at once, and whether the server takes as much.

Called by the writer after a connection was lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.db import DataError
from django.db.backends.base.base import BaseDatabaseWrapper

from ...core.changes import Change
from .databases import session_of

_BESIDE = 130_000  # bytes of a statement beside its largest row: the driver joins others to it, up to 64 kB
_ESCAPED = re.compile("[\"'\\\\\n\r\x1a]")


def size(change: Change) -> int:
    """Return how many characters a change sends, about."""
    return sum(len(text) for row in _rows(change) for text in row)


def excess(connection: BaseDatabaseWrapper, change: Change) -> Exception | None:
    """Return the error that says so, if a row of this change is larger than a packet that this server takes."""
    limit = session_of(connection).largest_packet()
    if limit is None:
        return None
    largest = max((sum(map(_sent, row)) for row in _rows(change)), default=0)
    if largest + _BESIDE <= limit:
        return None
    return DataError(
        f"a row of {largest:,} bytes cannot be stored: the server's max_allowed_packet is {limit:,} bytes. "
        f"MAX_PAYLOAD_BYTES should be less than half of that."
    )


def _sent(text: str) -> int:
    return len(text.encode()) + len(_ESCAPED.findall(text))


def _rows(change: Change) -> Iterator[list[str]]:
    for record in (*change.inserts, *change.updates):
        yield [text for text in (record.name, record.result, record.errors) if text]
    for start in change.children.starts:
        yield [start.run.arguments]
    settle = change.settle
    texts = [] if settle is None else [text for text in (settle.result, settle.error, settle.reason) if text]
    yield texts + [str(value) for value in change.columns.values()]
