"""What a driver needs of the world: a store, a lease and threads. Time is `core.clock`'s, which tests move.

Implemented by `worker.port` (committer, heartbeat, step threads) and by `testing.port` (the caller's own thread and
connection). An executor that runs elsewhere is one more implementation; the drivers know nothing else of the world.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from ..core.changes import Change, Outcome, Start
from ..core.claimed import ClaimedRun
from ..core.definition import Planned
from ..core.delegated import Standing
from ..core.journal import Journal
from ..core.limits import Request
from .beside import Beside
from .branch import Branch
from .call import Call, Ended, Found, Gate


class Ticket(Protocol):
    """A change handed in: wait for its outcome, from a thread or from the event loop."""

    def wait(self) -> Outcome:
        """Block the thread until the outcome is known."""

    async def wait_async(self) -> Outcome:
        """Wait for the outcome in the event loop."""

    def then(self, call: Callable[[Outcome], object]) -> None:
        """Have this called with the outcome by the thread that learns it; wait for nothing."""


class Delegations(Protocol):
    """What a delegated step asks of its attempts, and tells of them."""

    def standing(self, run: ClaimedRun, token: UUID) -> Standing | None:
        """Return where an attempt of a delegated step stands; `None` if it is not there any more."""

    def note_again(self, run: ClaimedRun, token: UUID) -> bool:
        """Note that this attempt is dispatched once more; return whether nothing has begun it."""

    def spare(self, run: ClaimedRun, token: UUID) -> bool:
        """Count this moment as a beat of an attempt that runs; return whether it does."""

    def note_trouble(self, run: ClaimedRun, token: UUID, step: str, executor: str, error: Exception) -> None:
        """Note what the dispatch of this attempt has met."""

    def give_up(self, run: ClaimedRun, token: UUID, reason: str, executor: str, task: str) -> bool:
        """Wait for this attempt no more, and have its executor told; return False if it has ended by now."""


class Store(Protocol):
    """The tables of one run, as its activation reads and writes them."""

    @property
    def delegations(self) -> Delegations:
        """The attempts of delegated steps."""

    def hand_in(self, change: Change) -> Ticket:
        """Have a change stored; the changes of one run are stored in the order handed in."""

    def find_event(self, run: ClaimedRun, journal: Journal, event: str, key: str | None) -> Found | None:
        """Return the oldest event of this name and key for the run, but for those that its journal says it has read."""

    def awaited(self, run: ClaimedRun, steps: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Return for which event, and of which key, these open waits of the run wait, by step."""

    def ended_at(self, run: ClaimedRun, steps: Sequence[str]) -> dict[str, datetime]:
        """Return when these records of the run have ended, by step; of waits that are due, when they were due."""

    def find_ends(self, run: ClaimedRun, events: Sequence[str]) -> dict[str, Ended]:
        """Return which of these ends of its children the run has not read yet."""

    def new_child(
        self, run: ClaimedRun, planned: Planned[Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Start:
        """Make the row of a child of the run: TypeError or ValueError for what no start takes. Store nothing."""

    def call_atomic(self, call: Call, invoke: Callable[[], Any], gate: Gate) -> tuple[Outcome, Change, Any]:
        """Call `invoke()` and write the change it leads to, in one transaction of this thread's connection."""

    def expect(self, request: Request) -> None:
        """Have a request for a limit answered by whoever asks its bucket next."""

    def admit(self, run: ClaimedRun, request: Request) -> None:
        """Settle a request for a limit that was expected."""

    def has_undo(self, run: ClaimedRun) -> bool:
        """Return whether the run has, by now, something to be undone."""

    def works(self) -> bool:
        """Return whether the owner's own connection works, as far as is known."""


class WholeStore(Store, Protocol):
    """What the executor asks as well, before an activation: no branch does."""

    def reload(self, run: ClaimedRun) -> None:
        """Load the run's journal and state again, for another replay by the same owner.

        Of a journal that the run still has, all is stored: only what others may have changed is loaded.
        """

    def expire(self, run: ClaimedRun) -> None:
        """Have the run stopped, which has not started in its time; its state says so then."""


class Lease(Protocol):
    """The owner's right to its runs."""

    def may_start(self) -> bool:
        """Return False once the owner is stopping: it starts no further step."""

    def is_fresh(self) -> bool:
        """Return True only if there is no doubt that the lease holds."""

    def wait_fresh(self) -> bool:
        """Wait while it is uncertain whether the lease holds; return False once it is lost."""


class SyncCode(Protocol):
    """What the async code of one run has done in threads: by `sync_to_async`, Django's async ORM, `to_thread`."""

    @property
    def used(self) -> bool:
        """Whether it has done anything yet: most async runs never do, and need not be asked more."""

    def take_back(self, step: str) -> Awaitable[None] | None:
        """Have its thread take its connections back; `None` if it has done nothing since.

        InsideTransaction if a transaction was left open there. `step`: whose, `""` for the body's.
        """

    def leave_behind(self) -> None:
        """Leave behind what a step that is over still has under way in threads."""


class NoSyncCode:
    """The sync code of an owner that has one thread: nothing is done in others, so nothing is to be taken back."""

    used = False

    def take_back(self, step: str) -> None:
        """Take nothing back."""

    def leave_behind(self) -> None:
        """Leave nothing behind."""


class Threads(Protocol):
    """Where step functions are called that are not called in the thread or task of their body."""

    def limited(self, call: Callable[[Gate], Any], timeout: float) -> Any:
        """Call in another thread; after `timeout` seconds leave that thread behind and raise StepTimeout."""

    def await_limited(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout: float, step: str) -> Any:
        """Run a coroutine in another thread. It keeps to its timeout by itself; if not, do as `limited`."""

    async def beside(self, call: Callable[[], Any]) -> Any:
        """Call in another thread, for the event loop."""

    async def ask_beside(self, call: Callable[[], Any]) -> Any:
        """Call there what asks the database, for the event loop: only so many at a time have connections for that."""

    async def beside_limited(self, call: Callable[[Gate], Any], timeout: float | None) -> Any:  # noqa: ASYNC109
        """Call it as `limited` does, for the event loop; the thread is left behind, too, when this is cancelled."""

    def begin(self, call: Callable[[], None]) -> object:
        """Call in another thread, and wait for nothing: branches of a `def` workflow run there."""

    def own_code(self) -> AbstractContextManager[object]:
        """Give this task sync code of its own: a branch's is not its siblings'."""

    def sync_code(self) -> SyncCode:
        """Return the sync code of this task's run."""

    def guard(self) -> AbstractContextManager[object] | None:
        """Return what is held around a step's function, by a thread; `None` where nothing is."""

    def interrupted(self, error: BaseException) -> bool:
        """Return whether the error stops this process, as Ctrl-C in a test does: then it is no failure of a run."""


class Port(Protocol):
    """The world of one owner, for all its activations."""

    @property
    def places(self) -> int:
        """How many branches of one run are called at a time; 1: one after another, on the thread of the body."""

    @property
    def store(self) -> Store:
        """Where changes go."""

    @property
    def lease(self) -> Lease:
        """What allows the owner to go on."""

    @property
    def threads(self) -> Threads:
        """Where functions are called."""

    def entered(self, root: Branch) -> None:
        """Note that an activation begins, with this root branch: for what the owner tells of itself."""

    def watch(self, run_id: UUID, beside: Beside) -> None:
        """Tell these branches, until their activation is left, when what blocks one of them has ended."""


class WholePort(Port, Protocol):
    """The same, for the executor."""

    @property
    def store(self) -> WholeStore:
        """Where changes go, and runs come from."""
