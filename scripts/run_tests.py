"""The suite on every database there is: `make test` calls it with the arguments for pytest, tox with tiers, too.

SQLite always; PostgreSQL where TEST_POSTGRES_URL is set, MariaDB or MySQL where TEST_MYSQL_URL is. `--tier NAME`
(repeatable) asks for these and no others; `--short NAME` for the tests marked `short` alone there, `--brief NAME` for
those of them that are not `once`, unless --tier names it, too, or arguments for pytest choose tests. Each tier is a
pytest run of its own, in several processes. A URL that is asked for and missing, or is set and does not answer, is a
failure, never a silent gap. The last lines say what ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
#: Tests wait more than they compute: three processes keep two cores busy. -n in the arguments says otherwise.
PROCESSES = ["-n", "3", "--dist", "worksteal"]
NOT_IN_PARALLEL = ("-n", "--numprocesses", "--pdb", "--trace", "--collect-only", "--co", "--setup-plan", "--fixtures")


@dataclass(frozen=True)
class Tier:
    """A database: the variable that holds its URL, and the tests that it gets, as an expression for pytest's -m."""

    name: str
    variable: str = ""
    marked: str = ""

    @property
    def url(self) -> str:
        return os.environ.get(self.variable, "")


TIERS = [
    Tier("SQLite"),
    Tier("PostgreSQL", "TEST_POSTGRES_URL", "not once and not walk"),
    Tier("MariaDB", "TEST_MYSQL_URL", "not once and not browser and not walk"),
]
#: Parts of a tier, by the option that asks for one: what pytest's -m chooses there.
PARTS = {"short": "short", "brief": "short and not once"}
CONNECT = """
import sys
sys.path.insert(0, "testproject")
import django.conf, django.db
from testproject.databases import database
django.conf.settings.configure(DATABASES={"default": database(sys.argv[1])})
try:
    django.db.connection.ensure_connection()
except Exception as error:
    sys.exit(str(error).strip().splitlines()[0])
"""
PAIR = """
import platform, django, canx_flow
where = "the wheel" if "site-packages" in canx_flow.__file__ else "the source tree"
print(f"Python {platform.python_version()}, Django {django.get_version()}, canx_flow from {where}")
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for option in ("tier", *PARTS):
        parser.add_argument(f"--{option}", action="append", choices=[tier.name for tier in TIERS], default=[])
    given, rest = parser.parse_known_args(arguments)
    parts = {name: part for part in PARTS for name in getattr(given, part)}
    named = {*given.tier, *parts}
    wanted = [tier for tier in TIERS if (tier.name in named if named else not tier.variable or tier.url)]
    if [tier for tier in wanted if tier.variable and not _is_reachable(tier)]:
        return 1
    pair = subprocess.run([sys.executable, "-c", PAIR], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    whole = named if rest else given.tier
    outcomes = [
        _run(tier, pair.stdout.strip(), rest, "" if tier.name in whole else parts.get(tier.name, "")) for tier in wanted
    ]
    if not named:
        left_out = [f"{tier.name} ({tier.variable} is not set)" for tier in TIERS if tier not in wanted]
        print(*(f"Not run: {name}." for name in left_out), sep="\n", end="\n" if left_out else "")
    return 0 if all(outcomes) else 1


def _is_reachable(tier: Tier) -> bool:
    if not tier.url:
        print(f"{tier.name}: {tier.variable} is not set.", file=sys.stderr)
        return False
    command = [sys.executable, "-c", CONNECT, tier.url]
    asked = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    if asked.returncode != 0:
        said = asked.stderr.strip().splitlines()[-1]
        print(f"{tier.name}: the server of {tier.variable} does not answer: {said}", file=sys.stderr)
    return asked.returncode == 0


def _run(tier: Tier, pair: str, arguments: list[str], part: str) -> bool:
    """Run a tier; tell whether pytest was content. No test run at all counts as a failure like any other."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    if tier.url:
        environment["DATABASE_URL"] = tier.url
    name = f"{tier.name} ({part})" if part else tier.name
    print(f"\n=== {name}: {pair} ===", flush=True)
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.executable, "-m", "pytest", f"--junit-xml={report.name}"]
        command += [*_marked(tier, part), *_parallel(arguments)]
        done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=False)
        counted = _counted(Path(report.name))
    outcome = "passed" if done.returncode == 0 else "FAILED"
    _say(f"{name} {outcome} in {time.monotonic() - began:.0f} s: {counted}. {pair}.")
    return done.returncode == 0


def _marked(tier: Tier, part: str) -> list[str]:
    marks = [mark for mark in (tier.marked, PARTS.get(part, "")) if mark]
    return ["-m", " and ".join(marks)] if marks else []


def _parallel(arguments: list[str]) -> list[str]:
    return [] if any(argument.startswith(NOT_IN_PARALLEL) for argument in arguments) else PROCESSES


def _counted(report: Path) -> str:
    try:
        suites = list(ET.parse(report).iter("testsuite"))  # noqa: S314 - written by our own pytest
    except (OSError, ET.ParseError):
        return "no report"
    tests, skipped, wrong = (
        sum(int(suite.get(kind, "0")) for suite in suites for kind in kinds)
        for kinds in (("tests",), ("skipped",), ("failures", "errors"))
    )
    return f"{tests - skipped - wrong} tests passed, {wrong} failed, {skipped} skipped"


def _say(line: str) -> None:
    """Print a line, and add it to the file that collects such lines where one is wanted (.ci/run)."""
    print(f"\n{line}", flush=True)
    if summary := os.environ.get("TEST_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
