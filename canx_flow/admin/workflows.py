"""The pages of workflows: which there are, and of each what its last runs have done, as a graph and in figures.

Mixed into the admin of runs, whose list and permission they share.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from .. import conf
from ..core import registry
from ..core.pretty import printable
from ..insight import distinct, paths
from ..insight.graph import Graph
from ..models import StepRecord, WorkflowRun
from ..states import COMPLETED
from . import confirming, fragments, graphs, links, words
from .pausing import PausingMixin
from .starting import StartingMixin

_ALL = {"state": "all"}


class WorkflowPagesMixin(PausingMixin, StartingMixin):
    """Two addresses beside the list of runs: `workflows/`, and `workflows/<name>/`."""

    def get_urls(self) -> list[URLPattern]:
        about = f"{self.opts.app_label}_{self.opts.model_name}"
        listed = path("workflows/", self.admin_site.admin_view(self.workflows_view), name=f"{about}_workflows")
        # `path`: a name may have a slash.
        one = path("workflows/<path:name>/", self.admin_site.admin_view(self.workflow_view), name=f"{about}_workflow")
        return [listed, one, *super().get_urls()]

    def workflows_view(self, request: HttpRequest) -> HttpResponse:
        """List the workflows that the code knows, and those that runs were started of."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        names = sorted({*(name for name, _version in registry.identities()), *_met()})
        rows = [(printable(name), self._workflow_url(name), _versions(name), _says(name)[:1]) for name in names]
        return self._drawn(request, "workflows", {"title": _("Workflows"), "rows": rows})

    def workflow_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Show what the last runs of a workflow have done."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        runs = paths.newest(name)
        if not runs and not _versions(name):
            raise Http404(_("There is no such workflow, and no run of it."))
        states = Counter(run.state for run in runs)
        more = {
            "title": printable(name), "says": _says(name), "versions": _versions(name), "number": len(runs),
            "states": [(fragments.badge(state), number) for state, number in states.most_common()],
            "seen": sorted(Counter(_written(run.version) for run in runs).items()), "took": _took(runs),
            "graph": graphs.drawing(self._graph(request, name, runs)) if runs else None,
            "runs_url": f"{links.listing(self.admin_site, WorkflowRun)}?{urlencode({**_ALL, 'workflow': name})}",
            **self.start_context(request, name), **self.pause_context(request, name),
        }  # fmt: skip
        return self._drawn(request, "workflow", more)

    def _graph(self, request: HttpRequest, name: str, runs: list[WorkflowRun]) -> Graph:
        found, one = paths.of_workflow(name, runs), self._one(request, name)
        return found if one is None else paths.with_run(found, one)

    def _one(self, request: HttpRequest, name: str) -> WorkflowRun | None:
        """Return the run that the page is asked to mark, `?run=<id>`, if this user may see it and its steps."""
        if not links.may_look(request.user, StepRecord):
            return None
        try:
            wanted = UUID(request.GET.get("run", ""))
        except ValueError:
            return None
        run = self.get_queryset(request).only("id", "state").filter(pk=wanted, workflow=name).first()
        return run if run is not None and self.has_view_permission(request, run) else None

    def _workflow_url(self, name: str) -> str:
        about = f"admin:{self.opts.app_label}_{self.opts.model_name}_workflow"
        return reverse(about, args=[name], current_app=self.admin_site.name)

    def _drawn(self, request: HttpRequest, template: str, more: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "media": self.media,
            "writes_title": self.writes_title, "crumbs_as_list": confirming.crumbs_as_list(), **more,
        }  # fmt: skip
        return TemplateResponse(request, f"admin/canx_flow/{template}.html", context)


def _met() -> list[str]:
    return [name for name in distinct.values(conf.get().database, "workflow") if name]


def _versions(name: str) -> list[str]:
    """Return the versions that the code here has, as they are written."""
    return [_written(version) for known, version in registry.identities() if known == name]


def _written(version: str) -> str:
    return printable(version) or _("(without a version)")


def _says(name: str) -> list[str]:
    """Return the paragraphs of the docstring of its newest version."""
    known = [workflow for workflow in registry.workflows() if workflow.name == name]
    text = inspect.getdoc(known[-1].function) if known else None
    return [" ".join(part.split()) for part in (text or "").split("\n\n") if part.strip()]


def _took(runs: list[WorkflowRun]) -> list[tuple[str, str]]:
    """Return how long half of the completed runs took, and nineteen of twenty."""
    took = sorted(
        (run.finished_at - run.started_at).total_seconds()
        for run in runs
        if run.state == COMPLETED and run.started_at is not None and run.finished_at is not None
    )
    if not took:
        return []
    return [(label, words.took(took[int(len(took) * share)])) for label, share in (("p50", 0.5), ("p95", 0.95))]
