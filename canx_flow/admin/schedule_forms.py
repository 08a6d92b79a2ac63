"""The forms about schedules: a reason, what is to be filled in, and a schedule that is made in the admin.

Called by `schedules`.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib.admin.widgets import AdminSplitDateTime, AdminTextInputWidget
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core import registry
from ..core.options import HIGHEST_PRIORITY, LOWEST_PRIORITY
from ..core.schedules import CATCH_UPS, OVERLAPS, Scheduled
from ..exceptions import CanxFlowError
from ..models import Schedule
from .call_form import CallForm
from .verbs import ReasonForm

_PLAIN = {"spellcheck": "false", "autocomplete": "off"}


class NoteForm(ReasonForm):
    """A reason alone."""

    def arrange(self) -> None:
        self.fields["reason"].help_text = _("Optional. Stored with the schedule.")


class BackfillForm(ReasonForm):
    """From when to when, and with which priority. The first answer counts; the second one, with `sure`, starts."""

    field_order = ("start", "end", "priority", "reason", "sure")

    start = forms.SplitDateTimeField(label=gettext_lazy("From"), widget=AdminSplitDateTime())
    end = forms.SplitDateTimeField(label=gettext_lazy("To"), widget=AdminSplitDateTime())
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"), required=False, min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY
    )
    #: How many runs the person has been told of.
    sure = forms.IntegerField(required=False, widget=forms.HiddenInput())


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
        label=gettext_lazy("While the last run has not ended"), choices=[(each, each) for each in OVERLAPS]
    )
    catch_up = forms.ChoiceField(
        label=gettext_lazy("After downtime"), choices=[(each, each) for each in CATCH_UPS], initial="one"
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
        name: str = self.cleaned_data["name"]
        if Schedule.objects.filter(name=name).exists():
            raise forms.ValidationError(_("There is a schedule of this name."))
        return name

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
