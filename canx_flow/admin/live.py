"""Pages that refresh themselves: what the script `live.js` asks for, and what of that is answered without drawing.

The script asks for the address of its page anew, with a header that says so, and with the tag of what it shows. What
that tag is made of is read by a few queries. If it is the same, the answer is "not modified", and nothing is drawn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Min, Model, Q, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..core import clock
from ..insight import reading, speech
from ..models import Event, RunHistory, StepRecord, Timer, WorkflowRun
from ..states import ENDED, RecordState
from ..store import host
from . import banner

if TYPE_CHECKING:
    from .read_only import ReadOnlyMixin as _Base
else:
    _Base = object

#: The header by which the script asks; without it everybody is given the page, tagged or not.
HEADER = "X-Canx-Live"
#: Seconds between two questions: about a run, about one that has ended, about a list.
RUN, ENDED_RUN, LIST = 2, 10, 5
#: And about all runs: what such a page reads takes longer.
OVERVIEW = 10
#: Seconds after which a page is drawn anew although nothing of its tag has changed: a wait may be over by now, what a
#: run waits for may be another's.
_DRAWN, _ENDED_DRAWN = 10, 60
#: Children whose states a page shows.
_CHILDREN = 20


def is_asked(request: HttpRequest) -> bool:
    """Tell whether the script asks, and not a person."""
    return HEADER in request.headers


class LiveMixin(_Base):
    """Lists and pages that refresh themselves."""

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_banner"
        return [path("banner/", self.admin_site.admin_view(self.banner_view), name=name), *super().get_urls()]

    def banner_view(self, request: HttpRequest) -> HttpResponse:
        """Answer the script with the banner, for pages that have nothing else of ours."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        tag = _tag(request, [_moment(_DRAWN)])
        return _answered(request, TemplateResponse(request, "admin/canx_flow/banner_alone.html"), tag)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Answer the script with the list, unless it has it; a person as ever."""
        if not is_asked(request):
            return super().changelist_view(request, extra_context)
        # What the site has to say to its user is said on a page that a person asks for: here it would be lost.
        answer = super().changelist_view(request, {**(extra_context or {}), "messages": ()})
        changelist = (getattr(answer, "context_data", None) or {}).get("cl")
        # Neither the reasons nor the counts of the tabs have been read yet: the list is drawn later.
        return answer if changelist is None else _answered(request, answer, _tag(request, list(_of_list(changelist))))

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Draw the page, with its own context. Django calls it once the user's permission to view it is certain."""
        tag = _tag(request, list(self.live_facts(obj))) if obj is not None and is_asked(request) else ""
        if tag and _has(request, tag):
            return HttpResponseNotModified()
        own = self.page_context(request, obj) if obj is not None else {}
        quiet = {"messages": ()} if tag else {}
        answer = super().render_change_form(request, {**context, **own, **quiet}, add, change, form_url, obj)
        return _answered(request, answer, tag) if tag else answer

    def page_context(self, request: HttpRequest, thing: Any) -> dict[str, Any]:  # noqa: ARG002
        """Return what the templates of the object's page draw beside what every such page has."""
        return {}

    def live_facts(self, thing: Any) -> Iterator[Any]:
        """Yield what the object's page depends on."""
        yield from (_loaded(thing), _moment(_DRAWN))


def overview(request: HttpRequest, draw: Callable[[], TemplateResponse]) -> HttpResponse:
    """Answer a person with the page that `draw` draws; the script only if some seconds have passed since its last."""
    if not is_asked(request):
        return draw()
    tag = _tag(request, [_moment(OVERVIEW)])
    if _has(request, tag):
        return HttpResponseNotModified()
    answer = draw()
    (answer.context_data or {}).update(messages=())  # They wait for a page that a person asks for.
    return _answered(request, answer, tag)


