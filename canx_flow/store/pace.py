"""How much maintenance does at a time, and how long it rests in between, so that nobody feels it: used by `pruning`."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds that a transaction should take: its locks, its part of the disk and, on SQLite, its turn are that long.
AIM = 0.05
#: Rest, by the time that the batch before has taken: others find the disk and the processor free for as long.
REST = 0.5
#: No batch is more than so many times as large as the one before; below so many runs the statements' own time counts.
_STEP, _LEAST = 2.0, 100


@dataclass(slots=True)
class Pace:
    """The size of the next batch: it follows the time that batches take, up to `most`."""

    most: int
    size: int = _LEAST

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def after(self, seconds: float) -> float:
        """Take in how long a batch has taken; return the seconds to rest before the next one."""
        wanted = self.size * min(_STEP, max(1 / _STEP, AIM / max(seconds, 1e-6)))
        self.size = min(self.most, max(_LEAST, round(wanted)))
        return seconds * REST
