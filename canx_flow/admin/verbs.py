"""What people may do to runs that are there: when each makes sense, what it will do, what it has done.

Each verb has a permission, an address, a page that asks, and an action of the list. Plain data and functions over
`client`, which alone decides; `verb_…` define them, `acting` and `bulk_acting` use them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from ..client.each import Became
from ..models import WorkflowRun

Text = str | Promise


class ReasonForm(forms.Form):
    """What every page that asks has."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("Optional. Stored with the run and in its history."),
        required=False,
        max_length=500,
        widget=AdminTextInputWidget(attrs={"autofocus": True}),
    )

    def __init__(self, data: Any = None, *, runs: Collection[WorkflowRun] = (), risky: int = 0) -> None:
        """Ask about these runs; `risky`: how many of many need a tick, as `Verb.risky` says."""
        super().__init__(data)
        self.runs, self.risky = runs, risky
        self.arrange()

    def arrange(self) -> None:
        """Leave out what does not matter for these runs."""

    @property
    def options(self) -> dict[str, Any]:
        """What is chosen beside the reason: keywords of the verb's call."""
        return {}

    @property
    def takes_risky(self) -> bool:
        """Whether those among many runs are meant, too, that need a tick."""
        return False


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
    label: Text
    question: Text
    question_many: Text
    #: On the button that confirms.
    yes: Text
    yes_many: Text
    #: With `number` and `total`.
    extent: Text
    #: Where it makes sense for none of the chosen: with `why`.
    nothing: Text
    #: Of the action in the list.
    action: Any
    note: Text = ""


@dataclass(frozen=True, slots=True)
class Words:
    """What a page of its own is called and asks, that is no verb for many runs."""

    name: str
    label: Text
    question: Text
    yes: Text

    @property
    def texts(self) -> Words:
        """Itself, as templates ask a verb for its texts."""
        return self


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that may be done. `name` is in its address; its permission is `<name>_run`."""

    name: str
    #: States in which it makes sense: elsewhere there is no button, and a selection leaves those runs alone.
    states: tuple[str, ...]
    texts: Texts
    #: What will happen to a run in that state.
    effect: Callable[[str], str]
    #: What became of each run by this very call; takes ids, a reason, `by`, and what the form has chosen.
    call: Callable[..., Became]
    #: What became of a run, as `call` says, that is now in this state.
    outcome: Callable[[str, str], Outcome]
    form: type[ReasonForm] = ReasonForm
    #: Which runs it is risky to do it to: among many they are left alone unless that is ticked.
    risky: Q | None = None
    #: What its page says beside, of a single run.
    remark: Callable[[WorkflowRun], str] = lambda _run: ""
    #: What will happen to this one run, where its state alone does not say it.
    effect_on: Callable[[WorkflowRun], str] = lambda _run: ""
    #: Runs in further states for which it makes sense, and runs in its states for which it does not.
    for_run: Callable[[WorkflowRun], bool] = lambda _run: False
    barred: Callable[[WorkflowRun], bool] = lambda _run: False

    def applies(self, state: str) -> bool:
        return state in self.states

    def applies_to(self, run: WorkflowRun) -> bool:
        return (self.applies(run.state) and not self.barred(run)) or self.for_run(run)

    @property
    def permission(self) -> str:
        return f"{self.name}_run"

    def one(self, run_id: UUID, reason: str, by: Any, **options: Any) -> str | None:
        """Do it to one run; return what became of it, `None` if there is no such run."""
        return self.call([run_id], reason, by=by, **options).get(run_id)
