"""The checks of a second database and of routers."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from pytest_django import Settings

from .conftest import Alias

pytestmark = pytest.mark.once
SHIPPED = "canx_flow.routers.CanxFlowRouter"
HERE = "tests.checks.test_routing"


class KeepOut:
    """Allows no table of canx_flow's in the database `other`."""

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return False if (db, app_label) == ("other", "canx_flow") else None


class Split:
    """Sends steps to another database than runs."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **_hints: Any) -> bool | None:
        return (db == "default") == (model_name == "steprecord") if app_label == "canx_flow" else None


class Replica:
    """Reads from `other`, writes to `default`, whatever it is."""

    def db_for_read(self, model: type, **_hints: Any) -> str:
        return "other"

    def db_for_write(self, model: type, **_hints: Any) -> str:
        return "default"


def _found() -> list[CheckMessage]:
    return run_checks(tags=["canx_flow"])


def _use(settings: Settings, database: str, *routers: str) -> None:
    settings.CANX_FLOW = {"DATABASE": database}
    settings.DATABASE_ROUTERS = list(routers)


def test_a_second_database_is_reported_with_its_consequence(settings: Settings) -> None:
    """With the shipped router one warning is left: that start() is in no transaction with the project's own rows."""
    _use(settings, "other", SHIPPED)
    (message,) = _found()
    assert (message.id, message.level) == ("canx_flow.W004", 30)
    assert "'other'" in message.msg
    assert "SILENCED_SYSTEM_CHECKS" in (message.hint or "")


def test_the_second_database_s_warning_can_be_silenced(settings: Settings) -> None:
    """Who has seen to it says so with Django's own setting."""
    _use(settings, "other", SHIPPED)
    settings.SILENCED_SYSTEM_CHECKS = ["canx_flow.W004"]
    assert [message.is_silenced() for message in _found()] == [True]


def test_a_project_without_a_default_database_has_no_two_transactions(judged: Alias, settings: Settings) -> None:
    """Where `default` is empty nobody writes there, so there is nothing to warn of."""
    judged("dummy")
    _use(settings, "other", SHIPPED)
    assert _found() == []


def test_a_second_database_without_the_router_is_reported(settings: Settings) -> None:
    """Queries and migrations would go to `default`: the warning says which, and names the router."""
    _use(settings, "other")
    router = next(message for message in _found() if message.id == "canx_flow.W003")
    assert router.msg == (
        "The engine works in database 'other', but DATABASE_ROUTERS send reads of its models to 'default'; writes of "
        "its models to 'default'; its tables (migrate) to 'default'."
    )
    assert SHIPPED in (router.hint or "")


def test_a_router_before_ours_is_reported(settings: Settings) -> None:
    """The first router that answers decides: the shipped one must come before those that answer for every model."""
    _use(settings, "default", f"{HERE}.Replica", SHIPPED)
    assert [message.id for message in _found()] == ["canx_flow.W003"]
    _use(settings, "default", SHIPPED, f"{HERE}.Replica")
    assert _found() == []


@pytest.mark.parametrize(("router", "tables"), [("KeepOut", "WorkflowRun"), ("Split", "StepRecord")])
def test_tables_that_would_not_be_made_are_an_error(settings: Settings, router: str, tables: str) -> None:
    """A router that allows none of the tables in the engine's database, or only some, is an error that names them."""
    _use(settings, "other", f"{HERE}.{router}", SHIPPED)
    errors = [message for message in _found() if message.is_serious()]
    assert [error.id for error in errors] == ["canx_flow.E012"]
    assert tables in errors[0].msg


def test_two_databases_with_the_runs_in_default_are_no_matter(settings: Settings) -> None:
    """Many projects have every table everywhere: that is reported only where the runs are elsewhere."""
    _use(settings, "default")
    assert _found() == []
