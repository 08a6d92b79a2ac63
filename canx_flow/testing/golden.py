"""Golden tests: histories that were exported once, and must go on fitting the code."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..histories.history import of_export, of_file
from ..histories.mismatches import Mismatch
from ..histories.replaying import mismatches


def replay(export: Mapping[str, Any] | PathLike[str] | str) -> list[Mismatch]:
    """Replay an exported history against today's code; return where the two part, an empty list if they do not.

    `export`: what `manage.py flow export` wrote, as the path of a file or as what `json.loads` makes of it. Nothing is
    written, no step is called, no signal is sent; no database is needed but for what the body itself reads. ValueError
    for what is no export.
    """
    return mismatches(of_export(export) if isinstance(export, Mapping) else of_file(Path(export)))
