"""The state machine: each arrow between two states of a run, with all that it sets in the run's row.

`store.transitions` takes these arrows, and the hand-written statements of `store.db` are made of them. Tests compare
both, the picture and the pages with this table. A column that an arrow does not name keeps its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any

from ..states import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PARKED,
    PAUSED,
    PENDING,
    RETRYING,
    RUNNING,
    SLEEPING,
    STOPPING,
    SUSPENDED,
    WAITING,
)


class Set(Enum):
    """What a column is set to, where that is no constant."""

    GIVEN = auto()  # by the caller
    ERROR_TYPE = auto()  # of the error that is given
    ERROR_PRINT = auto()  # a hash of that and of its message's pattern
    NOW = auto()
    NOW_IF_NULL = auto()
    ONE_MORE = auto()


class Timers(Enum):
    """What becomes of the run's timers."""

    KEPT = auto()
    HELD = auto()  # they keep their moments and do not act
    RELEASED = auto()  # they act again
    DELETED = auto()
    DELETED_BUT_EVENT = auto()  # the event that cancels the run still does
    KEPT_FOR_RETRY = auto()  # held, but for the deadline, the pause after an outage and the like, which are deleted


@dataclass(frozen=True, slots=True)
class ByState:
    """A value for each state that the run may come from; the first one is the default for other states."""

    values: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Arrow:
    """One arrow: the verb that takes it, from which states it leads where, what it sets, what the timers do.

    `to`: for each state before, the state after; a tuple if the caller chooses one of several. `signals`: one of them
    is sent after the commit. `noted`: it is told in the run's history. Those of every run's way are not: the columns of
    the run and its steps tell them, and they are to cost no row more.
    """

    verb: str
    to: Mapping[str, str | tuple[str, ...]]
    columns: Mapping[str, Any] = field(default_factory=dict)
    timers: Timers = Timers.KEPT
    signals: tuple[str, ...] = ()
    noted: bool = True

    @cached_property
    def sets(self) -> dict[str, Any]:
        """Every column that this arrow sets. `ready` before `state`: MySQL's SET sees earlier assignments."""
        return {"ready": _one(self._ready()), "state": _one(self.to), **self.columns, **self._kind_of_error()}

    @cached_property
    def given(self) -> frozenset[str]:
        """The columns whose values the caller gives."""
        return frozenset(column for column, value in self.sets.items() if value is Set.GIVEN)

    @property
    def after(self) -> str:
        """The state it leads to; empty if that depends on the state before, or on the caller."""
        after = self.sets["state"]
        return after if isinstance(after, str) else ""

    @property
    def ends(self) -> bool:
        """Whether the run has ended with it."""
        return self.sets.get("finished_at") is Set.NOW

    @property
    def stops(self) -> bool:
        """Whether the run's end is decided with it, and not made."""
        return STOPPING in self.to.values() and STOPPING not in self.to

    def _kind_of_error(self) -> dict[str, Any]:
        """Return what is set beside an error, so that runs are found by it."""
        if "error" not in self.columns:
            return {}
        if self.columns["error"] is None:
            return {"error_type": None, "error_print": None}
        return {"error_type": Set.ERROR_TYPE, "error_print": Set.ERROR_PRINT}

    def _ready(self) -> dict[str, bool]:
        """Tell whether the run may be claimed then: if it is pending, or stopping without an owner."""
        let_go = self.columns.get("owner_id", Set.GIVEN) is None
        return {before: after == PENDING or (after == STOPPING and let_go) for before, after in self.to.items()}


def _one(by_state: Mapping[str, Any]) -> Any:
    """Return the value if it is the same for every state before, `GIVEN` if the caller chooses, else a `ByState`."""
    values = set(by_state.values())
    if len(values) > 1:
        return ByState(by_state)
    (value,) = values
    return Set.GIVEN if isinstance(value, tuple) else value


def _from(*states: str, to: str | tuple[str, ...]) -> dict[str, str | tuple[str, ...]]:
    return dict.fromkeys(states, to)


# -- a worker has it -------------------------------------------------------------------------------
# A run keeps the reason it was parked for until it has gone on, so that parking it again for the same reason, by the
# next worker's code, is not announced twice.

