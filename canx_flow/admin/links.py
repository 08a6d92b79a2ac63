"""Links to the pages of runs, workers and subjects on one AdminSite. Called by the lists and pages that draw them.

A link is given only to a model that is registered on the same site; to a subject or a worker, only to who may view it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.admin.utils import quote
from django.db import DatabaseError
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core.identity import find_subject
from ..core.pretty import printable
from ..models import WorkflowRun
from . import fragments

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite


def page(site: AdminSite, model: type[Model], key: object, what: str = "change", *more: str) -> str | None:
    """Return the address of an object's page, or of one of its other views."""
    if not site.is_registered(model):
        return None
    return reverse(
        f"admin:{model._meta.app_label}_{model._meta.model_name}_{what}",
        args=[quote(str(key)), *more],
        current_app=site.name,
    )


def listing(site: AdminSite, model: type[Model]) -> str | None:
    if not site.is_registered(model):
        return None
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist", current_app=site.name)


def workflow_page(site: AdminSite, name: str) -> str | None:
    """Return the address of the page of a workflow."""
    if not site.is_registered(WorkflowRun):
        return None
    return reverse("admin:canx_flow_workflowrun_workflow", args=[name], current_app=site.name)


def run_link(site: AdminSite, run_id: Any, text: str | None = None) -> SafeString:
    """Draw a link to a run by its short id."""
    return fragments.link(page(site, WorkflowRun, run_id), text or fragments.short_id(run_id))


def may_view(site: AdminSite, model: type[Model] | None, request: HttpRequest, thing: Model | None = None) -> bool:
    """Tell whether a link to it would lead this user anywhere."""
    if model is None or not site.is_registered(model):
        return False
    return bool(site.get_model_admin(model).has_view_permission(request, thing))


def may_look(user: Any, model: type[Model]) -> bool:
    """Tell whether the user may see rows of a model of ours, be it registered on a site or not."""
    return bool(user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"))


def attach_permissions(site: AdminSite, runs: Iterable[WorkflowRun], request: HttpRequest) -> None:
    """Have every run of a page know whether this person may view its subject; asked once for each model."""
    runs = list(runs)
    may = {label: may_view(site, _model(label), request) for label in {run.subject_type for run in runs}}
    for run in runs:
        run.__dict__["_subject_permitted"] = may[run.subject_type]


def is_permitted(run: WorkflowRun) -> bool:
    """Return what `attach_permissions` found; `False` for a run that it was not called for."""
    return bool(run.__dict__.get("_subject_permitted"))


def subject_link(site: AdminSite, run: WorkflowRun, *, seen: bool) -> SafeString | str:
    """Draw the object that a run was started for, by its kind and key: a link if it may be seen. Makes no query."""
    if not run.subject_type:
        return ""
    model = _model(run.subject_type)
    if model is None:
        return format_html("{} {}", printable(run.subject_type), printable(run.subject_id))
    # A composite key is stored as JSON, and is not how an admin's address spells it.
    url = None if not seen or run.subject_id.startswith("[") else page(site, model, run.subject_id)
    return fragments.link(url, f"{model._meta.verbose_name} {printable(run.subject_id)}")


def subject_named(site: AdminSite, run: WorkflowRun, request: HttpRequest) -> SafeString | str:
    """Draw the same with the object's own `str()`, for users who may view it."""
    model = _model(run.subject_type)
    plain, linked = (subject_link(site, run, seen=seen) for seen in (False, True))
    if not may_view(site, model, request):
        return plain
    try:
        subject = find_subject(run.subject_type, run.subject_id)
        if subject is None:
            return format_html("{} ({})", linked, _("no longer there"))
        if not may_view(site, model, request, subject):
            return plain
        return format_html("{}: {}", linked, printable(str(subject)))
    except (DatabaseError, ValueError, TypeError):  # its table may be gone, its key may be no key any more
        return linked


def _model(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None
