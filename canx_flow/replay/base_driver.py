"""What drivers do each in their own way: in an event loop, or in the thread of a `def` workflow.

`driver` has the protocol that is written once above it; `sync_driver` and `async_driver` do this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from ..core.changes import Outcome, Settle
from .beside import Line, Member, Signal
from .call import Call
from .port import Ticket
from .team import Team


class BaseDriver(ABC):
    """What differs between the two kinds of workflow."""

    #: Whether the body is awaited.
    awaits = False

    @abstractmethod
    async def outcome(self, ticket: Ticket) -> Outcome:
        """Wait for what became of a change."""

    @abstractmethod
    async def apart(self, call: Callable[[], Any]) -> Any:
        """Call what may block: other runs must not wait for it."""

    async def ask(self, call: Callable[[], Any]) -> Any:
        """Call what asks the database, and takes a moment."""
        return await self.apart(call)

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait for so long."""

    @abstractmethod
    async def depart(self, settle: Settle) -> None:
        """Note that this end was handed in, before it is waited for."""

    @abstractmethod
    async def call(self, call: Call) -> Any:
        """Call a step's function: return what it returns, or `Raised`.

        What is raised here is no failure of the step: the activation is left, or the call was cut off from outside.
        """

    @abstractmethod
    async def isolated(self, replay: Coroutine[Any, Any, Settle | None]) -> Settle | None:
        """Run a replay so that what its body sets in variables of its context ends with it."""

    @abstractmethod
    async def end_body(self, raised: BaseException | None) -> BaseException | None:
        """Take back what the body has left behind; return what it has raised, or should have."""

    @abstractmethod
    def let_go(self) -> None:
        """Leave the body, however that came about."""

    @abstractmethod
    def closes(self, error: BaseException) -> bool:
        """Return whether this error ends the thread or the task of the body, and is none of the body's."""

    @abstractmethod
    def signal(self) -> Signal:
        """Return what this branch waits for while others run."""

    @abstractmethod
    def launch(self, member: Member) -> None:
        """Enter a branch in a thread or a task of its own; what takes over its place then, too."""

    @abstractmethod
    async def in_turn(self, member: Line) -> None:
        """Enter a branch, and wait until it has ended or was left."""

    @abstractmethod
    async def awaited(self, value: Any) -> Any:
        """Await what a branch has returned."""

    @abstractmethod
    async def cut_off(self, team: Team) -> None:
        """End branches that run though what has begun them does not wait for them any more."""
