"""The verb *cancel*: with what is to be undone, or without."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import client, states
from ..models import WorkflowRun
from .verbs import Outcome, ReasonForm, Texts, Verb


class CancelForm(ReasonForm):
    undo = forms.BooleanField(
        label=gettext_lazy("Undo what has an undo"),
        help_text=gettext_lazy("Without it a run ends at once, and what its steps did stays done."),
        required=False,
        initial=True,
    )

    def arrange(self) -> None:
        """Of one run without anything to undo, and of one that is undoing, there is nothing to choose."""
        if len(self.runs) != 1:
            return
        (run,) = self.runs
        if not run.has_undo:
            del self.fields["undo"]
        elif run.state == states.STOPPING:
            self.fields["undo"].initial = False

    @property
    def options(self) -> dict[str, Any]:
        return {"undo": self.cleaned_data.get("undo", True)}


def _effect(state: str) -> str:
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


def _outcome(became: str, state: str) -> Outcome:
    match became, state:
        case "stopping", _other:
            said = _("The run is being cancelled: the step in flight may finish, and what has an undo is undone.")
            return Outcome("stopping", said, "Cancelled; the step in flight may finish.", True)
        case "cancelled", _other:
            return Outcome("cancelled", _("The run is cancelled."), "Cancelled.", True)
    logged = f"Cancel changed nothing: the run was {state}."
    if state == states.STOPPING:
        return Outcome("ending", _("The run is stopping already: nothing was changed."), logged, False)
    if state == states.CANCELLED:
        return Outcome("ended", _("The run was cancelled already: nothing was changed."), logged, False)
    return Outcome("ended", _("The run has already ended: nothing was changed."), logged, False)


def _still_undoes(run: WorkflowRun) -> bool:
    return run.state == states.STOPPING and run.has_undo


def _remark(run: WorkflowRun) -> str:
    if _still_undoes(run):
        return _("It undoes what it has done. Confirmed without “undo”, it leaves the rest as it is and ends at once.")
    return ""


CANCEL = Verb(
    name="cancel",
    states=tuple(state for state in states.UNFINISHED if state != states.STOPPING),
    texts=Texts(
        label=gettext_lazy("Cancel"),
        question=gettext_lazy("Cancel this run?"),
        question_many=gettext_lazy("Cancel these runs?"),
        yes=gettext_lazy("Yes, cancel it"),
        yes_many=gettext_lazy("Yes, cancel them"),
        extent=gettext_lazy("{number} of {total} will be cancelled."),
        nothing=gettext_lazy("Nothing to cancel: {why}."),
        action=gettext_lazy("Cancel selected %(verbose_name_plural)s"),
        note=gettext_lazy("A cancelled run stays so: it can be neither resumed nor retried."),
    ),
    effect=_effect,
    call=client.cancel_each,
    outcome=_outcome,
    form=CancelForm,
    remark=_remark,
    for_run=_still_undoes,
)
