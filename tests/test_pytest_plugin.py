"""The plugin of pytest: the clock is put back after each test, in any project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import ROOT

pytestmark = pytest.mark.once

#: In this order: each test that moves the clock, or fails to take itself down, and then one that must not know of it.
TESTS = """
import sys
import unittest
from datetime import datetime, timedelta, timezone

import pytest
from canx_flow.core import clock

def is_true():
    return abs(clock.now() - datetime.now(timezone.utc)) < timedelta(hours=1)

@pytest.fixture
def later():
    clock.shift(timedelta(days=1))
    yield
    assert not is_true()  # It is put back last of all.

def test_moves(later):
    assert not is_true()

def test_is_true_after_it():
    assert is_true()

class Tests(unittest.TestCase):
    def test_1_moves(self):
        clock.shift(timedelta(days=1))

    def test_2_is_true_after_it(self):
        assert is_true()

@pytest.fixture
def broken():
    yield
    clock.shift(timedelta(days=1))
    raise ValueError("an expected error of a fixture")

def test_breaks(broken):
    pass

def test_is_true_after_a_broken_one():
    assert is_true()

def test_nothing_of_django_was_needed():
    from django.conf import settings
    assert not settings.configured
    assert "canx_flow.models" not in sys.modules
"""


def _pytest(folder: Path, *options: str) -> str:
    """What pytest prints for TESTS, with no plugins but those of the options."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(TESTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_each_test_begins_at_the_real_time(tmp_path: Path) -> None:
    """Functions and unittest's cases, one whose teardown breaks too; in a project without Django's settings."""
    said = _pytest(tmp_path, "-p", "canx_flow.pytest_plugin")
    assert "7 passed, 1 error" in said
    assert "an expected error of a fixture" in said


def test_without_it_a_test_inherits_the_time(tmp_path: Path) -> None:
    """What the test above sees is the work of the plugin."""
    assert "3 failed, 4 passed, 1 error" in _pytest(tmp_path)
