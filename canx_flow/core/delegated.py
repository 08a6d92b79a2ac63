"""An attempt of a step that an executor calls elsewhere: as a change stores it, as it stands then, and what
its task has failed of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ..exceptions import CanxFlowError, StoredError, class_path, summary


@dataclass(frozen=True, slots=True)
class Delegated:
    """The step, and its task as the executor describes it. `heartbeat`: seconds of silence after which it is lost."""

    token: UUID
    step: str
    attempt: int
    executor: str
    task: str
    heartbeat: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an attempt stands, as its row says."""

    state: str
    created_at: datetime
    started_at: datetime | None
    beat_at: datetime | None
    worker: str
    reason: str
    #: How often it was dispatched once more.
    again: int


class TaskFailed(CanxFlowError):  # noqa: N818 - says what happened, as its neighbours in `exceptions`
    """The task of a delegated step has failed where it was called. `error` is its stored failure, a dict."""

    def __init__(self, error: StoredError) -> None:
        super().__init__(error)
        self.error = error

    def is_a(self, cls: type[BaseException]) -> bool:
        """Tell whether the task failed with `cls` or a subclass of it."""
        return class_path(cls) in self.error.get("mro", ())

    def __str__(self) -> str:
        return summary(self.error)


def is_a(error: BaseException, cls: type[BaseException]) -> bool:
    """Tell whether it is one of these, or stands for one that a task has met in another process."""
    return isinstance(error, cls) or (isinstance(error, TaskFailed) and error.is_a(cls))
