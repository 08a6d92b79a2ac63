"""Fixtures of the whole suite: the tier's databases, real workers, and what steps leave behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from django.conf import settings
from django.db import connections
from hypothesis import settings as hypothesis_settings

# No test inherits the time that another one has advanced to; also where the package was installed before it had this.
from canx_flow.pytest_plugin import pytest_runtest_logfinish  # noqa: F401

from . import effects as effects_module
from .emptying import emptied_after_tests
from .processes import WorkerProcess, Workers
from .short import mark_short

# A developer's machine searches anew each time; what decides over a change must answer the same twice.
hypothesis_settings.register_profile("here", deadline=None)
hypothesis_settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.hookimpl(tryfirst=True)  # Before -m chooses.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is `short`, and leave the tests of the source tree out where an installed package is tested."""
    mark_short(items)
    if "CANX_FLOW_SOURCE" in os.environ:
        for item in items:
            if item.get_closest_marker("source"):
                item.add_marker(pytest.mark.skip(reason="checked beside the source tree"))


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Leave no file of a SQLite test database behind: its journal outlives it when a worker was killed."""
    names = [str(database["TEST"]["NAME"]) for database in settings.DATABASES.values()]
    yield
    for name in names:
        if name.endswith(".sqlite3"):
            for file in Path(name).parent.glob(f"{Path(name).name}*"):
                file.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def _emptied() -> Iterator[None]:
    """Delete what a test has committed by `emptying`, in place of Django's flush."""
    with emptied_after_tests():
        yield


@pytest.fixture(scope="session")
def tier() -> str:
    """The database under test: `sqlite`, `postgresql` or `mysql`."""
    return connections["default"].vendor


@pytest.fixture
def effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`tests.effects`, with an empty folder of its own for this test and the workers it starts."""
    folder = tmp_path / "effects"
    folder.mkdir()
    monkeypatch.setenv("EFFECTS_DIR", str(folder))
    return effects_module


@pytest.fixture
def workers(transactional_db: None, effects: ModuleType, tmp_path: Path) -> Iterator[Workers]:
    """Starts real worker processes on the test database; none survives the test."""
    workers = Workers(tmp_path)
    yield workers
    workers.end()


@pytest.fixture
def worker(workers: Workers) -> WorkerProcess:
    """One real worker process, not started yet: `worker.start(...)`."""
    return workers.new()
