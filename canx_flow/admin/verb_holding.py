"""The verbs *pause*, *resume* and *wake*: they hold a run, let it go on, and spare it a wait."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import client, states
from ..core import clock
from ..core.pretty import printable
from ..insight import reading
from ..insight.speech import span
from ..models import WorkflowRun
from ..states import NO_WAITS
from .verbs import Outcome, Texts, Verb

# -- pause -----------------------------------------------------------------------------------------


def _pause_effect(state: str) -> str:
    match state:
        case states.RUNNING:
            return _("No further step starts. The step in flight may finish, and its result is stored.")
        case states.PAUSED:
            return _("Is paused already and stays as it is.")
        case states.STOPPING:
            return _("Is ending and stays as it is.")
        case _ if state in states.ENDED:
            return _("Has ended and stays as it is.")
    return _("Starts no step until it is resumed. Its timers keep their moments, and act when it goes on.")


def _pause_outcome(became: str, state: str) -> Outcome:
    if became == "paused":
        return Outcome("paused", _("The run is paused."), "Paused.", True)
    logged = f"Pause changed nothing: the run was {state}."
    if state == states.PAUSED:
        return Outcome("held", _("The run is paused already: nothing was changed."), logged, False)
    return Outcome("over", _("The run is ending or has ended: nothing was changed."), logged, False)


PAUSE = Verb(
    name="pause",
    states=tuple(state for state in states.UNFINISHED if state not in (states.STOPPING, states.PAUSED)),
    texts=Texts(
        label=gettext_lazy("Pause"),
        question=gettext_lazy("Pause this run?"),
        question_many=gettext_lazy("Pause these runs?"),
        yes=gettext_lazy("Yes, pause it"),
        yes_many=gettext_lazy("Yes, pause them"),
        extent=gettext_lazy("{number} of {total} will be paused."),
        nothing=gettext_lazy("Nothing to pause: {why}."),
        action=gettext_lazy("Pause selected %(verbose_name_plural)s"),
    ),
    effect=_pause_effect,
    call=client.pause_each,
    outcome=_pause_outcome,
)

# -- resume ----------------------------------------------------------------------------------------


def _resume_effect(state: str) -> str:
    if state == states.PAUSED:
        return _("Goes on where it was. Timers that were due meanwhile act at once.")
    return _("Is not paused and stays as it is.")


def _resume_outcome(became: str, state: str) -> Outcome:
    if became == "resumed":
        return Outcome("resumed", _("The run goes on."), "Resumed.", True)
    said = _("The run is not paused: nothing was changed.")
    return Outcome("not held", said, f"Resume changed nothing: the run was {state}.", False)


RESUME = Verb(
    name="resume",
    states=(states.PAUSED,),
    texts=Texts(
        label=gettext_lazy("Resume"),
        question=gettext_lazy("Resume this run?"),
        question_many=gettext_lazy("Resume these runs?"),
        yes=gettext_lazy("Yes, let it go on"),
        yes_many=gettext_lazy("Yes, let them go on"),
        extent=gettext_lazy("{number} of {total} will go on."),
        nothing=gettext_lazy("Nothing to resume: {why}."),
        action=gettext_lazy("Resume selected %(verbose_name_plural)s"),
    ),
    effect=_resume_effect,
    call=client.resume_each,
    outcome=_resume_outcome,
)

# -- wake ------------------------------------------------------------------------------------------


def _wake_effect(state: str) -> str:
    match state:
        case states.SLEEPING:
            return _("Goes on now: its sleep, or its delayed start, counts as over.")
        case states.RETRYING:
            return _("Tries its failed step again now.")
        case states.WAITING:
            return _("The nearest limit of its waits counts as reached: that wait times out now.")
    return _("Has no timer to be woken from and stays as it is.")


def _wake_remark(run: WorkflowRun) -> str:
    """Say which timer is meant, and how early it will be."""
    now = clock.now()
    due = [wait for wait in reading.waits(run) if wait.due_at is not None and wait.kind not in NO_WAITS]
    if not due or due[0].due_at is None:
        return _("No timer is open: it waits without a limit, and waking would change nothing.")
    early = (due[0].due_at - now).total_seconds()
    if early <= 0:
        return _("Its nearest timer is due already.")
    if not due[0].step:
        return _("Its nearest timer is that of the delayed start: {early} early.").format(early=span(early))
    words = {"step": printable(due[0].step), "early": span(early)}
    return _("Its nearest timer is that of {step}: {early} early.").format(**words)


def _wake_outcome(became: str, state: str) -> Outcome:
    if became == "woken":
        said = _("The run is woken: its nearest timer counts as due.")
        return Outcome("woken", said, "Woken.", True)
    said = _("The run has no open timer: nothing was changed.")
    return Outcome("no timer", said, f"Wake changed nothing: the run was {state}.", False)


WAKE = Verb(
    name="wake",
    states=(states.SLEEPING, states.RETRYING, states.WAITING),
    texts=Texts(
        label=gettext_lazy("Wake now"),
        question=gettext_lazy("Wake this run now?"),
        question_many=gettext_lazy("Wake these runs now?"),
        yes=gettext_lazy("Yes, wake it"),
        yes_many=gettext_lazy("Yes, wake them"),
        extent=gettext_lazy("{number} of {total} will be woken."),
        nothing=gettext_lazy("Nothing to wake: {why}."),
        action=gettext_lazy("Wake selected %(verbose_name_plural)s"),
    ),
    effect=_wake_effect,
    call=client.wake_each,
    outcome=_wake_outcome,
    remark=_wake_remark,
)
