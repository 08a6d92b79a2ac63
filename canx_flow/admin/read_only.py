"""What every admin of ours has in common: the right database, nothing to add, change or delete, our style sheet.

The engine alone writes its tables: a row changed by hand would be written over, or break a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from .. import conf
from .counting import CappedPaginator

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:
    _Base = object


class ReadOnlyMixin(_Base):
    """To be looked at only, and in the database that CANX_FLOW["DATABASE"] names."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count the whole table, once per choice

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(conf.get().database)

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
