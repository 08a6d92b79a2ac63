"""What one call of `gather`, `race` or `map` has begun, and how the branch that has called it waits for that.

The base of `group` (branches) and `items` (steps of a map).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Task
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any, NoReturn, Protocol

from ..core.changes import Outcome, Settle
from . import operations
from .activation import Activation, Leave
from .beside import Beside, Line, Member, Places, Signal, Source
from .branch import Branch
from .port import Port


class Driver(operations.Driver, Protocol):
    """What those that were begun, and what has begun them, ask of their drivers."""

    activation: Activation
    port: Port
    #: The place beside others of a branch that has one.
    line: Member | None

    async def sync(self) -> Outcome | None:
        """Wait until everything handed in is stored."""

    async def look(self, find: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the store about the run; leave if the database is away."""

    def refuse_start(self) -> NoReturn:
        """Leave: the run may not go on to anything new."""

    def side_by_side(self) -> Beside:
        """Return where this activation's branches run side by side, from now on."""

    def signal(self) -> Signal:
        """Return what this branch waits for while others run."""

    def below(self, branch: Branch) -> Driver:
        """Return the driver of a branch below this one."""

    def launch(self, member: Member) -> None:
        """Enter it in a thread or a task of its own; what takes over its place then, too."""

    async def in_turn(self, member: Line) -> None:
        """Enter a branch, and wait until it has ended or was left."""

    def adopt(self, driver: Any) -> None:
        """Take over what a branch below this one has left to be stored, and what it has not heard of."""

    async def cut_off(self, team: Team) -> None:
        """End what runs though what has begun it does not wait for it any more."""

    async def awaited(self, value: Any) -> Any:
        """Await what a branch has returned."""

    async def end_body(self, raised: BaseException | None) -> BaseException | None:
        """Take back what the body has left behind; return what it has raised, or should have."""

    def let_go(self) -> None:
        """Leave the body, however that came about."""

    def closes(self, error: BaseException) -> bool:
        """Return whether this error ends the thread or the task of the body, and is none of the body's."""

    def outage(self, error: Exception) -> Settle:
        """Return how the run is left after an error of the database."""


class Team(ABC):
    """Begun side by side, below the branch of this driver."""

    #: While they run: with which places, and who waits for them.
    places: Places
    signal: Signal

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        #: What the body has set in them, each of these sees.
        self.variables: Variables = copy_context()
        #: How many wait for a place, and how many have one.
        self.ready = 0
        self.running = 0
        #: In an event loop.
        self.tasks: set[Task[Any]] = set()
        #: What has come apart around one of them, if anything has.
        self.broken: BaseException | None = None

    @property
    @abstractmethod
    def is_decided(self) -> bool:
        """Whether what they were begun for is decided."""

    @property
    def beside(self) -> Beside:
        """What they share with all branches of their activation, once they run."""
        beside = self.driver.activation.beside
        assert beside is not None
        return beside

    @property
    def is_over(self) -> bool:
        """Whether none of them begins any more."""
        return self.is_decided or self.driver.branch.leaving is not None or self.broken is not None

    def start(self) -> None:
        """Count one that has got its place."""
        self.ready -= 1
        self.running += 1
        self.beside.running += 1

    def came_apart(self, error: BaseException) -> None:
        """Note what has come apart around one of them. What ends the whole activation, no branch goes on after."""
        self.broken = self.broken or error
        if self.driver.closes(error):
            activation = self.driver.activation
            activation.leaving = activation.leaving or Leave("it was interrupted", None)

    def stop(self) -> None:
        """Count one that was left, and let what waits for it look."""
        self.running -= 1
        self.beside.running -= 1
        if self.is_over:
            self.beside.rouse()  # Those below it, those above it, and the end of the run may wait for this.
        self.signal.set()

    def lose(self, branches: Iterable[Branch]) -> None:
        """Leave these branches: it is decided without them."""
        for branch in branches:
            self.beside.forget(branch.waits())
            branch.lose()

    async def run(self, sources: Sequence[Source], ready: int, *, at_once: bool = False) -> None:
        """Run them until it is decided, or nothing but waits is left.

        `at_once`: do not wait for those that are under way when it is decided.
        """
        driver, beside, signal = self.driver, self.beside, self.signal
        self.ready = ready
        beside.signals.append(signal)
        try:
            self.places.begin(sources)
            if driver.line is not None:
                beside.places.rest()
            await self._wait(at_once=at_once)
            if driver.line is not None:
                await beside.places.go_on(signal)
        except BaseException:
            await self._cut_off()
            raise
        finally:
            beside.signals.remove(signal)
        if isinstance(self.broken, Exception):  # Around them, not in their code: that is no failure of the run.
            driver.activation.leave("a branch came apart", driver.outage(self.broken))
        if self.broken is not None:
            raise self.broken
        if driver.branch.leaving is not None:
            self.leave()

    async def _wait(self, *, at_once: bool) -> None:
        while self.running or (self.ready and not self.is_over):
            if self.is_decided and at_once:
                return
            try:
                await self.driver.flush()  # What blocked branches have left.
            except Leave:
                self.beside.rouse()
            await self.signal.wait()
            self.beside.hear()

    async def _cut_off(self) -> None:
        """End what is under way, after the body was cut off from outside: nothing of it is a failure."""
        self.lose(self.driver.branch.children)
        self.beside.rouse()
        await self.driver.cut_off(self)
        self.beside.places.taken += self.driver.line is not None

    def leave(self) -> NoReturn:
        """Leave the branch that has begun these: it is blocked by what they wait for, or was left like them."""
        branch = self.driver.branch
        if branch.leaving is None:
            branch.left = Leave("blocked", None)
        assert branch.leaving is not None
        raise branch.leaving
