"""The page of cases in `tests/README.md` and the numbers in the tests are the same."""

from __future__ import annotations

import re

import pytest

from ..processes import ROOT

pytestmark = pytest.mark.once

TESTS = ROOT / "tests"
#: Percentiles of the benchmarks, not cases.
PERCENTILES = {"P50", "P99"}


def test_every_number_of_a_test_is_explained_and_every_explained_one_is_tested() -> None:
    """A reader who meets `test_c012_…` finds its sentence, and no sentence is there without a test."""
    page = (TESTS / "README.md").read_text(encoding="utf-8")
    explained = re.findall(r"^- \*\*([CP]\d+)\*\*: \S", page, re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) == numbers()


def numbers() -> set[str]:
    """Return the numbers in names of tests and in what is written in their files."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(re.findall(r"\b[CP]\d{1,3}\b", text))
        for name in re.findall(r"def (test_\w+)", text):
            found.update(number.upper() for number in re.findall(r"_([cp]\d{1,3})(?=_|$)", name))
    return found - PERCENTILES
