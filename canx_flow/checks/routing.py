"""Checks of a second database, and of the routers that share the tables out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's name
from django.db import DEFAULT_DB_ALIAS, router

from .databases import engine_connection, is_used

_ROUTER = "canx_flow.routers.CanxFlowRouter"
_ROUTER_HINT = f"Put the router that comes with canx_flow first: DATABASE_ROUTERS = [{_ROUTER!r}, …]."


@register("canx_flow")
def check_second_database(**_kwargs: Any) -> list[CheckMessage]:
    """Warn that `start()` inside `atomic()` is part of that transaction only on the run's own database."""
    connection = engine_connection()
    if connection is None or connection.alias == DEFAULT_DB_ALIAS or not is_used(DEFAULT_DB_ALIAS):
        return []
    alias = connection.alias
    message = (
        f"Runs live in database {alias!r}: start() inside atomic() is in no transaction with the rows that you write "
        f"to {DEFAULT_DB_ALIAS!r}. If that is rolled back, the run exists all the same."
    )
    hint = (
        f"Start runs in transaction.on_commit(); only atomic(using={alias!r}) holds a start back. If you have seen to "
        f"it, add 'canx_flow.W004' to SILENCED_SYSTEM_CHECKS."
    )
    return [Warning(message, hint=hint, id="canx_flow.W004")]


@register("canx_flow")
def check_routers(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of routers that send the app's models elsewhere: `migrate` and the admin ask them."""
    connection = engine_connection()
    if connection is None:
        return []
    alias = connection.alias
    models = [model for model in apps.get_app_config("canx_flow").get_models() if model._meta.managed]
    kept_out = [model.__name__ for model in models if not router.allow_migrate_model(alias, model)]
    if kept_out:
        message = f"DATABASE_ROUTERS keep tables of canx_flow out of database {alias!r}: {', '.join(kept_out)}."
        return [Error(message, hint=_ROUTER_HINT, id="canx_flow.E012")]
    astray = _sent_elsewhere(alias, models)
    if not astray:
        return []
    message = f"The engine works in database {alias!r}, but DATABASE_ROUTERS send {'; '.join(astray)}."
    return [Warning(message, hint=_ROUTER_HINT, id="canx_flow.W003")]


def _sent_elsewhere(alias: str, models: Collection[Any]) -> list[str]:
    """Say what the routers send to another database than this one."""
    reads = {router.db_for_read(model) for model in models} - {alias}
    writes = {router.db_for_write(model) for model in models} - {alias}
    # Without a second database a project may well have every table everywhere.
    others = [] if alias == DEFAULT_DB_ALIAS else [other for other in settings.DATABASES if other != alias]
    tables = {o for o in others if is_used(o) and any(router.allow_migrate_model(o, model) for model in models)}
    sent = {"reads of its models": reads, "writes of its models": writes, "its tables (migrate)": tables}
    return [f"{what} to {', '.join(map(repr, sorted(to)))}" for what, to in sent.items() if to]
