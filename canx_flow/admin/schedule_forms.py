"""The forms about schedules: a reason, what is to be filled in, and a schedule that is made in the admin.

Called by `schedules`.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib.admin.widgets import AdminTextInputWidget
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf
from ..core import registry
from ..core import schedules as registered
from ..core.options import HIGHEST_PRIORITY, LOWEST_PRIORITY
from ..core.schedules import CATCH_UPS, OVERLAPS, Scheduled
from ..exceptions import CanxFlowError
from ..store import schedules
from .call_form import CallForm
from .verbs import ReasonForm

_TAKEN = gettext_lazy("There is a schedule of this name.")
_OVERLAPS = {
    "skip": gettext_lazy("start nothing, and count it"),
    "buffer_one": gettext_lazy("start one more once it has ended"),
    "buffer_all": gettext_lazy("start them all, one after the other"),
    "cancel_other": gettext_lazy("cancel it, and start"),
    "allow_all": gettext_lazy("start beside it"),
}
_CATCH_UPS = {
    "none": gettext_lazy("start nothing of what was missed"),
    "one": gettext_lazy("start the last of what was missed"),
    "all": gettext_lazy("start all that was missed"),
}
_PLAIN = {"spellcheck": "false", "autocomplete": "off"}


class NoteForm(ReasonForm):
    """A reason alone."""

    def arrange(self) -> None:
        """Say where it is stored."""
        self.fields["reason"].help_text = _("Optional. Stored with the schedule.")


class TriggerForm(ReasonForm):
    """A reason, and what names this very page: sent twice by a double click, it starts one run."""

    once = forms.UUIDField(required=False, widget=forms.HiddenInput(), initial=uuid4)


def _moment(label: Any) -> forms.DateTimeField:
    """Return a field for which browsers have one of their own: no script, on any theme and telephone."""
    about = {"type": "datetime-local", "step": "1", "class": "vTextField"}
    return forms.DateTimeField(label=label, widget=forms.DateTimeInput(attrs=about, format="%Y-%m-%dT%H:%M:%S"))


class BackfillForm(ReasonForm):
    """From when to when, and with which priority. The first answer counts; the second one, with `sure`, starts."""

    field_order = ("start", "end", "priority", "reason", "sure")

    start = _moment(gettext_lazy("From"))
    end = _moment(gettext_lazy("To"))
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"), required=False, min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY
    )
    #: How many runs the person has been told of.
    sure = forms.IntegerField(required=False, widget=forms.HiddenInput())

    def arrange(self) -> None:
        """Say in which time zone moments are typed."""
        zone = _("In the time zone {zone}.").format(zone=timezone.get_current_timezone_name())
        self.fields["start"].help_text = self.fields["end"].help_text = zone


class ScheduleForm(CallForm):
    """A schedule: its name, what it starts with which arguments, and when."""

    field_order = (
        "name", "workflow", "cron", "every", "tz", "arguments", "overlap", "catch_up", "reason",
    )  # fmt: skip

    name = forms.CharField(label=gettext_lazy("Name"), max_length=200, widget=AdminTextInputWidget(attrs=_PLAIN))
    workflow = forms.ChoiceField(label=gettext_lazy("Workflow"))
    cron = forms.CharField(
        label=gettext_lazy("Cron expression"),
        help_text=gettext_lazy("Five fields: minute, hour, day of the month, month, day of the week."),
        required=False,
        widget=AdminTextInputWidget(attrs=_PLAIN),
    )
    every = forms.DurationField(
        label=gettext_lazy("Interval"),
        help_text=gettext_lazy("Instead of a cron expression: seconds, or hours:minutes:seconds."),
        required=False,
        widget=AdminTextInputWidget(attrs=_PLAIN),
    )
    tz = forms.ChoiceField(label=gettext_lazy("Time zone"))
    overlap = forms.ChoiceField(
        label=gettext_lazy("While the last run has not ended"),
        choices=[(each, format_lazy("{}: {}", each, _OVERLAPS[each])) for each in OVERLAPS],
    )
    catch_up = forms.ChoiceField(
        label=gettext_lazy("After downtime"),
        choices=[(each, format_lazy("{}: {}", each, _CATCH_UPS[each])) for each in CATCH_UPS],
        initial="one",
    )

    not_allowed = gettext_lazy("Arguments of a schedule are plain values: no {names}.")

    def arrange(self) -> None:
        labels: Any = self.fields["workflow"]
        labels.choices = [(label, label) for label in registry.labels()]
        zones: Any = self.fields["tz"]
        zones.choices = [(zone, zone) for zone in sorted({*available_timezones(), settings.TIME_ZONE})]
        self.initial = {"tz": settings.TIME_ZONE}
        del self.fields["keywords"], self.fields["reason"]

    def clean_name(self) -> str:
        """Refuse the name of another one, also of one in code that no worker has written yet."""
        name: str = self.cleaned_data["name"]
        if registered.get(name) is not None or schedules.named(conf.get().database, name).exists():
            raise forms.ValidationError(_TAKEN)
        return name

    def is_taken(self) -> None:
        """Say so of a name that was free when it was checked."""
        self.add_error("name", _TAKEN)

    def clean(self) -> dict[str, Any]:
        """Check what is typed as a declaration in code is checked."""
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        try:
            self.scheduled = Scheduled.declared(
                cleaned["name"], registry.resolve(cleaned["workflow"]), cron=cleaned["cron"] or None,
                every=cleaned["every"], tz=cleaned["tz"], args=tuple(cleaned["arguments"] or ()),
                overlap=cleaned["overlap"], catch_up=cleaned["catch_up"],
            )  # fmt: skip
        except (ValueError, TypeError, CanxFlowError) as error:
            named = str(error).partition(" ")[0].strip(":")
            field = {"args": "arguments", "schedule": "name"}.get(named, named)
            self.add_error(field if field in self.fields else None, str(error))
        return cleaned
