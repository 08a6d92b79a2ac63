"""Pauses that double with each failure, up to a limit.

Used wherever a worker, its parent process or the committer tries something again. How a step is retried is said by its
own policy, `canx_flow.retry`.
"""

from __future__ import annotations

_MOST_DOUBLINGS = 60  # So that a count of failures that grows for days overflows no float.


def doubled(first: float, most: float, times: int) -> float:
    """Return `first`, doubled so many times; `most` at most."""
    return min(first * 2.0 ** min(times, _MOST_DOUBLINGS), most)


class Backoff:
    """The pause before the next try: `first` seconds, doubled by each failure, `most` seconds at most."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        #: How many tries have failed since the last success.
        self.failures = 0

    @property
    def pause(self) -> float:
        """Seconds to wait after one more failure."""
        return doubled(self._first, self._most, self.failures)

    @property
    def is_longest(self) -> bool:
        """Whether pauses grow no more."""
        return self.pause >= self._most

    def failed(self) -> float:
        """Count a failure; return how many seconds to wait before the next try."""
        pause = self.pause
        self.failures += 1
        return pause

    def reset(self) -> None:
        """Begin with the first pause again: a try has succeeded."""
        self.failures = 0
