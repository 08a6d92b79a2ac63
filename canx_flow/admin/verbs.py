"""What people may do to runs here: cancel and retry. When each makes sense, what it will do, what it has done.

Plain functions over `client`, which alone decides; called by the views of `acting` and by `bulk`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import client, states
from ..exceptions import InvalidState
from ..models import RunQuerySet

_Text = Any  # str, or one that is translated when it is shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run. `code` is counted, `said` is shown, `logged` stays as it is in any language."""

    code: str
    said: str
    logged: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Texts:
    """What a verb is called and how its pages ask: `…_many` where several runs are chosen."""

    #: Of the button, and of the entry in the crumbs.
    label: _Text
    question: _Text
    question_many: _Text
    #: On the button that confirms.
    yes: _Text
    yes_many: _Text
    #: With `number` and `total`.
    extent: _Text
    #: Where it makes sense for none of the chosen: with `why`.
    nothing: _Text
    note: _Text


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that may be done. `name` is in its address; its permission is `<name>_run`."""

    name: str
    #: States in which it makes sense: elsewhere there is no button, and a selection leaves those runs alone.
    states: tuple[str, ...]
    texts: Texts
    #: What will happen to a run in that state.
    effect: Callable[[str], str]
    one: Callable[[UUID, str, Any], Outcome]
    many: Callable[[RunQuerySet, str, Any], dict[str, int]]
    #: What became of a run that was, or was not, changed and is now in that state.
    outcome: Callable[[str, bool], Outcome]

    def applies(self, state: str) -> bool:
        return state in self.states

    @property
    def permission(self) -> str:
        return f"{self.name}_run"


# -- cancel ----------------------------------------------------------------------------------------


def _cancel_effect(state: str) -> str:
    match state:
        case states.RUNNING:
            return _(
                "No further step starts. The step in flight may finish, and its result is stored; then what its steps "
                "have an undo for is undone, and it ends."
            )
        case states.PAUSED:
            return _("Ends as cancelled: at once, or as soon as a step in flight has ended and all is undone.")
        case states.STOPPING:
            return _("Is ending already and stays as it is.")
        case _ if state in states.ENDED:
            return _("Has ended and stays as it is.")
    return _("Ends as cancelled: at once, or once what its steps have an undo for is undone. No further step starts.")


def _cancel_one(run_id: UUID, reason: str, by: Any) -> Outcome:
    done = client.cancel(run_id, reason, by=by)
    return _cancel_outcome(_state(run_id), done)


def _cancel_many(runs: RunQuerySet, reason: str, by: Any) -> dict[str, int]:
    return client.bulk_cancel(runs, reason, by=by)


def _cancel_outcome(state: str, changed: bool) -> Outcome:
    logged = f"Cancel changed nothing: the run was {state}."
    match state, changed:
        case states.STOPPING, False:
            return Outcome("ending", _("The run is stopping already: nothing was changed."), logged, False)
        case _, False:
            return Outcome("ended", _("The run has already ended: nothing was changed."), logged, False)
        case states.STOPPING, True:
            said = _("The run is being cancelled: the step in flight may finish, and what has an undo is undone.")
            return Outcome("stopping", said, "Cancelled; the step in flight may finish.", True)
    return Outcome("cancelled", _("The run is cancelled."), "Cancelled.", True)


CANCEL = Verb(
    name="cancel",
    states=tuple(state for state in states.UNFINISHED if state != states.STOPPING),
    texts=Texts(
        label=gettext_lazy("Cancel"),
        question=gettext_lazy("Cancel this run?"),
        question_many=gettext_lazy("Cancel these runs?"),
        yes=gettext_lazy("Yes, cancel it"),
        yes_many=gettext_lazy("Yes, cancel them"),
        extent=gettext_lazy("%(number)d of %(total)d will be cancelled."),
        nothing=gettext_lazy("Nothing to cancel: %(why)s."),
        note=gettext_lazy("A cancelled run stays so: it can be neither resumed nor retried."),
    ),
    effect=_cancel_effect,
    one=_cancel_one,
    many=_cancel_many,
    outcome=_cancel_outcome,
)


# -- retry -----------------------------------------------------------------------------------------


def _retry_effect(state: str) -> str:
    match state:
        case states.FAILED:
            return _(
                "Goes on where it failed: finished steps keep their results and are not called again, and the step "
                "that failed gets all its attempts anew."
            )
        case states.PARKED:
            return _("Is looked at again by the next free worker. If the reason is still there, it parks again.")
    return _("Is neither failed nor parked and stays as it is.")


def _retry_one(run_id: UUID, reason: str, by: Any) -> Outcome:
    try:
        client.retry(run_id, reason, by=by)
    except InvalidState as refused:
        said = _("The run was not retried: %s.") % refused
        return Outcome("other", said, f"Retry changed nothing: {refused}.", False)
    return _retry_outcome(states.PENDING, True)


def _retry_many(runs: RunQuerySet, reason: str, by: Any) -> dict[str, int]:
    return client.bulk_retry(runs, reason, by=by)


def _retry_outcome(state: str, changed: bool) -> Outcome:
    if not changed:
        said = _("The run is neither failed nor parked: nothing was changed.")
        return Outcome("other", said, f"Retry changed nothing: the run was {state}.", False)
    return Outcome("retried", _("The run goes on."), "Retried.", True)


RETRY = Verb(
    name="retry",
    states=(states.FAILED, states.PARKED),
    texts=Texts(
        label=gettext_lazy("Retry"),
        question=gettext_lazy("Retry this run?"),
        question_many=gettext_lazy("Retry these runs?"),
        yes=gettext_lazy("Yes, retry it"),
        yes_many=gettext_lazy("Yes, retry them"),
        extent=gettext_lazy("%(number)d of %(total)d will be retried."),
        nothing=gettext_lazy("Nothing to retry: %(why)s."),
        note="",
    ),
    effect=_retry_effect,
    one=_retry_one,
    many=_retry_many,
    outcome=_retry_outcome,
)


def _state(run_id: UUID) -> str:
    return client.runs().filter(id=run_id).values_list("state", flat=True).get()
