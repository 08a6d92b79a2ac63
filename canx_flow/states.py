"""The states of a run and of a step record: plain words, in one place, for queries and for people.

Imported by every part of the package; imports none.
"""

from __future__ import annotations

from collections.abc import Collection

PENDING = "pending"
RUNNING = "running"
SLEEPING = "sleeping"
WAITING = "waiting"
RETRYING = "retrying"
PAUSED = "paused"
PARKED = "parked"
STOPPING = "stopping"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"

#: A run in these states may keep the reason for which it was parked before: nothing to be shown.
GOING_ON = (PENDING, RUNNING)
#: Suspended: data only. A due timer or an event makes such a run pending again.
SUSPENDED = (SLEEPING, WAITING, RETRYING)
#: An owner may write in these states; in every other one its write is refused.
OWNED = (RUNNING, PAUSED, STOPPING)
ENDED = (COMPLETED, FAILED, CANCELLED)
UNFINISHED = (PENDING, RUNNING, SLEEPING, WAITING, RETRYING, PAUSED, PARKED, STOPPING)
ALL = UNFINISHED + ENDED


class RecordState:
    """What a step record says on replay."""

    OPEN = "open"  # its timer or event has not come yet
    STARTED = "started"  # an at-most-once call has begun; found on replay, it was interrupted. Of a map: its items run
    DUE = "due"  # its timer fired: a retry may be called, a wait has timed out
    CLOSED = "closed"  # it was open when its branch lost: read by no replay, begun anew if one comes to it again
    COMPLETED = "completed"  # the result is stored and will never change
    FAILED = "failed"  # the failure is final and replays


class Kind:
    """What made a record, and what a timer wakes. A name recorded as one kind is never read as another."""

    STEP = "step"
    SLEEP = "sleep"
    WAIT = "wait"
    NOW = "now"
    CALL = "call"  # of a child: its start, its end, or both
    DELEGATE = "delegate"  # a step that another executor calls
    # What has decided over branches:
    GATHER = "gather"
    RACE = "race"
    MAP = "map"
    PATCH = "patch"
    UNDO = "undo"
    # Kinds of timers without a record of their own:
    RETRY = "retry"
    START = "start"
    DEADLINE = "deadline"
    OUTAGE = "outage"
    CANCEL = "cancel"  # its parent has been stopped
    LIMIT = "limit"  # a step may be called again when its limit allows
    EXPIRE = "expire"  # it has not started in its time
    CANCEL_ON = "cancel_on"  # a broadcast event that cancels it
    FREED = "freed"  # the run for whose end its start waits has ended while its own row was locked


#: Kinds of timers that end a run, or let it start, and that it does not wait for.
NO_WAITS = (Kind.DEADLINE, Kind.EXPIRE, Kind.CANCEL_ON, Kind.FREED)


#: Why a failed run is not retried of which undo steps have run, and none has failed.
UNDONE = "something of it was undone: fork it from the step that failed, or rerun it, as a run of its own"


def bars_retry(undo: Collection[str]) -> bool:
    """Return whether a failed run whose undo steps are in these states cannot go on: what it did is undone."""
    return RecordState.COMPLETED in undo and RecordState.FAILED not in undo


#: What a body has asked for without waiting: stored with the record that follows, and no work of the run.
ANSWERS = (Kind.NOW, Kind.PATCH)
#: Kinds of records that say what was decided over branches, or over the items of a map.
DECISIONS = (Kind.GATHER, Kind.RACE, Kind.MAP)


class DelegationState:
    """Where an attempt of a delegated step stands."""

    OUT = "out"  # its message is under way, or about to be sent
    STARTED = "started"  # one delivery of it has begun to call the task; no other may
    ENDED = "ended"  # what it has come to is told to the run
    GIVEN_UP = "given_up"  # the run waits for it no more: what still comes of it is kept, and read by nothing

    WANTED = (OUT, STARTED)


class WorkerState:
    """A worker is alive until it stops or another worker declares it dead; there is no way back."""

    ALIVE = "alive"
    STOPPED = "stopped"
    DEAD = "dead"
