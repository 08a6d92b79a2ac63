"""Buttons on a run's page and actions of the list, each behind a permission, a page that asks, and a POST.

Mixed into the admin of runs. What the verbs mean is in `verbs`; here are only requests and answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from .. import conf
from ..exceptions import RunNotFound
from ..models import WorkflowRun
from . import audit, bulk, confirming, links
from .confirming import ReasonForm
from .verbs import CANCEL, RETRY, Verb

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[WorkflowRun]
else:
    _Base = object

#: Outcomes of many runs, counted.
_COUNTED = {
    "cancelled": ngettext_lazy("%d cancelled", "%d cancelled"),
    "stopping": ngettext_lazy("%d is being cancelled", "%d are being cancelled"),
    "ended": ngettext_lazy("%d already finished", "%d already finished"),
    "ending": ngettext_lazy("%d already stopping", "%d already stopping"),
    "retried": ngettext_lazy("%d goes on", "%d go on"),
    "other": ngettext_lazy("%d neither failed nor parked", "%d neither failed nor parked"),
    "forbidden": ngettext_lazy("%d that you may not change", "%d that you may not change"),
}
#: The same of runs that were left alone, where that is all there is to say.
_LEFT_ALONE = {
    "ended": ngettext_lazy("%d run has already finished", "%d runs have already finished"),
    "ending": ngettext_lazy("%d run is already stopping", "%d runs are already stopping"),
    "other": ngettext_lazy("%d run is neither failed nor parked", "%d runs are neither failed nor parked"),
}


class ActingMixin(_Base):
    """Cancel and retry, for one run and for many."""

    verbs: tuple[Verb, ...] = (CANCEL, RETRY)
    actions = ("cancel_runs", "retry_runs")
    #: Runs that one action of the list changes at most; done again, it goes on with the rest.
    bulk_limit = 10_000
    confirm_template = "admin/canx_flow/workflowrun/confirm.html"

    # -- who may ---------------------------------------------------------------------------------------

    def has_cancel_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, CANCEL, obj)

    def has_retry_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, RETRY, obj)

    def has_verb_permission(self, request: HttpRequest, verb: Verb, obj: WorkflowRun | None = None) -> bool:
        """Tell whether the user may call this verb, as `has_cancel_permission` and the like do."""
        return bool(getattr(self, f"has_{verb.name}_permission")(request, obj))

    def _may(self, request: HttpRequest, verb: Verb, obj: WorkflowRun | None) -> bool:
        granted = request.user.has_perm(f"{self.opts.app_label}.{verb.permission}")
        return granted and self.has_view_permission(request, obj)

    # -- one run ---------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<path:object_id>/{verb.name}/",
                self.admin_site.admin_view(partial(self.act_view, verb=verb)),
                name=f"{self.opts.app_label}_{self.opts.model_name}_{verb.name}",
            )
            for verb in self.verbs
        ]
        return [*own, *super().get_urls()]

    def act_view(self, request: HttpRequest, object_id: str, *, verb: Verb) -> HttpResponse:
        """Ask on GET, act on POST."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        if not self.has_verb_permission(request, verb):
            raise PermissionDenied
        run = self.get_object(request, unquote(object_id))
        if run is None:
            return self._nothing(request, _("There is no such run."), None)
        if not self.has_verb_permission(request, verb, run):
            raise PermissionDenied
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            return self._act(request, run, verb, form.cleaned_data["reason"])
        if not verb.applies(run.state):
            return self._nothing(request, verb.outcome(run.state, False).said, run)
        return self._ask(request, {**confirming.one(verb, run.state), "form": form, "run": run})

    def _act(self, request: HttpRequest, run: WorkflowRun, verb: Verb, reason: str) -> HttpResponse:
        try:
            # Where they share a database, what was done and the entry that says so stand or fall together.
            with transaction.atomic(using=conf.get().database):
                outcome = verb.one(run.pk, reason, request.user)
                audit.log(request, [(run, outcome)], reason)
        except RunNotFound as gone:
            return self._nothing(request, str(gone), None)
        self.message_user(request, outcome.said, messages.SUCCESS if outcome.changed else messages.WARNING)
        return HttpResponseRedirect(self._back(request, run))

    def _nothing(self, request: HttpRequest, why: str, run: WorkflowRun | None) -> HttpResponse:
        self.message_user(request, why, messages.WARNING)
        return HttpResponseRedirect(self._back(request, run))

    def _back(self, request: HttpRequest, run: WorkflowRun | None) -> str:
        """Redirect to the run's page, or to the list with its filters."""
        filters = self.get_preserved_filters(request)
        if run is None:
            return links.listing(self.admin_site, self.model) or ""
        url = links.page(self.admin_site, self.model, run.pk) or ""
        return f"{url}?{filters}" if filters else url

    # -- many runs -------------------------------------------------------------------------------------

    @admin.action(permissions=["cancel"], description=gettext_lazy("Cancel selected %(verbose_name_plural)s"))
    def cancel_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, CANCEL)

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry selected %(verbose_name_plural)s"))
    def retry_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, RETRY)

    def act_on(self, request: HttpRequest, queryset: QuerySet[WorkflowRun], verb: Verb) -> HttpResponse | None:
        """Ask first; once that is confirmed, act, and go back to the list."""
        if not self.has_verb_permission(request, verb):
            raise PermissionDenied
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        queryset = self._chosen(request, queryset)
        counts = bulk.by_state(queryset)
        if not any(map(verb.applies, counts)):
            self.message_user(request, self._nothing_to_do(verb, counts), messages.WARNING)
            return None
        if not form.is_valid():
            return self._ask(request, {**confirming.many(verb, counts, self.bulk_limit, request), "form": form})
        done = self._act_on_all(request, queryset, verb, form.cleaned_data["reason"])
        rest = {state: number for state, number in counts.items() if not verb.applies(state)}
        self.message_user(request, self._summary(verb, done, rest), messages.SUCCESS)
        self._say_what_is_left(request, sum(counts.values()) - sum(rest.values()))
        return None

    def _chosen(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> QuerySet[WorkflowRun]:
        """Return the runs that were ticked; the list's filters may have dropped one since."""
        ticked = confirming.ticked(request)
        return self.get_queryset(request).filter(pk__in=ticked) if ticked else queryset

    def _act_on_all(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], verb: Verb, reason: str
    ) -> Counter[str]:
        total: Counter[str] = Counter()
        for ids in bulk.batches(verb, queryset, self.bulk_limit):
            allowed, forbidden = bulk.permitted(ids, partial(self.has_verb_permission, request, verb))
            with transaction.atomic(using=conf.get().database):  # As for one run: with the entries that say so.
                done = bulk.perform(verb, allowed, reason, request.user)
                audit.log(request, done, reason)
            total += bulk.count(done) + Counter(forbidden=forbidden)
        return total

    def _summary(self, verb: Verb, done: Counter[str], rest: Mapping[str, int]) -> str:
        """Write `12 cancelled, 3 already finished`."""
        return _listed(_COUNTED, done + _left_alone(verb, rest))

    def _nothing_to_do(self, verb: Verb, counts: Mapping[str, int]) -> str:
        """Write `Nothing to retry: 1 run is neither failed nor parked.`"""
        why = _listed(_LEFT_ALONE, _left_alone(verb, counts)) or _("the chosen runs are no longer there")
        return str(verb.texts.nothing % {"why": why})

    def _say_what_is_left(self, request: HttpRequest, wanted: int) -> None:
        if wanted > self.bulk_limit:
            number = {"left": wanted - self.bulk_limit, "limit": self.bulk_limit}
            left = _("Left: %(left)d, as at most %(limit)d are taken at once. Do it again for the rest.")
            self.message_user(request, left % number, messages.WARNING)

    # -- the page that asks ----------------------------------------------------------------------------

    def _ask(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        run = context.get("run")
        return TemplateResponse(
            request,
            self.confirm_template,
            {
                **self.admin_site.each_context(request),
                **context,
                "opts": self.opts,
                "media": self.media,
                "crumbs_as_list": confirming.crumbs_as_list(),
                "run_url": links.page(self.admin_site, self.model, run.pk) if run is not None else None,
                "back": self._back(request, run) if run is not None else request.get_full_path(),
            },
        )


def _left_alone(verb: Verb, states: Mapping[str, int]) -> Counter[str]:
    """Count the runs in each of these states as not changed."""
    counted: Counter[str] = Counter()
    for state, number in states.items():
        counted[verb.outcome(state, False).code] += number
    return counted


def _listed(words: Mapping[str, Any], counted: Counter[str]) -> str:
    return ", ".join(str(said % counted[code]) for code, said in words.items() if counted[code])
