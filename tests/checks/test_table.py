"""The ids: the code, the table in the package and the table in the docs name the same ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from canx_flow import checks

from ..processes import ROOT

pytestmark = pytest.mark.once

_ID = re.compile(r"canx_flow\.[EW]\d{3}")
_ROW = re.compile(r"^\| `(canx_flow\.[EW]\d{3})` \| (.*) \|$", re.MULTILINE)


def _rows(text: str) -> list[tuple[str, str]]:
    return _ROW.findall(text)


def test_the_table_of_the_package_lists_every_id() -> None:
    """What the code can report is what its docstring lists, each id once, errors first, in order."""
    folder = Path(checks.__file__).parent
    sources = [file for file in [*folder.glob("*.py"), folder.parent / "conf.py"] if file.name != "__init__.py"]
    used = {id_ for file in sources for id_ in _ID.findall(file.read_text())}
    listed = [id_ for id_, _ in _rows(checks.__doc__ or "")]
    assert listed == sorted(used)


def test_the_docs_have_the_same_table() -> None:
    """The page of the reference lists the same ids with the same words; a section explains each."""
    page = (ROOT / "docs" / "reference" / "checks.md").read_text()
    assert _rows(page) == _rows(checks.__doc__ or "")
    sections = re.findall(r"^### (canx_flow\.[EW]\d{3})$", page, re.MULTILINE)
    assert sorted(sections) == [id_ for id_, _ in _rows(page)]
