"""The scripts behind `make test` and `make grid`: no database is left out in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .processes import ROOT

pytestmark = [pytest.mark.once, pytest.mark.source]

DEAD = {"TEST_POSTGRES_URL": "postgres://postgres@127.0.0.1:1/test", "TEST_MYSQL_URL": "mysql://root@127.0.0.1:1/test"}


def _script(name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key not in {*DEAD, "TEST_SUMMARY"}}
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(
        command, env={**own, **more}, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize(("tier", "variable"), [("PostgreSQL", "TEST_POSTGRES_URL"), ("MariaDB", "TEST_MYSQL_URL")])
def test_a_database_that_is_asked_for_must_have_a_url(tier: str, variable: str) -> None:
    """`--tier` without its variable fails, and names it."""
    done = _script("run_tests.py", "--tier", tier)
    assert (done.returncode, done.stderr.strip()) == (1, f"{tier}: {variable} is not set.")


@pytest.mark.parametrize("arguments", [[], ["--tier", "PostgreSQL"]])
def test_a_database_that_does_not_answer_fails_the_run(arguments: list[str]) -> None:
    """A URL behind which nobody listens is a failure, before any test is run."""
    done = _script("run_tests.py", *arguments, TEST_POSTGRES_URL=DEAD["TEST_POSTGRES_URL"])
    assert done.returncode == 1
    assert "the server of TEST_POSTGRES_URL does not answer" in done.stderr
    assert "===" not in done.stdout


def test_the_last_lines_say_what_ran_and_what_did_not(tmp_path: Path) -> None:
    """Tests counted, database, Python, Django and where the package came from; and each tier that was left out."""
    summary = tmp_path / "summary"
    done = _script("run_tests.py", "-n0", "tests/test_retry.py", "-k", "jitter", TEST_SUMMARY=str(summary))
    assert done.returncode == 0, done.stdout
    said, postgresql, mariadb = done.stdout.strip().splitlines()[-3:]
    assert said.startswith("SQLite passed in ")
    assert " tests passed, 0 failed, 0 skipped. Python 3." in said
    assert postgresql == "Not run: PostgreSQL (TEST_POSTGRES_URL is not set)."
    assert mariadb == "Not run: MariaDB (TEST_MYSQL_URL is not set)."
    assert summary.read_text() == f"{said}\n"


def test_no_test_run_is_a_failure() -> None:
    """A typing error in what is asked for does not pass for success."""
    done = _script("run_tests.py", "-n0", "tests/test_retry.py", "-k", "no_such_test")
    assert done.returncode == 1
    assert "SQLite FAILED" in done.stdout


def test_the_copied_suite_lies_beside_no_package(tmp_path: Path) -> None:
    """What tox tests is imported from nowhere but the installed wheel."""
    done = _script("copy_suite.py", str(tmp_path / "suite"))
    assert done.returncode == 0, done.stderr
    copied = {path.name for path in (tmp_path / "suite").iterdir()}
    assert {"tests", "testproject", "docs", "scripts", "pyproject.toml", "README.md", "Makefile"} <= copied
    assert "canx_flow" not in copied