CLAIM = Arrow(
    "claim",
    {PENDING: RUNNING, STOPPING: STOPPING},
    {"owner_id": Set.GIVEN, "epoch": Set.ONE_MORE, "started_at": Set.NOW_IF_NULL},
    signals=("run_started", "run_resumed"),
    noted=False,
)
SUSPEND = Arrow(
    "suspend",
    {RUNNING: (SLEEPING, WAITING, RETRYING)},
    {"owner_id": None, "reason": Set.GIVEN},
    signals=("run_suspended",),
    noted=False,
)
WAKE = Arrow("wake", _from(*SUSPENDED, to=PENDING), {"reason": ""}, noted=False)
HAND_BACK = Arrow("hand back", {RUNNING: PENDING}, {"owner_id": None})
#: The body has asked to be called anew, with an empty history. No owner may write any more, and the next claim raises
#: the epoch: so nothing that the old generation has left behind is taken for the new one's.
CONTINUE = Arrow(
    "continue as new",
    {RUNNING: PENDING},
    {
        "owner_id": None, "generation": Set.ONE_MORE, "continued_at": Set.NOW, "arguments": Set.GIVEN,
        "first_attributes": Set.GIVEN, "fingerprint": Set.GIVEN, "code_changed": False, "seed": None, "progress": None,
        "deadline_at": None, "reason": "", "error": None, "recoveries": 0, "outages": 0,
        "has_undo": False,
    },
    Timers.DELETED_BUT_EVENT,
)  # fmt: skip
#: Another start of its singleton has moved it, before it was claimed.
PUT_OFF = Arrow("debounce", {PENDING: SLEEPING}, {"reason": ""}, noted=False)
#: An undo of a stopping run is to be tried again: not claimed before that.
SUSPEND_UNDO = Arrow("suspend", {STOPPING: STOPPING}, {"owner_id": None, "ready": False}, noted=False)
#: That is due now. The run has no owner: else its owner goes on by itself.
WAKE_UNDO = Arrow("wake", {STOPPING: STOPPING}, {"owner_id": None}, noted=False)
HAND_BACK_UNDO = Arrow("hand back", {STOPPING: STOPPING}, {"owner_id": None})
#: The owner of a paused run has stored what was in flight.
LET_GO = Arrow("hand back", {PAUSED: PAUSED}, {"owner_id": None})
#: Its owner has died.
RECOVER = Arrow(
    "recover",
    {RUNNING: PENDING, PAUSED: PAUSED, STOPPING: STOPPING},
    {"owner_id": None, "epoch": Set.ONE_MORE, "recoveries": Set.ONE_MORE},
)
#: Its owner has left on purpose, or does not know that it owns it: no crash, so `recoveries` stays.
TAKE_BACK = Arrow("recover", RECOVER.to, {"owner_id": None, "epoch": Set.ONE_MORE})


# -- its end ---------------------------------------------------------------------------------------
# An end that the owner has not made raises the epoch, which fences the owner off. A failed run may be retried, so its
# timers stay.

COMPLETE = Arrow(
    "complete",
    {RUNNING: COMPLETED},
    {"owner_id": None, "result": Set.GIVEN, "reason": "", "error": None, "finished_at": Set.NOW},
    Timers.DELETED,
    ("run_completed",),
    noted=False,
)
FAIL = Arrow(
    "fail",
    {RUNNING: FAILED},
    {"owner_id": None, "result": None, "reason": Set.GIVEN, "error": Set.GIVEN, "finished_at": Set.NOW},
    Timers.KEPT_FOR_RETRY,
    ("run_failed",),
)
CANCEL = Arrow(
    "cancel",
    _from(PENDING, *SUSPENDED, PAUSED, PARKED, to=CANCELLED),
    {"ending": CANCELLED, "epoch": Set.ONE_MORE, "reason": Set.GIVEN, "finished_at": Set.NOW},
    Timers.DELETED,
    ("run_cancelled",),
)
TIME_OUT = Arrow(
    "time out",
    _from(PENDING, *SUSPENDED, to=FAILED),
    {"ending": FAILED, "epoch": Set.ONE_MORE, "reason": Set.GIVEN, "error": Set.GIVEN, "finished_at": Set.NOW},
    Timers.KEPT_FOR_RETRY,
    ("run_failed",),
)
#: While a worker has the run, its end is decided and not yet carried out.
CANCEL_OWNED = Arrow("cancel", _from(RUNNING, PAUSED, to=STOPPING), {"ending": CANCELLED, "reason": Set.GIVEN})
TIME_OUT_OWNED = Arrow("time out", {RUNNING: STOPPING}, {"ending": FAILED, "reason": Set.GIVEN, "error": Set.GIVEN})
#: It has something to undo: its end is decided, and a worker that knows its code undoes that first.
CANCEL_TO_UNDO = Arrow(
    "cancel",
    _from(*CANCEL.to, to=STOPPING),
    {"owner_id": None, "ending": CANCELLED, "reason": Set.GIVEN, "error": None},
    Timers.DELETED,
)
TIME_OUT_TO_UNDO = Arrow(
    "time out",
    _from(*TIME_OUT.to, to=STOPPING),
    {"owner_id": None, "ending": FAILED, "reason": Set.GIVEN, "error": Set.GIVEN},
    Timers.KEPT_FOR_RETRY,
)
#: By itself, so its owner goes on with the undo; or lets go of it, where its activation has come apart.
FAIL_TO_UNDO = Arrow(
    "fail",
    {RUNNING: STOPPING},
    {"ending": FAILED, "reason": Set.GIVEN, "error": Set.GIVEN},
    Timers.KEPT_FOR_RETRY,
)
FAIL_LET_GO = Arrow("fail", FAIL_TO_UNDO.to, {**FAIL_TO_UNDO.columns, "owner_id": None}, Timers.KEPT_FOR_RETRY)
#: Then the owner ends it, with the reason and error of the decision.
STOP_CANCELLED = Arrow(
    "stop", {STOPPING: CANCELLED}, {"owner_id": None, "finished_at": Set.NOW}, Timers.DELETED, ("run_cancelled",)
)
STOP_FAILED = Arrow(
    "stop", {STOPPING: FAILED}, {"owner_id": None, "finished_at": Set.NOW}, Timers.KEPT_FOR_RETRY, ("run_failed",)
)
#: Nothing more is to be undone, says `cancel(undo=False)` of a run that no worker has.
STOP_WITHOUT_UNDO = Arrow(
    "stop",
    _from(STOPPING, PARKED, to=CANCELLED),
    {"epoch": Set.ONE_MORE, "reason": Set.GIVEN, "error": Set.GIVEN, "finished_at": Set.NOW},
    Timers.DELETED,
    ("run_cancelled",),
)
FAIL_WITHOUT_UNDO = Arrow("stop", {PARKED: FAILED}, STOP_WITHOUT_UNDO.columns, Timers.KEPT_FOR_RETRY, ("run_failed",))


