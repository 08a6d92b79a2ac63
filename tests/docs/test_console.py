"""What the pages tell people to type can be typed."""

from __future__ import annotations

import pytest

from .console import ROOT, Typed, typed
from .pages import every_page

pytestmark = pytest.mark.once

LINES = [line for path in [ROOT / "README.md", *(page.path for page in every_page())] for line in typed(path)]


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}: {line.line}"[:80])
def test_a_command_can_be_typed(line: Typed) -> None:
    """The command exists, and takes these options."""
    assert line.problem() == ""


@pytest.mark.parametrize(
    "line",
    [
        "make tea",
        'pip install "canx-flow[oracle]"',
        "python manage.py runflow",
        "python manage.py runflowworker --threads 3",
        "python manage.py flow revive RUN",
        "python manage.py migrate --no-such-option | cat",
    ],
)
def test_what_cannot_be_typed_is_found(line: str) -> None:
    """A command, option or target that does not exist is a problem."""
    assert Typed("here", line).problem()
