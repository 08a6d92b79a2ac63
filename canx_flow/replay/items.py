"""What `ctx.map` does: one step for each item, side by side, and one record for all of them.

Called as `operations` are. An item that is stored costs a look at the journal; nothing is made for one before it has a
place. The record tells how many items there are, for a replay has to come to as many.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..core import clock, codec
from ..core.changes import Record, Wait
from ..core.delegations import token_of, wait_of
from ..core.naming import MAX_KEY, outcome_of, undo_key
from ..exceptions import HistoryMismatch, MapFailed, StepFailed
from ..states import Kind, RecordState
from . import children, delegation, operations
from .activation import Leave
from .beside import Member, Places
from .branch import Branch
from .map_options import MapOptions
from .team import Driver, Team

_RUNS = (None, RecordState.DUE, RecordState.STARTED, RecordState.CLOSED)


async def map_items(
    driver: Driver,
    key: str,
    record: Record | None,
    given: Sequence[Any],
    options: MapOptions,
) -> list[Any]:
    """Call a step for each item; return their results in order. MapFailed once more have failed than are tolerated."""
    branch = driver.branch
    if record is None:
        if len(f"{key}[{len(given)}]") > MAX_KEY:
            raise ValueError(f"the keys of the items of {key[:40]!r}… would have more than {MAX_KEY} characters")
        if options.compensate is not None:
            undo_key(f"{key}[{len(given)}]")
        number = codec.dumps_plain(len(given))
        record = branch.record(key, Kind.MAP, RecordState.STARTED, result=number)
    elif branch.decode(record) != len(given):
        branch.activation.park(
            HistoryMismatch(
                f"run {branch.run.id} has a map of {record.result} items recorded under {key!r}, but its code now "
                f"gives {len(given)}. Have the items returned by a step: then they stay the same."
            )
        )
    if branch.rebuilding:
        _rebuild(branch, key, record, len(given), options)
    elif options.compensate is not None:
        branch.note_undo()
    if record.state == RecordState.STARTED:
        items = Items(driver, key, given, options)
        await items.side_by_side()
        state = RecordState.FAILED if items.is_decided else RecordState.COMPLETED
        branch.close_open(f"{key}[")
        branch.update(record, state, finished_at=clock.now())
        driver.submit()
    return _results(branch, key, record, len(given))


def _rebuild(branch: Branch, key: str, record: Record, number: int, options: MapOptions) -> None:
    """Note what is to be undone of the items that are over; leave the branch if the map was under way."""
    for index in range(number):
        item = branch.journal.records.get(f"{key}[{index}]")
        if item is not None and item.state in (RecordState.COMPLETED, RecordState.FAILED):
            branch.find(item.name, options.kind)
            if options.compensate is not None:
                branch.note_undo(item, options.compensate, options.retry, options.step.timeout)
    if record.state == RecordState.STARTED:
        branch.update(record, record.state)  # Nothing new is stored: that leaves it.


def _results(branch: Branch, key: str, record: Record, number: int) -> list[Any]:
    """Return what each item has come to; raise it with MapFailed if that was more than was tolerated."""
    records, decode = branch.journal.records, branch.decode
    results: list[Any] = []
    for index in range(number):
        item = records.get(f"{key}[{index}]")
        if item is None or item.state not in (RecordState.COMPLETED, RecordState.FAILED):
            results.append(None)
        elif item.state == RecordState.COMPLETED:
            results.append(None if item.result is None else decode(item))
        else:
            results.append(operations.failure(item))
    if record.state == RecordState.FAILED:
        raise MapFailed(key, results)
    return results


class Item(Member):
    """One item that has a place."""

    shares_task = True
    team: Items

    def __init__(self, items: Items, index: int) -> None:
        self.team = items
        self.index = index
        #: That of the item before it in this thread or task, whose driver it takes over.
        self.driver: Driver | None = None

    def steps(self) -> Sequence[str]:
        """Return its own."""
        return [self.team.key_of(self.index)]

    def wake(self) -> Item:
        """Have it called again."""
        self.team.driver.branch.items.pop(self.team.key_of(self.index), None)
        self.team.ready += 1
        self.waits = True
        return self

    async def serve(self) -> Member | None:
        """Call its step; return what takes over its place."""
        items = self.team
        driver, self.driver = self.driver, None  # Called again, it has another one: by then this may be in use.
        try:
            if driver is None:
                driver = items.new_driver()
            await items.call(self, driver)
        except BaseException as error:  # noqa: BLE001 - what has begun it raises it
            self.broke(error)
            items.stop()
            return None
        following = self.places.follow()
        if isinstance(following, Item) and following.team is items and driver.branch.left is None:
            following.driver = driver
        else:
            items.let_go(driver)
        items.stop()
        return following


class Items(Team):
    """The items of one map: which are to be called, and how many have failed."""

    def __init__(self, driver: Driver, key: str, given: Sequence[Any], options: MapOptions) -> None:
        super().__init__(driver)
        self._key = key
        self._given = given
        self._options = options
        #: How many may fail from now on; less than none, and no other is called.
        self._allowed = options.allowed(len(given))

    @property
    def is_decided(self) -> bool:
        """Whether more have failed than are tolerated."""
        return self._allowed < 0

    def key_of(self, index: int) -> str:
        """Return the key of an item's step."""
        return f"{self._key}[{index}]"

    async def side_by_side(self) -> None:
        """Call what is to be called. Leave if nothing but waits for retries is left."""
        driver = self.driver
        await driver.flush()
        shared, most = driver.side_by_side().places, self._options.concurrency
        self.places = shared if most is None or shared.most == 1 else Places(most)
        self.signal = driver.signal()
        while (todo := await self._next_ones()) and not self.is_decided:
            await self.run([_Todo(self, todo)], len(todo))
            if self._options.away is None or driver.branch.items:
                break
        if driver.branch.items and not self.is_decided:
            self.leave()

    async def _next_ones(self) -> list[int]:
        """Return which are to be called now: all, but of items that are called elsewhere so many as may be out."""
        if self._options.away is None:
            return self._todo(())
        records = self.driver.branch.journal.records
        out = {index: token_of(records.get(self.key_of(index))) for index in range(len(self._given))}
        events = {outcome_of(token): index for index, token in out.items() if token is not None}
        ended = {events[event] for event in await children.find_all(self.driver, list(events))} if events else set()
        todo = self._todo(ended)
        free = (self._options.concurrency or len(self._given)) - (len(events) - len(ended))
        fresh = [index for index in todo if out[index] is None]
        left_out = set(fresh[max(free, 0) :])
        return [index for index in todo if index not in left_out]

    def _todo(self, ended: Collection[int]) -> list[int]:
        """Return which are to be called; those that wait are blocked, those that have failed counted.

        `ended`: items whose task has ended elsewhere, as is known.
        """
        branch = self.driver.branch
        records = branch.journal.records
        todo, last = [], 0
        self._allowed = self._options.allowed(len(self._given))
        for index in range(len(self._given)):
            record = records.get(self.key_of(index))
            state = None
            if record is not None:
                state, last = record.state, max(record.seq, last)
            if state in _RUNS or index in ended:
                todo.append(index)
            elif state == RecordState.FAILED:
                self._allowed -= 1
            elif state == RecordState.OPEN:
                branch.activation.unmet.discard(self.key_of(index))
                assert record is not None
                self._block(Item(self, index), wait_of(record))
        branch.scope.joined([last])
        return todo

    def _block(self, item: Item, wait: Wait) -> None:
        self.driver.branch.items[wait.step] = wait
        self.beside.blocked[wait.step] = (wait, item)

    def new_driver(self) -> Driver:
        """Return the driver of items that are called one after another in this thread or task."""
        branch = self.driver.branch.below()
        branch.scope.replaying = False
        return self.driver.below(branch)

    def let_go(self, driver: Driver) -> None:
        """Take the driver's branch out of the run's: nothing follows in its thread or task."""
        self.driver.branch.children.remove(driver.branch)
        try:
            driver.let_go()
        except BaseException as error:  # noqa: BLE001 - else what takes over the place would not be called
            self.came_apart(error)

    async def call(self, item: Item, driver: Driver) -> None:
        """Call the step of an item, and have what it has come to stored."""
        branch, key = driver.branch, self.key_of(item.index)
        try:
            try:
                record = branch.find(key, self._options.kind)
                arguments = (self._given[item.index],)
                if (away := self._options.away) is not None:
                    task = delegation.Task(away.executor, away.task, away.executor.describe(away.task), arguments, {})
                    await delegation.delegate(driver, key, record, task, away.options)
                    await driver.flush()
                    return
                call = operations.step if self._options.compensate is None else operations.undoable
                await call(driver, key, record, self._options.function, arguments, self._options.step)
            except StepFailed:
                await driver.flush()
                self._fail()
            else:
                await driver.flush()
        except Leave:
            await self._left(item, driver)

    async def _left(self, item: Item, driver: Driver) -> None:
        branch = driver.branch
        if branch.is_blocked and branch.blocked_on is not None:
            self.driver.adopt(driver)
            self._block(item, branch.blocked_on)
            branch.blocked_on = None
            return
        try:
            await driver.flush()
        except Leave:
            return

    def _fail(self) -> None:
        self._allowed -= 1
        if self.is_decided:
            branch = self.driver.branch
            self.beside.forget(branch.items.values())
            branch.items.clear()
            self.lose(branch.children)


class _Todo:
    """Items that have not been called yet."""

    def __init__(self, items: Items, todo: Sequence[int]) -> None:
        self._items = items
        self._left = iter(todo)

    def take(self) -> Item | None:
        """Return the next one, with its place."""
        index = None if self._items.is_over else next(self._left, None)
        if index is None:
            return None
        self._items.start()
        return Item(self._items, index)
