"""The verb *retry*. Of a run that has killed its workers it says so, and asks for a tick."""

from __future__ import annotations

from django import forms
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import client, conf, states
from ..core.pretty import printable
from ..exceptions import TooManyRecoveries
from ..insight import cutoffs, speech
from ..models import StepRecord, WorkflowRun
from ..store.db.ready import ALONE_FROM
from .verbs import Outcome, ReasonForm, Texts, Verb

_KILLS = TooManyRecoveries.__name__


def kills(run: WorkflowRun) -> bool:
    """Tell whether the run is parked because its workers die with it."""
    return run.state == states.PARKED and run.reason.startswith(_KILLS)


class RetryForm(ReasonForm):
    kills = forms.BooleanField(required=False)

    def arrange(self) -> None:
        """Ask for the tick where there is such a run; of a single one it is required."""
        if self.risky:
            said = ngettext(
                "Also the {number} run that has killed its workers: it may kill up to {deaths} more",
                "Also the {number} runs that have killed their workers: each may kill up to {deaths} more",
                self.risky,
            )
            self.fields["kills"].label = said.format(number=speech.number(self.risky), deaths=deaths())
        elif len(self.runs) == 1 and kills(next(iter(self.runs))):
            self.fields["kills"].required = True
            self.fields["kills"].label = _("I know that it may kill up to {number} more workers").format(
                number=deaths()
            )
            self.fields["kills"].error_messages["required"] = _("Tick this to retry it all the same.")
        else:
            del self.fields["kills"]

    @property
    def takes_risky(self) -> bool:
        return bool(self.cleaned_data.get("kills"))


def deaths() -> int:
    """Return how many workers a run may take with it before it is parked."""
    return ALONE_FROM + conf.get().max_recoveries


def _remark(run: WorkflowRun) -> str:
    if not kills(run):
        return ""
    count = run.recoveries or deaths()
    said = ngettext("This run has killed {number} worker.", "This run has killed {number} workers.", count)
    said = said.format(number=speech.number(count))
    more = _("Retrying may kill {number} more: its count begins anew.").format(number=deaths())
    steps = ", ".join(dict.fromkeys(printable(cut.step) for cut in cutoffs.of(run)))
    where = (
        _("They died in the step {step}.").format(step=steps) if steps else _("In which step is not known any more.")
    )
    return f"{said} {where} {more}"


def _effect_on(run: WorkflowRun) -> str:
    if not kills(run):
        return ""
    return _("A worker takes it alone and calls that step again. If that kills the worker, the next one takes it.")


def _is_undone(run: WorkflowRun) -> bool:
    """Tell whether a failed run cannot go on, for what it did is undone."""
    if run.state != states.FAILED or not run.has_undo:
        return False
    undo = StepRecord.objects.using(conf.get().database).filter(run_id=run.pk, kind=states.Kind.UNDO)
    return states.bars_retry(set(undo.values_list("state", flat=True)))


def _effect(state: str) -> str:
    match state:
        case states.FAILED:
            return _(
                "Goes on where it failed: finished steps keep their results and are not called again, and the step "
                "that failed gets all its attempts anew."
            )
        case states.PARKED:
            return _("Is looked at again by the next free worker. If the reason is still there, it parks again.")
    return _("Is neither failed nor parked and stays as it is.")


def _outcome(became: str, state: str) -> Outcome:
    if became == "retried":
        return Outcome("retried", _("The run goes on."), "Retried.", True)
    logged = f"Retry changed nothing: the run was {state}."
    if state == states.FAILED:
        said = _("The run was not retried: something of it was undone. Fork it from the step that failed, or rerun it.")
        return Outcome("undone", said, "Retry changed nothing: something of the run was undone.", False)
    return Outcome("other", _("The run is neither failed nor parked: nothing was changed."), logged, False)


RETRY = Verb(
    name="retry",
    states=(states.FAILED, states.PARKED),
    texts=Texts(
        label=gettext_lazy("Retry"),
        question=gettext_lazy("Retry this run?"),
        question_many=gettext_lazy("Retry these runs?"),
        yes=gettext_lazy("Yes, retry it"),
        yes_many=gettext_lazy("Yes, retry them"),
        extent=gettext_lazy("{number} of {total} will be retried."),
        nothing=gettext_lazy("Nothing to retry: {why}."),
        action=gettext_lazy("Retry selected %(verbose_name_plural)s"),
    ),
    effect=_effect,
    call=client.retry_each,
    outcome=_outcome,
    form=RetryForm,
    risky=Q(state=states.PARKED, reason__startswith=_KILLS),
    remark=_remark,
    effect_on=_effect_on,
    barred=_is_undone,
)
