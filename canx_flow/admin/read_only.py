"""What every admin of ours has in common: the right database, nothing to change by hand, who sees values, our files.

The engine alone writes its tables: a row changed by hand would be written over, or break a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import url_params_from_lookup_dict
from django.core.exceptions import FieldDoesNotExist
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from .. import conf
from . import audit
from .counting import CappedPaginator

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:
    _Base = object


_SCRIPTS = [f"canx_flow/{name}.js" for name in ("admin", "morph", "live", "keys")]
#: Columns that come from a run's code. Shown through `REDACT` alone, and some not even so: a filter on one would tell
#: what is hidden, bit by bit.
_REDACTED = frozenset({
    "arguments", "result", "error", "errors", "error_print", "payload", "progress", "activity", "first_attributes",
})  # fmt: skip
#: Those that a filter may ask for, but of those who may see payloads only.
_PAYLOADS = frozenset({"attributes", "reason", "control_reason", "note"})


class LeanList(ChangeList):
    """A page of a list, without the columns that may hold megabytes and are not shown there."""

    model_admin: Any

    def get_queryset(self, request: HttpRequest, *arguments: Any, **keywords: Any) -> QuerySet[Any]:
        return super().get_queryset(request, *arguments, **keywords).defer(*self.model_admin.unlisted)

    def get_results(self, request: HttpRequest) -> None:
        """Ask for no more rows than were counted, where Django sets no limit because one page holds them all.

        Without a limit, and without statistics, PostgreSQL expects a third of the table, and reads it from end to end.
        """
        super().get_results(request)
        if not self.multi_page:
            self.result_list = self.result_list[: self.result_count]


class ReadOnlyMixin(_Base):
    """To be looked at only, and in the database that CANX_FLOW["DATABASE"] names."""

    #: Columns that the list does not load.
    unlisted: tuple[str, ...] = ()

    #: Whether pages of ours write their title into their content, for a theme whose own templates do not.
    writes_title = False

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count the whole table, once per choice

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(conf.get().database)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002
        return LeanList

    # -- who may see what ------------------------------------------------------------------------------

    def has_payloads_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may see what comes from a run's code: values, errors, attributes, progress, events."""
        return bool(request.user.has_perm("canx_flow.view_payloads"))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Leave out why something was done, for who may not see payloads: Django shows its log as it is."""
        answer = super().history_view(request, object_id, extra_context)
        if not self.has_payloads_permission(request):
            for entry in (getattr(answer, "context_data", None) or {}).get("action_list", ()):
                entry.change_message = audit.without_reason(entry.change_message)
        return answer

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Leave out the filters that look into what the user may not see.

        Those that look into payloads have `of_payloads = True`, others may have the name of a `permission`.
        """
        return [item for item in super().get_list_filter(request) if self._may_filter(request, item)]

    def _may_filter(self, request: HttpRequest, item: Any) -> bool:
        if getattr(item, "of_payloads", False) and not self.has_payloads_permission(request):
            return False
        permission = getattr(item, "permission", None)
        return permission is None or bool(request.user.has_perm(permission))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse what no filter of the list asks: Django takes `?any_column__contains=…` from every user of the list.

        It would read a table from end to end, and tell what is hidden.
        """
        column, *further = lookup.split("__")
        if "\0" in str(value):  # PostgreSQL takes no NUL, not even to compare.
            return False
        parameters, columns = self._filtered(request)
        if lookup in parameters:
            return True
        if column in _PAYLOADS and not self.has_payloads_permission(request):
            return False
        if column in _REDACTED or not _REDACTED.isdisjoint(further):
            return False
        if self._is_column(column) and not any(f"{lookup}__".startswith(f"{name}__") for name in columns):
            return False
        return super().lookup_allowed(lookup, value, request)

    def _filtered(self, request: HttpRequest) -> tuple[set[str], set[str]]:
        """Return the parameters of the list's filters, and the columns of those that a project has added.

        Fields of other models may limit what they refer to: to be chosen in a list of ours.
        """
        items = self.get_list_filter(request)
        columns = {item if isinstance(item, str) else item[0] for item in items if isinstance(item, str | tuple | list)}
        for relation in self.opts.get_fields(include_hidden=True):
            limits = getattr(relation, "limit_choices_to", None)
            if limits and relation.auto_created and not relation.concrete:
                columns |= url_params_from_lookup_dict(limits() if callable(limits) else limits).keys()
        parameters = {getattr(item, "parameter_name", None) or "" for item in items} - {""}
        return parameters, columns | ({self.date_hierarchy} if self.date_hierarchy else set())

    def _is_column(self, name: str) -> bool:
        try:
            self.opts.get_field(name)
        except FieldDoesNotExist:
            return name == "pk"
        return True

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    @property
    def media(self) -> forms.Media:
        # Not an inner class Media, which an admin that inherits from this may replace with its own.
        return super().media + forms.Media(css={"all": ["canx_flow/admin.css", "canx_flow/dashboard.css"]}, js=_SCRIPTS)
