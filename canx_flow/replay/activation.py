"""The state of one activation: one replay of one run by one worker. What its branches share; theirs is in `branch`.

No Django, no I/O. Made by the executor.
"""

from __future__ import annotations

from typing import ClassVar, NoReturn

from ..conf import get as settings
from ..core import clock, codec
from ..core.changes import Chain, Settle
from ..core.claimed import ClaimedRun
from ..core.failures import describe
from ..core.journal import Journal
from ..core.limits import spend
from ..exceptions import StoredError
from ..retry import Retry
from ..states import PARKED, PAUSED, PENDING, STOPPING
from .beside import Beside
from .published import Published

#: Not an end: load the journal again and replay, because the database holds something newer than this activation.
RELOAD = Settle("")


class Leave(BaseException):
    """Raised through a workflow function to leave its activation; no `except Exception` swallows it.

    `settle` says how the run is left; `None`: not at all, because it belongs to another owner now, or has ended.
    """

    def __init__(self, why: str, settle: Settle | None) -> None:
        super().__init__(why)
        self.settle = settle


class Activation:
    """One replay of one run."""

    #: The states of its run, as told by the store, in which no step of it may be started.
    halted_by: ClassVar[tuple[str, ...]] = (PAUSED, STOPPING)

    def __init__(self, run: ClaimedRun, policy: Retry | None) -> None:
        self.run = run
        self.policy = policy or settings().retry
        self.journal = Journal() if run.journal is None else run.journal
        self.published = Published(run.attributes)
        if run.standing.recoveries:  # A worker has died with it since its last record.
            spend(self.journal.records[name] for name in self.journal.unfinished)
        #: The run's state as the store last reported it to its owner.
        self.told = run.state
        #: Whether that is from after the claim.
        self.asked = False
        #: Why every branch is to be left.
        self.leaving: Leave | None = None
        #: Whether the worker leaves now and cancels what is still running.
        self.abandoned = False
        #: The waits that are open, and that no branch has come to yet.
        self.unmet = self.journal.open()
        #: Whether rows of `timers` may exist for this run.
        standing = run.standing
        self.timers = standing.deadline_at is not None or standing.origin.policies is not None or bool(self.unmet)
        self.chain = Chain()
        #: Its branches, once there has been one beside the body.
        self.beside: Beside | None = None

    def start_over(self) -> None:
        """Forget a change that was not stored, and with it all that were handed in after it and build on it."""
        self.chain = Chain()

    def leave(self, why: str, settle: Settle | None) -> NoReturn:
        """Leave every branch. Should a body swallow the exception, each further context call raises it again."""
        self.leaving = Leave(why, settle)
        raise self.leaving

    def park(self, error: Exception) -> NoReturn:
        """Leave the run until a person acts. What the error says is the reason, so it quotes no stored value."""
        settle = self.parked(error)
        self.leave(settle.reason, settle)

    def parked(self, error: BaseException) -> Settle:
        """Return how the run is left until a person acts."""
        reason = f"{type(error).__name__}: {error}"
        return Settle(PARKED, reason=reason, error=codec.dumps_plain(self._described(error)), raised=error)

    def _described(self, error: BaseException) -> StoredError:
        return describe(error, clock.now())

    def hand_back(self, why: str) -> NoReturn:
        """Leave the run ready for any worker."""
        self.leave(why, Settle(PENDING))

    def lose(self, why: str) -> NoReturn:
        """Leave the run as it is: it is not this activation's any more."""
        self.leave(why, None)
