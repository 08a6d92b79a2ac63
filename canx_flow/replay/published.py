"""What a body publishes of its run: attributes and progress, written beside the next change.

Owned by the activation; filled by contexts, read by branches.
"""

from __future__ import annotations

import time
from typing import Any

from ..core import codec
from ..core.options import Progress

_PROGRESS_EVERY = 1.0  # seconds between two writes of a run's progress


class Published:
    """The attributes and the progress of one run, and what of them is not written yet."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes: dict[str, Any] = dict(attributes)
        self.progress: Progress | None = None
        #: Whether the body has set anything: most never do.
        self.used = False
        self._stored = attributes
        #: When the progress is written next, by `time.monotonic()`; `None` if it is written.
        self._progress_due: float | None = None

    def set_attributes(self, values: dict[str, Any]) -> None:
        """Have these joined to the run's attributes with the next change."""
        self.used = True
        self.attributes.update(values)

    def set_progress(self, progress: Progress) -> None:
        """Have this written with the next change, at most once a second."""
        self.used, self.progress = True, progress
        if self._progress_due is None:
            self._progress_due = time.monotonic()

    def columns(self, *, replaying: bool, leaving: bool) -> dict[str, Any]:
        """Return the columns of the run that are due. `replaying`: attributes are set again, and are stored already."""
        columns: dict[str, Any] = {}
        if not replaying and self.attributes != self._stored:
            self._stored = columns["attributes"] = dict(self.attributes)
        if self.progress is not None and self._progress_due is not None:
            now = time.monotonic()
            if leaving or now >= self._progress_due:
                columns["progress"] = codec.dumps(self.progress, "progress")
                self._progress_due = None if leaving else now + _PROGRESS_EVERY
        return columns
