"""Runs as JSON, for programs: one with all that its page shows, and a page of the list. Mixed into the admin of runs.

The names are those of `flow show --json` and `flow list --json`; what a user may not see is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import URLPattern, path

from .. import conf
from ..exceptions import RunNotFound
from ..insight import reading, timeline, windows
from ..insight.windows import Window
from ..management import facts
from ..models import Event, StepRecord, Timer, WorkflowRun
from . import links
from .acting import ActingMixin
from .page import number

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The parts of a run's JSON, by the model whose rows they tell of.
_PARTS: Mapping[type[Model], Sequence[str]] = {StepRecord: ("steps",), Timer: ("waits",), Event: ("events",)}


class JsonMixin(ActingMixin):
    """An address for the JSON of a run, and one for that of a list."""

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_list_json"
        listed = path("json/", self.admin_site.admin_view(self.list_json_view), name=name)
        return [listed, self.own_page("json", self.json_view), *super().get_urls()]

    def has_json_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        """Tell whether the user may have a run whole: as JSON there is nothing of it that is no payload."""
        return self.has_view_permission(request, obj) and bool(request.user.has_perm("canx_flow.view_payloads"))

    def json_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer with a run as JSON. A value of megabytes is not in it, but its address is; so with earlier steps."""
        return self.with_run(request, object_id, partial(self.has_json_permission, request), self._run_as_json)

    def list_json_view(self, request: HttpRequest) -> HttpResponse:
        """Answer with the runs that the list shows at the same address, filtered and paged alike."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            changelist = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseBadRequest("a filter is not understood", content_type="text/plain")
        payloads = bool(request.user.has_perm("canx_flow.view_payloads"))
        return _answer(facts.text(list(_described([run.id for run in changelist.result_list], payloads))), "runs")

    def _run_as_json(self, request: HttpRequest, run: WorkflowRun) -> HttpResponse:
        try:
            part = windows.up_to(number(request, "before"))
            found = timeline.load(run.id, results=True, characters=facts.READ, most=windows.ROWS, wanted=part)
        except RunNotFound as gone:  # Deleted in this very moment.
            raise Http404(str(gone)) from gone
        described = facts.of_timeline(found, partial(self._left_out, request, run))
        hidden = {part for model, parts in _PARTS.items() if not links.may_look(request.user, model) for part in parts}
        shown = {name: None if name in hidden else value for name, value in described.items()}
        older = self._older(request, run, found.window) if "steps" not in hidden else {}
        return _answer("\n".join(facts.lines({**shown, **older})), f"run-{run.id}")

    def _older(self, request: HttpRequest, run: WorkflowRun, window: Window) -> dict[str, str]:
        """Return where the steps before these are; nothing if there are none."""
        if window.first <= 1:
            return {}
        url = links.page(self.admin_site, self.model, run.pk, "json")
        return {"next": request.build_absolute_uri(f"{url}?before={window.first}")}

    def _left_out(self, request: HttpRequest, run: WorkflowRun, what: str, length: int) -> dict[str, Any]:
        url = links.page(self.admin_site, self.model, run.pk, "value", what)
        return {"characters": length, "url": request.build_absolute_uri(url)}


def _described(ids: Sequence[Any], payloads: bool) -> Iterator[dict[str, Any]]:
    """Yield what is said of each run in a list, in its order."""
    alias = conf.get().database
    rows = WorkflowRun.objects.using(alias).filter(id__in=ids).only(*facts.LISTED)
    runs = {run.id: run for run in rows}
    waits = reading.first_waits(alias, list(runs))
    failing = reading.failing(alias, waits, concealed=not payloads)
    for run in (runs[run_id] for run_id in ids if run_id in runs):
        yield facts.of_run(run, waits.get(run.id), failing.get(run.id), payloads=payloads)


def _answer(text: str, name: str) -> HttpResponse:
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": f'inline; filename="{name}.json"'}
    return HttpResponse(text, content_type="application/json", headers=headers)
