"""The scripts behind `make test` and `make grid`: no database is left out in silence."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .processes import ROOT
from .short import NEWEST_ONLY, PLACES, TESTS

pytestmark = [pytest.mark.once, pytest.mark.source]

DEAD = {"TEST_POSTGRES_URL": "postgres://postgres@127.0.0.1:1/test", "TEST_MYSQL_URL": "mysql://root@127.0.0.1:1/test"}


def _script(name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key not in {*DEAD, "TEST_SUMMARY"}}
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(
        command, env={**own, **more}, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("option", ["--tier", "--short", "--brief"])
@pytest.mark.parametrize(("tier", "variable"), [("PostgreSQL", "TEST_POSTGRES_URL"), ("MariaDB", "TEST_MYSQL_URL")])
def test_a_database_that_is_asked_for_must_have_a_url(option: str, tier: str, variable: str) -> None:
    """`--tier`, `--short` or `--brief` without its variable fails, and names it, before any other tier runs."""
    done = _script("run_tests.py", "--tier", "SQLite", option, tier)
    assert not done.stdout
    assert (done.returncode, done.stderr.strip()) == (1, f"{tier}: {variable} is not set.")


@pytest.mark.parametrize("arguments", [[], ["--tier", "PostgreSQL"], ["--short", "PostgreSQL"]])
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


CONDITIONS, CLAIMS, RETRY = "tests/test_conditions.py", "tests/store/test_claims.py", "tests/test_retry.py"
PAGES = "tests/docs/test_layout.py"


def _collected(*arguments: str) -> set[str]:
    """Which of a few files are run then."""
    few = f"--collect-only -q -n0 {CONDITIONS} {CLAIMS} {RETRY} {PAGES}"
    done = _script("run_tests.py", *arguments, PYTEST_ADDOPTS=few)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}


def test_a_short_tier_runs_what_may_differ_and_what_others_leave_out() -> None:
    """The store, and what is `once` but for pages; in brief not even that; with --tier, or arguments, all."""
    assert _collected("--short", "SQLite") == {CLAIMS, RETRY}
    assert _collected("--brief", "SQLite") == {CLAIMS}
    assert CONDITIONS in _collected("--short", "SQLite", "--tier", "SQLite")
    assert CONDITIONS in _collected("--short", "SQLite", "-k", "test")


def test_every_place_of_the_short_tests_exists() -> None:
    """A folder or a file that was renamed is not left out in silence."""
    assert [place for place in [*PLACES, *NEWEST_ONLY] if not (TESTS / place).exists()] == []


def test_each_pair_and_each_database_has_the_whole_suite_once() -> None:
    """`make test` and tox together; each pair runs on SQLite, and the newest on each database, at least in part."""
    tox = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["tox"]
    whole, short = {("py313-django61", "SQLite")}, set()
    for pair in tox["env_list"]:
        ([*command, _posargs],) = tox["env"][pair]["commands"]
        assert command[:2] == ["python", "scripts/run_tests.py"]
        for option, tier in zip(command[2::2], command[3::2], strict=True):
            {"--tier": whole, "--short": short, "--brief": short}[option].add((pair, tier))
    pairs, databases = {"py311-django52", "py312-django60", "py313-django61"}, {"SQLite", "PostgreSQL", "MariaDB"}
    assert {pair for pair, _ in whole} == pairs
    assert {database for _, database in whole} == databases
    assert {(pair, "SQLite") for pair in pairs} | {("py313-django61", tier) for tier in databases} <= whole | short


def test_make_has_modules_compiled_once() -> None:
    """Whatever a machine's settings are: each of very many processes would do it anew."""
    asks = ["make", "--no-print-directory", "--eval", "asked:\n\t@echo [$$PYTHONDONTWRITEBYTECODE]", "asked"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(asks, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


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
