"""The pages of docs/ are true: their code is taken from them and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import project
from .pages import Page, every_page, page

pytestmark = pytest.mark.once

#: Pages that show no Python to be run, and why.
WITHOUT_CODE = {
    "decisions/index": "how decisions are written down",
    "decisions/singletons": "why a table, and not a column",
    "decisions/speed": "a log of measurements, and how to take them again",
    "how-to/partitions": "its SQL is run by test_partitions",
    "index": "its example is the README's",
    "performance": "figures, and how to take them again",
    "reference/commands": "what it tells to type is compared with the parsers by test_reference and test_console",
    "reference/glossary": "words",
    "reference/index": "links",
    "tutorial": "run as a whole by test_tutorial",
}
WITH_CODE = [page.name for page in every_page() if page.name not in WITHOUT_CODE]


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_of_a_page_runs(name: str, tmp_path: Path) -> None:
    """Every block of the page runs in order, and what the page says of it is so."""
    project.run(page(name), tmp_path / "project")


@pytest.mark.parametrize("name", WITH_CODE)
def test_a_page_shows_code_or_is_listed(name: str) -> None:
    """A page without a block that is run is named in WITHOUT_CODE, with the reason."""
    assert any(block.is_run for block in page(name).blocks)


@pytest.mark.parametrize("page", every_page(), ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page: Page) -> None:
    """`not run` is followed by a reason."""
    assert all(block.before.get("not run", "reason") for block in page.blocks)
