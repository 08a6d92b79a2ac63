"""What the shop's steps really did, outside every database: one line per beginning and end of a step's function.

A step enters itself with `with ledger.entry():`; the demo reads the file to see which step ran how often.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings

from canx_flow import current_step


@dataclass(frozen=True)
class Line:
    """One line of the ledger: at `at` (seconds since the epoch) the step `began` or `ended`."""

    at: float
    run: str
    step: str
    what: str


@contextmanager
def entry() -> Iterator[None]:
    """Enter the beginning and, if it comes, the end of the step this is called in."""
    _append("began")
    yield
    _append("ended")


def read() -> list[Line]:
    """Every whole line so far, oldest first."""
    path = Path(settings.SHOP_LEDGER)
    if not path.exists():
        return []
    return [Line(**json.loads(line)) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _append(what: str) -> None:
    step = current_step()
    if not settings.SHOP_LEDGER or step is None:
        return
    line = json.dumps(asdict(Line(time.time(), str(step.run_id), step.name, what))) + "\n"
    # One write to a file opened for appending: lines of several processes never mix, and SIGKILL takes none back.
    file = os.open(settings.SHOP_LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
