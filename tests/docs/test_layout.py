"""The files that pages name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import canx_flow

from .pages import Page, every_page

pytestmark = pytest.mark.once

PACKAGE = Path(canx_flow.__file__).parent
FILE = re.compile(r"`((?:worker|replay|store|core|client|insight|observe|management)(?:/[\w.]+)*/(?:[\w.]+)?)`")


@pytest.mark.parametrize("page", every_page(), ids=lambda page: page.name)
def test_every_file_of_the_package_that_a_page_names_is_there(page: Page) -> None:
    """`worker/turn.py` between backticks is a file of the package."""
    named = {path for span in page.spans for path in FILE.findall(f"`{span}`")}
    assert [path for path in sorted(named) if not (PACKAGE / path).exists()] == []