def of_run(run: WorkflowRun) -> Iterator[Any]:
    """Yield what the page of a run depends on: its own row, its worker's, and how many rows there are of the rest."""
    yield from (_loaded(run), _moment(_ENDED_DRAWN if run.state in ENDED else _DRAWN))
    if (worker := run.owner) is not None:
        # Not its heartbeat, which no page of a run shows as long as it is heard of.
        yield worker.state, worker.activity, reading.is_silent(worker, clock.now()), host.is_gone(worker)
    alias = run._state.db
    if reading.is_owned(run):  # Else whoever changes a record changes the run, too.
        records = StepRecord.objects.using(alias).filter(run_id=run.id)
        ways = (RecordState.COMPLETED, RecordState.FAILED)
        by_state = {f"in_{state}": Count("id", filter=Q(state=state)) for state in ways}
        yield records.aggregate(Count("id"), Sum("attempts"), **by_state)
    timers = Timer.objects.using(alias).filter(run_id=run.id)
    held = Count("id", filter=Q(held=True))
    yield timers.aggregate(Count("id"), Max("id"), Min("due_at"), Max("due_at"), held=held)
    unread = Event.objects.using(alias).filter(run_id=run.id, consumed_at__isnull=True)
    yield unread.aggregate(Count("id"), Max("id"))
    yield RunHistory.objects.using(alias).filter(run_id=run.id).aggregate(Max("id"))
    children = WorkflowRun.objects.using(alias).filter(parent_id=run.id).order_by("-id")
    yield list(children.values_list("id", "state", "epoch")[:_CHILDREN])


def seconds(thing: Any) -> int:
    """Return how often a page is asked for that is about this, or about no single thing."""
    if not isinstance(thing, WorkflowRun):
        return LIST
    return ENDED_RUN if thing.state in ENDED else RUN


def words(listed: str = "") -> str:
    """Return what the script says, in the reader's language; `listed`: of what the page is a list, if it is one."""
    new = _new_runs if listed == "workflowrun" else _new_rows
    return json.dumps({
        "turnOff": _("Refreshes by itself: turn that off"), "turnOn": _("Does not refresh by itself: turn that on"),
        "away": _("No answer. Next try in {seconds} s."), "back": _("Live again."),
        "over": _("This page cannot be refreshed any more: open it anew. Perhaps you are logged out."),
        "new": [new(1), new(2)], "left": [_left(1), _left(2)], "show": _("show"),
        "gone": _("No longer in this list"), "moments": speech.patterns(),
    })  # fmt: skip


def _new_runs(number: int) -> str:
    return ngettext("{number} new run", "{number} new runs", number)


def _new_rows(number: int) -> str:
    return ngettext("{number} new row", "{number} new rows", number)


def _left(number: int) -> str:
    return ngettext("{number} is no longer in this list", "{number} are no longer in this list", number)


def _of_list(changelist: Any) -> Iterator[Any]:
    yield from (int(changelist.result_count), _moment(_DRAWN))
    yield from map(_loaded, changelist.result_list)


def _loaded(row: Model) -> dict[str, Any]:
    """Return what has been loaded of a row."""
    return {name: value for name, value in row.__dict__.items() if not name.startswith("_")}


def _moment(seconds: int) -> int:
    return int(clock.now().timestamp() // seconds)


def _tag(request: HttpRequest, facts: Sequence[Any]) -> str:
    """Return the tag of a page: made of what it depends on, for whom it is, and what its banner says.

    With the project's secret: the facts hold what this user may not see, and could be guessed until a tag is the same.
    """
    whose = request.user.pk, request.get_full_path()
    known = repr((whose, _alarms(), facts)).encode("utf-8", "backslashreplace")
    return f'W/"{salted_hmac("canx_flow.admin.live", known, algorithm="sha256").hexdigest()[:24]}"'


def _alarms() -> list[tuple[str, str, str]]:
    """Return what the banner says without its numbers: those are as old as the page."""
    return [(line.level, re.sub(r"[\d.,]+", "", line.text), line.command) for line in banner.lines()]


def _has(request: HttpRequest, tag: str) -> bool:
    """Tell whether the script has it. What compresses the answer may have made a weak tag of it, which ours are."""
    return tag in request.headers.get("If-None-Match", "")


def _answered(request: HttpRequest, answer: HttpResponse, tag: str) -> HttpResponse:
    if _has(request, tag):
        return HttpResponseNotModified()
    if answer.status_code == 200:
        answer.headers["ETag"] = tag
        answer.headers[HEADER] = "1"
    return answer