# -- held up, and going on -------------------------------------------------------------------------

PARK = Arrow(
    "park",
    _from(PENDING, RUNNING, STOPPING, to=PARKED),
    {"owner_id": None, "reason": Set.GIVEN, "error": Set.GIVEN},
    Timers.HELD,
    ("run_parked",),
)
#: It has killed its workers too often.
PARK_RECOVERED = Arrow(
    "park",
    _from(RUNNING, STOPPING, to=PARKED),
    {"owner_id": None, "reason": Set.GIVEN, "error": Set.GIVEN, "epoch": Set.ONE_MORE, "recoveries": Set.ONE_MORE},
    Timers.HELD,
    ("run_parked",),
)
#: A worker whose code may fit takes it up again.
UNPARK = Arrow("unpark", {PARKED: PENDING}, {"error": None}, Timers.RELEASED)
#: Its end was decided before it was parked: the error says how, and only its undo goes on.
UNPARK_UNDO = Arrow("unpark", {PARKED: STOPPING}, {"owner_id": None})
PAUSE = Arrow("pause", _from(PENDING, RUNNING, *SUSPENDED, PARKED, to=PAUSED), timers=Timers.HELD)
RESUME = Arrow("resume", {PAUSED: PENDING}, {"reason": "", "error": None}, Timers.RELEASED)
RESUME_DELAYED = Arrow("resume", {PAUSED: SLEEPING}, {"reason": "", "error": None}, Timers.RELEASED)
RESUME_OWNED = Arrow("resume", {PAUSED: RUNNING}, timers=Timers.RELEASED)
RETRY_PARKED = Arrow(
    "retry", {PARKED: PENDING}, {"reason": "", "error": None, "recoveries": 0, "outages": 0}, Timers.RELEASED
)
RETRY_PARKED_UNDO = Arrow("retry", {PARKED: STOPPING}, {"owner_id": None, "recoveries": 0, "outages": 0})
RETRY = Arrow(
    "retry",
    {FAILED: PENDING},
    {"reason": "", "error": None, "ending": "", "finished_at": None, "recoveries": 0, "outages": 0},
    Timers.RELEASED,
)
#: Of a run that ended at its deadline: the next activation sets a new one. After any other failure it keeps its own.
RETRY_LATE = Arrow("retry", RETRY.to, {**RETRY.columns, "deadline_at": None}, Timers.RELEASED)
#: Some of its undo steps have failed for good: those are tried again.
RETRY_UNDO = Arrow(
    "retry",
    {FAILED: STOPPING},
    {"owner_id": None, "reason": Set.GIVEN, "ending": FAILED, "finished_at": None, "recoveries": 0, "outages": 0},
)

ALL: dict[str, Arrow] = {name: arrow for name, arrow in globals().items() if isinstance(arrow, Arrow)}
