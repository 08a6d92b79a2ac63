"""How schedules stand, for people and programs: read once, drawn by the admin and the terminal.

Called by `flow schedules`, `flow schedule show` and `flowhealth`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.translation import gettext, ngettext

from ..core.cron import first_change
from ..core.recurrence import Tick
from ..core.schedules import Scheduled
from ..core.ticking import ANEW, OVERLAP
from ..models import Schedule
from ..store.schedules import scheduled as of_row
from .speech import number

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Upcoming:
    """One of the next ticks: its nominal moment in the schedule's zone, when it is due, and what the clocks do."""

    nominal: datetime
    due_at: datetime
    note: str
    #: Its share of the window moves it. (Of a time that comes twice, Python says that it equals none of another zone.)
    is_moved: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule's row with what it says."""

    row: Schedule
    scheduled: Scheduled

    @property
    def state(self) -> str:
        """`paused`, `orphaned` (no live worker declares it), `ended` (no tick is to come) or `active`."""
        if self.row.paused:
            return "paused"
        if self.row.orphaned_at is not None:
            return "orphaned"
        return "ended" if self.row.next_at is None else "active"

    @property
    def skips(self) -> str:
        """Why ticks were left out since a run was started last; empty if none was."""
        row = self.row
        if not row.skipped:
            return ""
        given = {"count": number(row.skipped), "run": row.skip_holder}
        if row.skip_reason == OVERLAP:
            return (
                ngettext(
                    "%(count)s tick was skipped: run %(run)s has not ended.",
                    "%(count)s ticks were skipped: run %(run)s has not ended.",
                    row.skipped,
                )
                % given
            )
        if row.skip_reason == ANEW:
            return (
                ngettext(
                    "%(count)s tick was skipped: it waited when the schedule was resumed or changed.",
                    "%(count)s ticks were skipped: they waited when the schedule was resumed or changed.",
                    row.skipped,
                )
                % given
            )
        return (
            ngettext(
                "%(count)s tick was skipped: no worker was there in time.",
                "%(count)s ticks were skipped: no worker was there in time.",
                row.skipped,
            )
            % given
        )


def standing(row: Schedule) -> Standing:
    """Return how the schedule of this row stands."""
    return Standing(row, of_row(row))


def noted(ticks: list[Tick], zone: ZoneInfo) -> list[Upcoming]:
    """Return ticks with a note where the zone's clocks change there."""
    return [
        Upcoming(tick.nominal.astimezone(zone), tick.due_at, _note(tick.nominal, zone), tick.due_at != tick.nominal)
        for tick in ticks
    ]


def _note(moment: datetime, zone: ZoneInfo) -> str:
    """Say what a change of the clocks has to do with this moment; empty if there is nothing."""
    local = moment.astimezone(zone)
    time = local.replace(tzinfo=None)
    if local.fold:
        return gettext("The clocks show this time twice: this is the second time.")
    if time.replace(tzinfo=zone, fold=1).utcoffset() != local.utcoffset():
        return gettext("The clocks show this time twice: this is the first time.")
    changed = first_change(moment - _SECOND, moment, zone)
    return "" if changed is None else gettext("The clocks skip the time right before this.")
