"""The branches of one `gather` or `race`: begun side by side, entered anew when their waits have ended.

Made by `branches` for each call; what may run when is the activation's `beside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.utils import InterfaceError, OperationalError

from ..core.callables import is_awaitable
from ..core.changes import Record
from ..states import Kind, RecordState
from . import arrivals
from .activation import Leave
from .beside import Line, Member
from .branch import Branch
from .team import Driver, Team

#: Which context a branch is given.
ContextOf = Callable[[Branch, Any], Any]
_LAST = datetime.max.replace(tzinfo=UTC)


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
        self.waits = True
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

    def steps(self) -> Sequence[str]:
        """Return the steps that block it: its own, or those of branches below it."""
        return [] if self.branch is None else [wait.step for wait in self.branch.waits()]

    def wake(self) -> BranchLine:
        """Have it entered anew."""
        self.forget()
        self.waits = True
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
        except BaseException as error:  # noqa: BLE001 - what has begun it raises it
            self.broke(error)
            group.came_back(self)
            return None
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
                return
            driver.submit()
            if branch.leaving is None:
                # Before that is stored: one that has nothing to store would overtake it. What decides is stored later.
                self.ended, self.value, self.error = True, value, raised
                self.team.has_ended(self)
            await driver.sync()
        except Leave:
            return


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
        self._close(line for line in self.lines if line not in lines)  # What a crash has left of those that have lost.
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
        last_of = self.driver.branch.journal.last_of
        lasts = [last for line in self.lines if (last := last_of(line.prefix)) is not None]
        ended = await arrivals.look(self.driver, lasts, races=at_once)
        lines = sorted(self.lines, key=lambda line: _order(last_of(line.prefix), ended))
        try:
            await self.run(lines, len(lines), at_once=at_once)
        finally:
            for step in ended:
                self.beside.arrived.pop(step, None)
        if self.decided is None and not all(line.ended for line in lines):
            self.leave()

    def has_ended(self, line: BranchLine) -> None:
        """Note that a branch has ended; the first that decides makes all others lose."""
        if not self.is_over and self._decides(line):
            self.decided = line
            self.lose(other for other in self.driver.branch.children if other is not line.branch)

    def came_back(self, line: BranchLine) -> None:
        """Note that a branch has ended and all of it is stored, or that it is blocked, or was left."""
        branch = line.branch
        if line.ended or branch is None or branch.lost:
            line.forget()
        elif branch.is_blocked:
            for wait in branch.waits():
                self.beside.blocked[wait.step] = (wait, line)
        self.stop()

    def close_losers(self) -> None:
        """Have the waits closed of all that have lost, with the next change."""
        self._close(line for line in self.lines if line is not self.decided)

    def _close(self, lost: Iterable[BranchLine]) -> None:
        branch = self.driver.branch
        for line in lost if branch.journal.unfinished else ():
            branch.close_open(line.prefix)


def _order(last: Record | None, ended: Mapping[str, datetime]) -> tuple[int, datetime, int]:
    """Return when a branch is entered whose last record this is.

    First those that wait, for they only look, the one that has waited longest first; then what goes on, in the order
    in which its waits have ended, whenever that was found; then those whose step is called again, or that have not
    begun.
    """
    if last is None:
        return 3, _LAST, 0
    if last.name in ended:
        return 1, ended[last.name], last.seq
    called = last.kind == Kind.STEP and last.state == RecordState.DUE
    return (0 if last.state == RecordState.OPEN else 2 if called else 1), _LAST, last.seq
