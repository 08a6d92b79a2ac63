"""What was done to a run: a table on its page, and what Django's own History page shows. Newest first.

The entries are the engine's own, so they tell calls from the admin, the terminal and code alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from ..core import clock
from ..core.pretty import printable
from ..insight import history
from ..insight.history import ENGINE, PEOPLE, Entry
from ..states import CANCELLED, FAILED, PARKED, PAUSED
from . import fragments, links

if TYPE_CHECKING:
    from .read_only import ReadOnlyMixin as _Base
else:
    _Base = object

#: Entries on Django's History page, which has nothing else.
_MOST = 500

_VERBS = {
    "cancel": pgettext_lazy("what was done to a run", "cancel"),
    "pause": pgettext_lazy("what was done to a run", "pause"),
    "resume": pgettext_lazy("what was done to a run", "resume"),
    "wake": pgettext_lazy("what was done to a run", "wake"),
    "retry": pgettext_lazy("what was done to a run", "retry"),
    "rerun": pgettext_lazy("what was done to a run", "rerun"),
    "fork": pgettext_lazy("what was done to a run", "fork"),
    "start": pgettext_lazy("what was done to a run", "started"),
    "send": pgettext_lazy("what was done to a run", "send"),
    "park": pgettext_lazy("what was done to a run", "parked"),
    "unpark": pgettext_lazy("what was done to a run", "goes on: a worker knows its code"),
    "fail": pgettext_lazy("what was done to a run", "failed"),
    "time out": pgettext_lazy("what was done to a run", "ran into its deadline"),
    "stop": pgettext_lazy("what was done to a run", "ended, as was decided"),
    "recover": pgettext_lazy("what was done to a run", "taken back from its worker"),
    "hand back": pgettext_lazy("what was done to a run", "handed back by its worker"),
    "continue as new": pgettext_lazy("what was done to a run", "began anew"),
}
#: Of these the state says it already: nothing else can come of them.
_SAID_BY_STATE = {"fail": FAILED, "park": PARKED, "pause": PAUSED, "cancel": CANCELLED}
#: The same with the other run, or the event, that it was about.
_ABOUT = {
    "rerun": pgettext_lazy("what was done to a run", "rerun as {what}"),
    "fork": pgettext_lazy("what was done to a run", "fork as {what}"),
    "start": pgettext_lazy("what was done to a run", "started from {what}"),
    "send": pgettext_lazy("what was done to a run", "send {what}"),
}
_CHANNELS = {
    "admin": gettext_lazy("in the admin"),
    "terminal": gettext_lazy("in a terminal"),
    "code": gettext_lazy("by code"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One entry, as it is drawn."""

    when: SafeString | str
    who: SafeString | str
    what: SafeString | str
    why: str
    actor: str
    key: str


@dataclass(frozen=True, slots=True)
class Told:
    """The entries that are shown, whether there are older ones, and whose they are: `people`, `engine` or all."""

    rows: Sequence[Line]
    left_out: bool
    whose: str


def whose(request: HttpRequest) -> str:
    """Return whose entries are asked for; empty for all."""
    wanted = request.GET.get("who", "")
    return wanted if wanted in (PEOPLE, ENGINE) else ""


def told(
    entries: Sequence[Entry], site: admin.AdminSite, now: datetime, most: int = history.MOST, whose: str = ""
) -> Told:
    """Return the entries as they are drawn."""
    return Told([_line(entry, site, now) for entry in entries[:most]], len(entries) > most, whose)


def _line(entry: Entry, site: admin.AdminSite, now: datetime) -> Line:
    return Line(
        when=fragments.moment(entry.at, now),
        who=_who(entry),
        what=_what(entry, site),
        why=printable(entry.reason),
        actor=entry.actor,
        key=entry.key,
    )


def _who(entry: Entry) -> SafeString | str:
    if entry.actor == ENGINE:
        return _("worker {worker}").format(worker=printable(entry.by)) if entry.by else _("engine")
    channel = _CHANNELS.get(entry.channel, entry.channel)
    if not entry.by:
        return str(channel)
    return format_html('{} <span class="canx-quiet">{}</span>', printable(entry.by), channel)


def verb(name: str) -> str:
    """Return what was done, in the reader's language."""
    return str(_VERBS.get(name, printable(name)))


def _what(entry: Entry, site: admin.AdminSite) -> SafeString | str:
    if entry.verb in _ABOUT and entry.detail:
        other = entry.other
        what = links.run_link(site, other) if other is not None else fragments.name(entry.detail)
        return format_html(str(_ABOUT[entry.verb]), what=what)
    if entry.state and _SAID_BY_STATE.get(entry.verb) == entry.state:
        return fragments.badge(entry.state)
    said = verb(entry.verb)
    if entry.verb == "recover" and entry.detail:
        said = _("worker died: recovery {number}").format(number=entry.detail)
    return format_html("{} {}", said, fragments.badge(entry.state)) if entry.state else said


class HistoryMixin(_Base):
    """Django's History page of a run, with what was done to it from anywhere, and what the engine did."""

    object_history_template = "admin/canx_flow/workflowrun/object_history.html"

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # Django's own view asks who may see it: this one only adds to its context.
        run = self.get_object(request, unquote(object_id))
        more: dict[str, Any] = {"media": self.media}
        if run is not None and self.has_view_permission(request, run):
            entries = history.load(run, _MOST, whose(request))
            entries = entries if self.has_payloads_permission(request) else history.without_reasons(entries)
            more["history"] = told(entries, self.admin_site, clock.now(), _MOST, whose(request))
        return super().history_view(request, object_id, {**more, **(extra_context or {})})
