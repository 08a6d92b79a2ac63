"""Each arrow of the state machine, by every way on which it is taken, sets what the table of arrows says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import ANY
from uuid import UUID

import pytest
from django.db import connections, transaction

from canx_flow import Context, workflow
from canx_flow.core import arrows, clock
from canx_flow.core.changes import Generation, Settle, Undo
from canx_flow.exceptions import RunTimedOut
from canx_flow.states import (
    CANCELLED,
    COMPLETED,
    ENDED,
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
    Kind,
)
from canx_flow.store import leases, transitions, unparking
from canx_flow.store.db import engine

from .arrows import NAME, Row, dirty_run, row_after, row_of, timers_after, timers_of
from .routes import (
    KNOWN,
    Route,
    Scene,
    broadcast,
    cancelled_by_event,
    claim,
    control,
    debounce,
    disown,
    fire,
    in_bulk,
    owner_dies,
    owner_leaves,
    park_unknown,
    send,
    settled,
    undo_again,
    unpark,
    unpark_misfits,
    without_undo,
)

pytestmark = pytest.mark.django_db(transaction=True)


@workflow(NAME)
def anything(ctx: Context) -> None:
    """Never run here: its runs are written by hand."""


IDLE = (PENDING, *SUSPENDED)
OPEN = (Kind.SLEEP, Kind.RETRY, Kind.WAIT)
ERROR = '{"type": "ValueError"}'
#: A run whose end is decided, and which has something to undo.
UNDO = {"has_undo": True, "ending": CANCELLED}

ROUTES = [
    Route("CLAIM", (PENDING, STOPPING), claim, {"ready": True}),
    Route("WAKE", SUSPENDED, fire(Kind.SLEEP), removes=(Kind.SLEEP,)),
    Route("WAKE", SUSPENDED, send),
    Route("WAKE", SUSPENDED, broadcast),
    Route("CANCEL", (*IDLE, PAUSED, PARKED), cancelled_by_event),
    Route("CANCEL_OWNED", (RUNNING, PAUSED), cancelled_by_event, owned=True),
    Route("CANCEL_TO_UNDO", (*IDLE, PAUSED, PARKED), cancelled_by_event, {"has_undo": True}),
    Route("CANCEL", IDLE, fire(Kind.EXPIRE, reason="Expired"), {"started_at": None}),
    Route("PUT_OFF", (PENDING,), debounce, {"started_at": None, "timers": ()}, adds={Kind.START: False}),
    Route("WAKE_UNDO", (STOPPING,), fire(Kind.RETRY), UNDO, removes=(Kind.RETRY,)),
    Route("RECOVER", (RUNNING, PAUSED, STOPPING), owner_dies, owned=True),
    Route("TAKE_BACK", (RUNNING, PAUSED, STOPPING), owner_leaves, owned=True),
    Route("TAKE_BACK", (RUNNING, PAUSED, STOPPING), disown, owned=True),
    Route("COMPLETE", (RUNNING,), settled(Settle(COMPLETED, result="1"), "alone"), {"timers": ()}, owned=True),
    Route("COMPLETE", (RUNNING,), settled(Settle(COMPLETED, result="1"), "batch"), {"timers": ()}, owned=True),
    Route("TIME_OUT", IDLE, fire(Kind.DEADLINE, reason=RunTimedOut.__name__, error=ANY)),
    Route(
        "TIME_OUT_OWNED", (RUNNING,), fire(Kind.DEADLINE, reason=RunTimedOut.__name__, error=ANY), owned=True,
        removes=(Kind.DEADLINE,),
    ),
    Route("TIME_OUT_TO_UNDO", IDLE, fire(Kind.DEADLINE, reason=RunTimedOut.__name__, error=ANY), {"has_undo": True}),
    Route("PARK", (PENDING,), park_unknown),
    Route("PARK", (STOPPING,), park_unknown, UNDO | {"ready": True, "error": ERROR}),
    Route("PARK_RECOVERED", (RUNNING,), owner_dies, {"recoveries": leases.ALONE_FROM + 9}, owned=True),
    Route(
        "PARK_RECOVERED", (STOPPING,), owner_dies, UNDO | {"recoveries": leases.ALONE_FROM + 9, "error": ERROR},
        owned=True,
    ),
    Route("UNPARK", (PARKED,), unpark),
    Route("UNPARK_UNDO", (PARKED,), unpark, UNDO),
    Route("UNPARK", (PARKED,), unpark_misfits, {"reason": unparking.MISFIT}),
    *(
        Route(arrow, (state,), settled(settle, how, **beside), run, owned=True)
        for arrow, state, settle, run in (
            ("SUSPEND", RUNNING, Settle(SLEEPING, timers=True), {}),
            ("SUSPEND", RUNNING, Settle(WAITING, timers=True), {}),
            ("SUSPEND", RUNNING, Settle(RETRYING, reason="OperationalError in the body", timers=True), {}),
            ("HAND_BACK", RUNNING, Settle(PENDING, timers=True), {}),
            ("CONTINUE", RUNNING, Settle(PENDING, generation=Generation("[2]", "{}", "code"), timers=True), {}),
            ("LET_GO", PAUSED, Settle(PENDING, timers=True), {}),
            ("COMPLETE", RUNNING, Settle(COMPLETED, result="1", timers=True), {}),
            ("FAIL", RUNNING, Settle(FAILED, reason="ValueError", error=ERROR, timers=True), {}),
            ("PARK", RUNNING, Settle(PARKED, reason="HistoryMismatch", error=ERROR, timers=True), {}),
            ("SUSPEND_UNDO", STOPPING, Settle(RETRYING, timers=True, undo=Undo.LEFT), UNDO),
            ("HAND_BACK_UNDO", STOPPING, Settle(PENDING, timers=True, undo=Undo.LEFT), UNDO),
            ("PARK", STOPPING, Settle(PARKED, reason="NotDecodable", error=ERROR, timers=True, undo=Undo.LEFT), UNDO),
            ("FAIL_TO_UNDO", RUNNING, Settle(FAILED, reason="ValueError", error=ERROR, timers=True),
             {"has_undo": True}),
            ("FAIL_LET_GO", RUNNING, Settle(FAILED, reason="ValueError", error=ERROR, timers=True, undo=Undo.LEFT),
             {"has_undo": True}),
            ("STOP_CANCELLED", STOPPING, Settle(COMPLETED, result="1", timers=True, undo=Undo.DONE), UNDO),
            ("STOP_FAILED", STOPPING, Settle(COMPLETED, result="1", timers=True, undo=Undo.DONE),
             UNDO | {"ending": FAILED}),
            ("STOP_CANCELLED", STOPPING, Settle(COMPLETED, result="1", timers=True), {"ending": CANCELLED}),
            ("STOP_FAILED", STOPPING, Settle(COMPLETED, result="1", timers=True), {"ending": FAILED}),
        )
        for how in ("alone", "batch", "waiting")
        for beside in ({}, {"progress": "[2]", "recoveries": 0})
    ),
    *(
        Route(arrow, states, go(verb), run, owned, ("inside", "outside"), adds=adds)
        for arrow, verb, states, run, owned, adds, ways in (
            ("CANCEL", "cancel", (*IDLE, PAUSED, PARKED), {}, False, {}, (control, in_bulk)),
            ("CANCEL_OWNED", "cancel", (RUNNING, PAUSED), {}, True, {}, (control, in_bulk)),
            ("CANCEL_TO_UNDO", "cancel", (*IDLE, PAUSED, PARKED), {"has_undo": True}, False, {}, (control, in_bulk)),
            ("STOP_WITHOUT_UNDO", "cancel", (STOPPING, PARKED), UNDO | {"error": None}, False, {},
             (without_undo,)),
            ("FAIL_WITHOUT_UNDO", "cancel", (PARKED,), UNDO | {"ending": FAILED, "error": ERROR}, False, {},
             (without_undo,)),
            ("RETRY_PARKED_UNDO", "retry", (PARKED,), UNDO, False, {}, (control, in_bulk)),
            ("RETRY_UNDO", "retry", (FAILED,), {"timers": OPEN, "error": ERROR, "has_undo": True}, False, {},
             (undo_again,)),
            ("PAUSE", "pause", (*IDLE, PARKED, RUNNING), {}, False, {}, (control,)),
            ("PAUSE", "pause", (RUNNING,), {}, True, {}, (control,)),
            ("RESUME", "resume", (PAUSED,), {}, False, {}, (control,)),
            ("RESUME_DELAYED", "resume", (PAUSED,), {"timers": (Kind.START,)}, False, {}, (control,)),
            ("RESUME_OWNED", "resume", (PAUSED,), {}, True, {}, (control,)),
            ("RETRY_PARKED", "retry", (PARKED,), {}, False, {}, (control, in_bulk)),
            ("RETRY", "retry", (FAILED,), {"timers": OPEN, "error": ERROR}, False, {Kind.DEADLINE: False},
             (control, in_bulk)),
            ("RETRY_LATE", "retry", (FAILED,), {"timers": OPEN, "error": ERROR, "reason": RunTimedOut.__name__},
             False, {}, (control, in_bulk)),
        )
        for go in ways
    ),
]  # fmt: skip
CASES = [
    pytest.param(route, state, where, id=f"{route.arrow}-{state}-{where}-{number}")
    for number, route in enumerate(ROUTES)
    for state in route.states
    for where in route.where
]


@contextmanager
def scene(where: str) -> Iterator[Scene]:
    """A live worker; on an engine connection, on a project's, or in a transaction of the project's."""
    owner = leases.register(host="here", pid=1, workflows=KNOWN).id
    if where == "engine":
        with engine.use_engine_connection("default") as connection:
            yield Scene(connection, owner)
    elif where == "inside":
        with transaction.atomic():
            yield Scene(connections["default"], owner)
    else:
        yield Scene(connections["default"], owner)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The runs whose end has passed through the one function for that."""
    run_ids: list[UUID] = []
    has_ended = transitions.has_ended

    def noting(alias: str, some: Sequence[UUID]) -> None:
        run_ids.extend(some)
        has_ended(alias, some)

    monkeypatch.setattr(transitions, "has_ended", noting)
    return run_ids


