"""An executor that keeps its messages until the test delivers them: lost, twice, late, or by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from canx_flow.executors import DispatchOptions, Executor, attempt, perform


@dataclass
class Message:
    """What was dispatched."""

    token: UUID
    task: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: DispatchOptions

    def deliver(self, worker: str = "away") -> Any:
        """Call the task, as a worker of the executor's does."""
        try:
            return perform(self.token, lambda: self.task(*self.args, **self.kwargs), worker)
        except Exception:  # noqa: BLE001 - told to the run
            return None

    def begin(self, worker: str = "away") -> Any:
        """Begin to call it, and no more."""
        return attempt(self.token, worker)


class Mailbox(Executor):
    """Takes plain functions whose names begin with `far_`."""

    name = "mailbox"

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.called_off: list[tuple[UUID, str]] = []
        #: What a dispatch raises, if it does.
        self.error: Exception | None = None

    def accepts(self, task: Any) -> bool:
        return callable(task) and getattr(task, "__name__", "").startswith("far_")

    def describe(self, task: Any) -> str:
        return f"tests.{task.__name__}"

    def dispatch(
        self, token: UUID, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: DispatchOptions
    ) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(Message(token, task, args, kwargs, options))

    def call_off(self, token: UUID, task: str) -> None:
        self.called_off.append((token, task))

    def deliver(self) -> Any:
        """Deliver the message that came first."""
        return self.messages.pop(0).deliver()
