"""The branches of one `gather` or `race`: begun side by side, entered anew when their waits have ended.

Made by `branches` for each call; what may run when is the activation's `beside`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.utils import InterfaceError, OperationalError

from ..core.callables import is_awaitable
from ..core.changes import Record
from .activation import Leave
from .beside import Line, Member
from .branch import Branch
from .team import Driver, Team

#: Which context a branch is given.
ContextOf = Callable[[Branch, Any], Any]


class BranchLine(Line):
    """One branch: its function, and what has become of that."""

    team: Group

    def __init__(self, group: Group, name: str, key: str, function: Callable[[Any], Any]) -> None:
        self.team = group
        self.name = name
        self.key = key
        self._function = function
        self.branch: Branch | None = None
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._waits = True
        #: Whether it is known to have ended in an earlier activation.
        self.has_ended = False

    @property
    def prefix(self) -> str:
        """With what its keys begin."""
        return f"{self.key}/"

    def outcome(self) -> Any:
        """Return what the function has returned, or raise what it has raised."""
        if self.error is not None:
            raise self.error
        return self.value

    # -- its places -----------------------------------------------------------------------------------

    def take(self) -> BranchLine | None:
        """Return itself, once, unless it need not begin any more."""
        if not self._waits or self.team.is_over:
            return None
        self._waits = False
        self.team.start()
        return self

    def steps(self) -> Sequence[str]:
        """Return the steps that block it: its own, or those of branches below it."""
        return [] if self.branch is None else [wait.step for wait in self.branch.waits()]

    def wake(self) -> BranchLine:
        """Have it entered anew."""
        self.forget()
        self._waits = True
        self.team.ready += 1
        return self

    def forget(self) -> None:
        """Take its branch out of the run's, if it has one."""
        children = self.team.driver.branch.children
        if self.branch is not None and self.branch in children:
            children.remove(self.branch)
        self.branch = None

    # -- its function ---------------------------------------------------------------------------------

    async def serve(self) -> Member | None:
        """Enter it with a place; return what takes that over."""
        group = self.team
        try:
            await self.enter()
        except BaseException as error:
            group.broken = error
            raise
        finally:
            group.came_back(self)
        return self.places.follow()

    async def enter(self) -> None:
        """Call the function from its beginning, in this thread or task; what is stored is replayed."""
        parent = self.team.driver
        self.branch = parent.branch.below(self.prefix)
        if self.has_ended:
            self.branch.scope.has_ended()
        driver = parent.below(self.branch)
        driver.line = self
        try:
            await self._call(driver)
        finally:
            driver.let_go()

    async def _call(self, driver: Driver) -> None:
        branch = driver.branch
        context = self.team.context(branch, driver)
        value, raised = None, None
        try:
            value = self._function(context)
            if is_awaitable(value):
                value = await driver.awaited(value)
        except BaseException as error:
            if driver.closes(error):
                raise
            raised = error
        finally:
            context._end()
        raised = await driver.end_body(raised)
        try:
            if branch.leaving is None and isinstance(raised, (OperationalError, InterfaceError)):
                branch.activation.leave("an outage", driver.outage(raised))
            if branch.is_blocked:
                self.team.driver.adopt(driver)
            else:
                await driver.flush()
        except Leave:
            return
        if branch.leaving is None:
            self.ended, self.value, self.error = True, value, raised


class Group(Team):
    """Branches that were begun together."""

    def __init__(self, driver: Driver, context: ContextOf, functions: dict[str, Callable[[Any], Any]]) -> None:
        super().__init__(driver)
        self.context = context
        scope = driver.branch.scope
        self.lines = [BranchLine(self, name, scope.key(name), function) for name, function in functions.items()]
        self._decides: Callable[[BranchLine], bool] = lambda _line: False
        self.decided: BranchLine | None = None

    @property
    def is_decided(self) -> bool:
        """Whether one has ended that decides."""
        return self.decided is not None

    def of(self, key: str) -> BranchLine | None:
        """Return the branch with this key."""
        return next((line for line in self.lines if line.key == key), None)

    async def in_turn(self, lines: Sequence[BranchLine], decision: Record) -> None:
        """Replay branches that have ended, one after another: nothing need run beside the body for that."""
        self._join(decision)
        for line in lines:
            line.has_ended = True
            await self.driver.in_turn(line)
            if not line.ended:
                self.leave()
            line.forget()

    def _join(self, decision: Record | None = None) -> None:
        """Tell the branch above what of its history is theirs."""
        branch = self.driver.branch
        branch.scope.joined((branch.journal.end_of(line.prefix) for line in self.lines), decision)

    async def rebuild(self, decided: Sequence[BranchLine], decision: Record | None = None) -> None:
        """Replay all branches for what is to be undone, also those that have lost; leave unless these have ended."""
        self._join(decision)
        self.driver.branch.scope.replaying = True
        for line in self.lines:
            await self.driver.in_turn(line)
            line.forget()
            if (leaving := self.driver.branch.leaving) is not None:
                raise leaving
        if not decided or not all(line.ended for line in decided):
            self.leave()

    async def side_by_side(self, decides: Callable[[BranchLine], bool], *, at_once: bool) -> None:
        """Run the branches until one of them decides, or all have ended. Leave if nothing but waits is left."""
        await self.driver.flush()  # Nothing begins before what came earlier is stored.
        self._join()
        self.places, self.signal = self.driver.side_by_side().places, self.driver.signal()
        self._decides = decides
        end_of = self.driver.branch.journal.end_of
        # What has ended first is met first; and of two that wait for one event the one that has waited longer.
        lines = sorted(self.lines, key=lambda line: end_of(line.prefix) or float("inf"))
        await self.run(lines, len(lines), at_once=at_once)
        if self.decided is None and not all(line.ended for line in lines):
            self.leave()

    def came_back(self, line: BranchLine) -> None:
        """Note that a branch has ended, or is blocked, or was left; the first that decides makes all others lose."""
        branch = line.branch
        if line.ended or branch is None or branch.lost:
            line.forget()
        elif branch.is_blocked:
            for wait in branch.waits():
                self.beside.blocked[wait.step] = (wait, line)
        if line.ended and not self.is_over and self._decides(line):
            self.decided = line
            for other in self.driver.branch.children:
                other.lose()
        self.stop()

    def close_losers(self) -> None:
        """Have the waits closed of all that have lost, with the next change."""
        for line in self.lines:
            if line is not self.decided:
                self.driver.branch.close_open(line.prefix)
