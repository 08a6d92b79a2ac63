"""What every admin of ours has in common: the right database, nothing to add, change or delete, our style sheet.

The engine alone writes its tables: a row changed by hand would be written over, or break a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from .. import conf
from .counting import CappedPaginator

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:
    _Base = object


#: Columns whose values are shown through `REDACT` alone: a filter on one would tell what is hidden, bit by bit.
_REDACTED = frozenset({"arguments", "result", "error", "payload"})


class LeanList(ChangeList):
    """A page of a list, without the columns that may hold megabytes and are not shown there."""

    model_admin: Any

    def get_queryset(self, request: HttpRequest, *arguments: Any, **keywords: Any) -> QuerySet[Any]:
        return super().get_queryset(request, *arguments, **keywords).defer(*self.model_admin.unlisted)


class ReadOnlyMixin(_Base):
    """To be looked at only, and in the database that CANX_FLOW["DATABASE"] names."""

    #: Columns that the list does not load.
    unlisted: tuple[str, ...] = ()

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count the whole table, once per choice

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(conf.get().database)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002
        return LeanList

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Refuse look-ups by other columns: Django takes `?any_column__contains=…` from every user of the list."""
        if lookup.partition("__")[0] in _REDACTED or "\0" in str(
            value
        ):  # PostgreSQL takes no NUL, not even to compare.
            return False
        return super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    @property
    def media(self) -> forms.Media:
        # Not an inner class Media, which an admin that inherits from this may replace with its own.
        return super().media + forms.Media(css={"all": ["canx_flow/admin.css"]})
