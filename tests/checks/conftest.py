"""Fixtures of the check tests: nobody else's workflows, and databases that exist in the settings only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections
from pytest_django import Settings

from canx_flow.core import registry
from canx_flow.store.db import engine as engine_connections

Alias = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests declare workflows, some with bodies that deserve a warning."""
    monkeypatch.setattr(registry, "_workflows", {})
    monkeypatch.setattr(registry, "_executions", {})


@pytest.fixture
def judged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alias]:
    """`judged("sqlite3", OPTIONS={…})`: an entry of DATABASES in which the engine works. Nothing connects to it."""

    def add(engine: str, alias: str = "default", **given: Any) -> str:
        entry = {**django_settings.DATABASES["default"], "NAME": "judged", "OPTIONS": {}, **given}
        engine = engine if "." in engine else f"django.db.backends.{engine}"
        monkeypatch.setitem(django_settings.DATABASES, alias, {**entry, "ENGINE": engine})
        before = getattr(connections._connections, alias, None)
        if kept.setdefault(alias, before) is not before:
            engine_connections.reset(before)
        if before is not None:
            del connections[alias]
        settings.CANX_FLOW = {"DATABASE": alias}
        return alias

    kept: dict[str, Any] = {}
    yield add
    for alias, connection in kept.items():
        if hasattr(connections._connections, alias):
            # Its own close() would leave one in memory open.
            engine_connections.reset(connections[alias])
            del connections[alias]
        if connection is not None:
            connections[alias] = connection
