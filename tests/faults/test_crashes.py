"""The worker is killed right before and right after the writes of the engine, one crash for each: tests/crashing.

CRASH_POINTS says at how many of these points, evenly spread, and 0 at all of them (`make crash`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_django import Settings

from ..processes import ROOT, environment

#: Crashes in each of the tests below. Databases with a server are emptied before each; SQLite's is copied.
POINTS = {"sqlite": 10, "postgresql": 3, "mysql": 3}


def crash(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Have the process that tests/crashing describes do this; return how it has ended, and what it said."""
    return subprocess.run(
        [sys.executable, "-m", "tests.crashing", "--folder", str(folder / "crashes"), *options],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
        check=False,
    )


@pytest.fixture(autouse=True)
def _lease(settings: Settings) -> None:
    """A lease that a slow machine keeps, and that is over soon enough where nobody can see who is dead."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": 4}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_c106_a_crash_at_any_write_changes_nothing(
    transactional_db: None, tier: str, tmp_path: Path, kind: str
) -> None:
    """C106: every run ends as without it, what was stored is not called again, rows are there once, nothing is left."""
    points = os.environ.get("CRASH_POINTS", str(POINTS[tier]))
    done = crash(tmp_path, "--kind", kind, "--points", points)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


def test_c076_a_parent_killed_while_it_stores_a_child_has_one(
    transactional_db: None, tier: str, tmp_path: Path
) -> None:
    """C076: right before and after the child's row, and the commit of it and the parent's record."""
    points = os.environ.get("CRASH_POINTS", "4" if tier == "sqlite" else "1")
    done = crash(tmp_path, "--at", "INSERT INTO canx_flow_workflowrun (id", "--points", points)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


@pytest.mark.once
@pytest.mark.parametrize(
    ("defect", "at", "found"),
    [
        ("torn", "write_waiting", "row of an atomic step too many"),
        ("apart", "in_another_transaction", "run missing"),
    ],
)
def test_a_write_in_two_transactions_is_found(
    transactional_db: None, tmp_path: Path, defect: str, at: str, found: str
) -> None:
    """An engine that writes in two transactions what must be in one is reported, with the point of the crash."""
    done = crash(tmp_path, "--defect", defect, "--at", at, "--points", "4", "--chain", "1")
    assert done.returncode == 1, done.stdout
    assert found in done.stdout
    assert at in done.stdout
