"""The tasks of `work`, in a project that has them on the engine."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

import pytest
from django.test import override_settings

from .backends import CORE, TASKS


def pytest_ignore_collect() -> bool | None:
    """Leave this folder out where there are no tasks: Django 5.2 without the backport."""
    return None if find_spec(CORE) else True


@pytest.fixture
def work(db: None) -> Iterator[ModuleType]:
    """The tasks, while TASKS has these backends."""
    with override_settings(TASKS=TASKS):
        yield importlib.import_module("tests.contrib.tasks.work")
