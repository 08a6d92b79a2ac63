"""Whose turn it is among the partitions of a queue, and among priority and age. Kept by each worker for itself."""

from __future__ import annotations

import random
from collections import defaultdict


class Turns:
    """Where the last claim from each queue has ended."""

    def __init__(self) -> None:
        #: The last partition that a run was taken of. Workers begin anywhere.
        self._partition: dict[str, str] = {}
        self._owed: dict[str, float] = defaultdict(float)
        self._chance = random.SystemRandom()

    def partition(self, queue: str) -> str:
        """Return the partition behind which the next claim from this queue begins."""
        return self._partition.get(queue) or f"{self._chance.randrange(16):x}"

    def end_with(self, queue: str, partition: str) -> None:
        """Take note of the partition that a claim has ended with."""
        self._partition[queue] = partition

    def oldest(self, queue: str, share: float, most: int) -> int:
        """Return how many of so many are to be chosen by age alone; what is owed in parts adds up."""
        owed = self._owed[queue] + share * most
        now = min(most, int(owed + 1e-9))
        self._owed[queue] = min(owed - now, 1.0)
        return now
