"""What a worker was asked for when it started, and what it is told while it works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What `runflowworker` was asked for. Times in seconds; no queues: all of them."""

    queues: tuple[str, ...] = ()
    concurrency: int = 16
    poll_seconds: float = 1.0
    burst: bool = False
    max_runs: int | None = None
    name: str = ""
    shutdown_timeout: float = 25.0
    heartbeat_file: Path | None = None


class Orders:
    """Whether the worker was told to stop, and whether to leave at once. Set by signal handlers and any thread."""

    def __init__(self) -> None:
        self.stopping = False
        self.forced = False
