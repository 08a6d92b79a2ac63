"""mypy's answer to every line of plain.py and asynchronous.py, against the marks on those lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

pytestmark = [pytest.mark.once, pytest.mark.source]

FOLDER = Path(__file__).parent
MODULES = ("plain", "asynchronous")

# Line → the codes of its errors and the types that were asked for.
Answers = dict[int, set[str]]


@pytest.fixture(scope="module")
def report() -> str:
    """What mypy, as strict as users run it, says of all modules at once."""
    files = [str(FOLDER / f"{module}.py") for module in MODULES]
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--hide-error-context", *files]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert not answer.stderr, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("module", MODULES)
def test_mypy_answers_as_marked(report: str, module: str) -> None:
    """Wrong arguments of `start` and of steps are refused, results are inferred, and right calls pass."""
    marks, answers = _marks(module), _answers(report, module)
    # One wrong call may be refused for several reasons, more with every mypy: the marked one must be among them.
    assert {line: answer & marks.get(line, set()) or answer for line, answer in answers.items()} == marks


def _marks(module: str) -> Answers:
    lines = (FOLDER / f"{module}.py").read_text().splitlines()
    marks = ((number, re.search(r"# [ER]: (.+)$", line)) for number, line in enumerate(lines, start=1))
    return {number: {mark[1]} for number, mark in marks if mark}


def _answers(report: str, module: str) -> Answers:
    answers: Answers = {}
    for number, text in re.findall(rf"{module}\.py:(\d+): (?:error|note): (.*)", report):
        if answer := re.search(r'\[([a-z-]+)\]$|^Revealed type is "(?:builtins\.)?(.+)"$', text):
            answers.setdefault(int(number), set()).add(answer[1] or answer[2])
    return answers