@pytest.mark.parametrize(("route", "state", "where"), CASES)
def test_an_arrow_sets_what_the_table_says_and_nothing_else(
    route: Route, state: str, where: str, ended: list[UUID]
) -> None:
    """The whole row and all timers of a run whose columns are all dirty, by hand-written statements and by the ORM."""
    arrow = arrows.ALL[route.arrow]
    with scene(where) as here:
        run_id = dirty_run(state, **{**({"owner_id": here.owner, "ready": False} if route.owned else {}), **route.run})
        row, waits, since = row_of(run_id), timers_of(run_id), clock.now()

        given = route.go(here, run_id)

        after = row_of(run_id)
        assert after == row_after(row, arrow, since, _of(arrow, given), after)
        left = {kind: held for kind, held in waits.items() if kind not in route.removes}
        assert timers_of(run_id) == {**timers_after(left, arrow), **route.adds}
        # What is to be stored with an end is, unless nothing hangs on it: then the fast statements may write it.
        assert (run_id in ended) == (arrow.ends and route.run.get("timers") != ())


def _of(arrow: arrows.Arrow, given: Row) -> Row:
    """What is given to this arrow, and what is set beside it; a settling has more, for other arrows."""
    others = {"state", "reason", "error", "result"}
    return {column: value for column, value in given.items() if column in arrow.given or column not in others}


def test_every_arrow_is_tried_from_each_of_its_states() -> None:
    """No arrow of the table, and no state that it comes from, is left out above."""
    tried = {(route.arrow, state) for route in ROUTES for state in route.states}
    assert tried == {(name, state) for name, arrow in arrows.ALL.items() for state in arrow.to}


def test_an_arrow_ends_a_run_if_it_leads_to_an_end() -> None:
    """Each arrow to completed, failed or cancelled says when that was, and no other does."""
    for arrow in arrows.ALL.values():
        after = {state for some in arrow.to.values() for state in (some if isinstance(some, tuple) else (some,))}
        assert arrow.ends == bool(after & set(ENDED)) == (after <= set(ENDED))
