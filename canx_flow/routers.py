"""Keeps the tables of canx_flow in the database that CANX_FLOW["DATABASE"] names.

    DATABASE_ROUTERS = ["canx_flow.routers.CanxFlowRouter"]

Needed only with a second database. The engine names its database in every query; the router is for `migrate`, for
the admin, and for querysets of your own.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from . import conf

_LABEL = "canx_flow"


class CanxFlowRouter:
    """Answers for canx_flow's own tables, and leaves every other one to the next router."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        return conf.get().database if model._meta.app_label == _LABEL else None

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        return conf.get().database if model._meta.app_label == _LABEL else None

    def allow_relation(self, one: Model, other: Model, **_hints: Any) -> bool | None:
        """Allow relations among its own tables only."""
        if _LABEL not in (one._meta.app_label, other._meta.app_label):
            return None
        return one._meta.app_label == other._meta.app_label

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return db == conf.get().database if app_label == _LABEL else None
