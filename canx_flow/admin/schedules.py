"""The admin of schedules: when each ticks next, what its last run is, and what may be done with it.

Everything that is done needs `manage_schedule`, a page that asks, and a POST, and is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import conf
from ..client import schedules as client
from ..core import channel
from ..exceptions import AlreadyStarted, CanxFlowError
from ..insight.speech import number
from ..models import Schedule, WorkflowRun
from ..store import schedules as store
from . import answering, audit, confirming, links
from .live import LiveMixin
from .read_only import ReadOnlyMixin
from .schedule_columns import ScheduleColumns
from .schedule_forms import BackfillForm, NoteForm, ScheduleForm, TriggerForm
from .verbs import ReasonForm, Words

_MANAGE = "canx_flow.manage_schedule"
_VERBS = {
    "pause": Words("pause", gettext_lazy("Pause"), gettext_lazy("Pause this schedule?"), gettext_lazy("Pause it")),
    "resume": Words("resume", gettext_lazy("Resume"), gettext_lazy("Resume this schedule?"), gettext_lazy("Resume it")),
    "trigger": Words(
        "trigger", gettext_lazy("Trigger"), gettext_lazy("Start a run of this schedule now?"), gettext_lazy("Start it")
    ),
    "backfill": Words(
        "backfill", gettext_lazy("Backfill"), gettext_lazy("Start runs of ticks that have none?"),
        gettext_lazy("Go on"),
    ),
    "add": Words("add", gettext_lazy("Add a schedule"), gettext_lazy("Add a schedule"), gettext_lazy("Add it")),
}  # fmt: skip
_ABOUT = {
    "pause": gettext_lazy("It does not tick until it is resumed. What has started goes on."),
    "resume": gettext_lazy("It ticks at the moments that are to come; those that have passed are not made up for."),
    "trigger": gettext_lazy("The run starts beside the ticks, which come as they would have."),
    "backfill": gettext_lazy("Ticks that have a run are left alone. How many runs that starts is said first."),
    "add": gettext_lazy("It ticks as one that is declared in code, and stays until it is deleted."),
}


class ScheduleAdminMixin(ScheduleColumns, LiveMixin, ReadOnlyMixin):
    """Everything about schedules but the ModelAdmin itself."""

    change_list_template = "admin/canx_flow/schedule/change_list.html"
    change_form_template = "admin/canx_flow/schedule/change_form.html"
    confirm_template = "admin/canx_flow/schedule/confirm.html"
    list_display = ("named", "state_badge", "rule", "starts", "next_tick", "last", "left_out")
    ordering = ("name",)
    sortable_by = ()
    fields = (
        "named", "state_badge", "held_by", "rule", "zone", "starts", "overlap", "catch_up", "last",
        "left_out", "upcoming",
    )  # fmt: skip
    readonly_fields = fields

    # -- who may do what ---------------------------------------------------------------------------------

    def has_manage_permission(self, request: HttpRequest, obj: Schedule | None = None) -> bool:
        """Tell whether the user may pause, resume, trigger, fill in and add schedules."""
        return bool(request.user.has_perm(_MANAGE)) and self.has_view_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Schedule | None = None) -> bool:
        """Allow it for what was made here: what code declares would come again."""
        return obj is not None and obj.origin == Schedule.ADMIN and self.has_manage_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Have each know the state of its last run: read for all of them at once, without what that was given."""
        last = WorkflowRun.objects.using(conf.get().database).only("id", "state")
        return super().get_queryset(request).prefetch_related(Prefetch("last_run", queryset=last))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Schedule | None:
        """Have it know whether this user may see why it was paused."""
        row: Schedule | None = super().get_object(request, object_id, from_field)
        if row is not None:
            row.__dict__["_payloads"] = self.has_payloads_permission(request)
        return row

    def get_fields(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        """Leave out by whom it was paused where nobody has."""
        found = super().get_fields(request, obj)
        return found if obj is not None and obj.paused else [name for name in found if name != "held_by"]

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_"
        own = [
            path(
                f"<path:object_id>/{verb}/",
                self.admin_site.admin_view(partial(self.act_view, verb=verb)),
                name=name + verb,
            )
            for verb in ("pause", "resume", "trigger", "backfill")
        ]
        new = path("new/", self.admin_site.admin_view(self.new_view), name=f"{name}new")
        return [new, *own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        more = {
            "title": capfirst(self.opts.verbose_name_plural), "here": "schedules",
            "may_manage": self.has_manage_permission(request),
        }  # fmt: skip
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        buttons = self.buttons(row) if row is not None and self.has_manage_permission(request, row) else []
        return super().change_view(request, object_id, form_url, {"buttons": buttons, **(extra_context or {})})

    def buttons(self, row: Schedule) -> list[dict[str, Any]]:
        """Return what may be done with it as it stands."""
        verbs = ("resume" if row.paused else "pause", "trigger", "backfill")
        return [
            {"name": verb, "label": _VERBS[verb].label, "url": links.page(self.admin_site, Schedule, row.pk, verb)}
            for verb in verbs
        ]

    # -- doing it ----------------------------------------------------------------------------------------

    def act_view(self, request: HttpRequest, object_id: str, *, verb: str) -> HttpResponse:
        """Ask on GET, act on POST."""
        if (refused := answering.refused(request, self.has_manage_permission(request))) is not None:
            return refused
        row = self.get_object(request, unquote(object_id))
        if row is None:
            self.message_user(request, _("There is no such schedule."), messages.WARNING)
            return HttpResponseRedirect(links.listing(self.admin_site, Schedule) or "../../")
        form = _FORMS.get(verb, NoteForm)(request.POST if request.method == "POST" else None)
        about = str(_ABOUT[verb])
        if form.is_valid():
            try:
                done = _DO[verb](self, request, row, form)
            except (ValueError, TypeError, CanxFlowError) as error:
                form.add_error(None, str(error))
            else:
                if done is None:
                    return HttpResponseRedirect(links.page(self.admin_site, Schedule, row.pk) or "../../")
                about = done
        return self._ask(request, verb, form, about, row)

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a schedule on GET, add it on POST."""
        if (refused := answering.refused(request, self.has_manage_permission(request))) is not None:
            return refused
        form = ScheduleForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            alias = conf.get().database
            with transaction.atomic(using=alias), channel.via(channel.ADMIN):
                row = store.add(alias, form.scheduled)
                if row is not None:
                    audit.note(request, [row], "Added.")
            if row is not None:
                self.message_user(request, _("The schedule was added."), messages.SUCCESS)
                return HttpResponseRedirect(links.page(self.admin_site, Schedule, row.pk) or "../")
            form.is_taken()  # Another has added it in this very moment.
        return self._ask(request, "add", form, str(_ABOUT["add"]), None)

    def _ask(
        self, request: HttpRequest, verb: str, form: ReasonForm, about: str, row: Schedule | None
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        page = links.page(self.admin_site, Schedule, row.pk) if row is not None else None
        words = _VERBS[verb]
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "media": self.media + form.media,
            "verb": {"texts": words}, "title": words.question, "form": form, "yes": words.yes, "about": about,
            "writes_title": self.writes_title, "run": row, "run_url": page, "original": row,
            "back": page or links.listing(self.admin_site, Schedule),
            "crumbs_as_list": confirming.crumbs_as_list(),
        }  # fmt: skip
        return TemplateResponse(request, self.confirm_template, context)

    def _pause(self, request: HttpRequest, row: Schedule, form: ReasonForm) -> None:
        reason = form.cleaned_data["reason"]
        done = self._noted(request, row, "Paused.", reason, lambda: client.pause(row.name, reason, by=request.user))
        answering.say(self, request, done, _("The schedule is paused."))

    def _resume(self, request: HttpRequest, row: Schedule, form: ReasonForm) -> None:
        reason = form.cleaned_data["reason"]
        done = self._noted(request, row, "Resumed.", reason, lambda: client.resume(row.name, by=request.user))
        answering.say(self, request, done, _("The schedule ticks again."))

    def _trigger(self, request: HttpRequest, row: Schedule, form: ReasonForm) -> None:
        reason, once = form.cleaned_data["reason"], form.cleaned_data["once"]
        try:
            run_id = self._noted(
                request, row, "Triggered.", reason,
                lambda: client.trigger(row.name, reason, by=request.user, once=once),
            )  # fmt: skip
        except AlreadyStarted as there:  # By the first of two clicks.
            run_id = there.run_id
        run = links.run_link(self.admin_site, run_id)
        answering.say(self, request, True, format_html(_("Started: {run}"), run=run))

    def _backfill(self, request: HttpRequest, row: Schedule, form: ReasonForm) -> str | None:
        """Say how many runs that would be; start them once the person has been told this very number."""
        given = form.cleaned_data
        count = len(client.missing(row.name, given["start"], given["end"]))
        if given["sure"] != count or not count:
            form.data = {**request.POST.dict(), "sure": str(count)}
            said = ngettext("{number} tick has no run.", "{number} ticks have no run.", count)
            again = _("Go on to start them.") if count else ""
            return f"{said.format(number=number(count))} {again}".strip()
        reason, priority = given["reason"], given["priority"]
        ids = self._noted(
            request, row, "Backfilled.", reason,
            lambda: client.backfill(
                row.name, given["start"], given["end"], priority=priority, reason=reason, by=request.user
            ),
        )  # fmt: skip
        said = ngettext("{number} run was started.", "{number} runs were started.", len(ids))
        answering.say(self, request, True, said.format(number=number(len(ids))))
        return None

    def _noted(self, request: HttpRequest, row: Schedule, message: str, reason: str, call: Callable[[], Any]) -> Any:
        """Do it, and log it if it has changed anything: of two who do the same, the first one."""
        with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
            found = call()
            if found:
                audit.note(request, [row], message, reason)
        return found


_FORMS: dict[str, type[ReasonForm]] = {"backfill": BackfillForm, "trigger": TriggerForm}
_DO: dict[str, Callable[..., str | None]] = {
    "pause": ScheduleAdminMixin._pause,
    "resume": ScheduleAdminMixin._resume,
    "trigger": ScheduleAdminMixin._trigger,
    "backfill": ScheduleAdminMixin._backfill,
}


class ScheduleAdmin(ScheduleAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Schedules, as they are registered unless a project registers an admin of its own."""
