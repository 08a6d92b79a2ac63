"""What the admin shows of a schedule, in the list and on its page. A base of its admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from ..client import schedules as client
from ..core.naming import label
from ..core.pretty import printable
from ..insight.schedules import Standing, Upcoming, noted, standing
from ..models import Schedule
from . import fragments, links

_SHOWN = 10
_STATES = {
    "active": pgettext_lazy("schedule", "active"),
    "paused": pgettext_lazy("schedule", "paused"),
    "orphaned": pgettext_lazy("schedule", "not declared"),
    "ended": pgettext_lazy("schedule", "ended"),
}


class ScheduleColumns:
    """The columns of the list and the fields of the page."""

    admin_site: Any

    @admin.display(description=gettext_lazy("schedule"))
    def named(self, row: Schedule) -> str:
        return printable(row.name)

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: Schedule) -> SafeString:
        return fragments.badge(standing(row).state, _STATES)

    @admin.display(description=pgettext_lazy("schedule", "rule"))
    def rule(self, row: Schedule) -> SafeString:
        return fragments.name(standing(row).scheduled.rule)

    @admin.display(description=gettext_lazy("time zone"))
    def zone(self, row: Schedule) -> str:
        return standing(row).scheduled.recurrence.tz

    @admin.display(description=gettext_lazy("workflow"))
    def starts(self, row: Schedule) -> SafeString:
        return fragments.link(
            links.workflow_page(self.admin_site, row.workflow), fragments.name(label(row.workflow, row.version))
        )

    @admin.display(description=gettext_lazy("overlap"))
    def overlap(self, row: Schedule) -> SafeString:
        return fragments.name(standing(row).scheduled.overlap)

    @admin.display(description=gettext_lazy("after downtime"))
    def catch_up(self, row: Schedule) -> SafeString:
        return fragments.name(standing(row).scheduled.catch_up)

    @admin.display(description=gettext_lazy("next tick"), empty_value="")
    def next_tick(self, row: Schedule) -> SafeString | str:
        return "" if row.paused or row.orphaned_at is not None else fragments.due(row.next_at)

    @admin.display(description=gettext_lazy("last run"), empty_value="")
    def last(self, row: Schedule) -> SafeString | str:
        run = row.last_run
        if run is None:  # There was none, or it was pruned.
            return fragments.moment(row.last_at)
        return format_html("{} {}", links.run_link(self.admin_site, run.id), fragments.badge(run.state))

    @admin.display(description=gettext_lazy("skipped"), empty_value="")
    def left_out(self, row: Schedule) -> SafeString | str:
        """Say how many of the last ticks started nothing, why, and since when."""
        said = standing(row).skips
        if not said:
            return ""
        return format_html(_("{skips} The first: {when}."), skips=said, when=fragments.moment(row.skipped_since))

    @admin.display(description=gettext_lazy("paused by"), empty_value="")
    def held_by(self, row: Schedule) -> SafeString | str:
        """Say by whom, when and, to those who may see reasons, why."""
        if not row.paused:
            return ""
        note = printable(row.note) if row.__dict__.get("_payloads") else ""
        return format_html("{} {} {}", printable(row.paused_by), fragments.moment(row.paused_at), note)

    @admin.display(description=gettext_lazy("next ticks"), empty_value="")
    def upcoming(self, row: Schedule) -> SafeString | str:
        """List the next moments in the schedule's zone and in the reader's."""
        each: Standing = standing(row)
        ticks = noted(client.upcoming_ticks(row.name, _SHOWN), each.scheduled.recurrence.zone)
        rows = format_html_join("", '<li>{} {} <span class="canx-quiet">{}</span></li>', map(_line, ticks))
        return format_html('<ul class="canx-list">{}</ul>', rows) if ticks else ""


def _line(tick: Upcoming) -> tuple[Any, ...]:
    """Return a moment in the schedule's zone, in the reader's where that is another, and what the clocks do."""
    own = f"{tick.nominal:%Y-%m-%d %H:%M:%S %Z}"
    local = timezone.localtime(tick.nominal)
    readers = "" if local.utcoffset() == tick.nominal.utcoffset() else f"({local:%Y-%m-%d %H:%M:%S %Z})"
    later = fragments.due(tick.due_at) if tick.is_moved else ""
    return own, format_html("{} {}", readers, later), tick.note
