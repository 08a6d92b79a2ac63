"""A history as data: what a run was called with, how it stands, what it has stored; from the tables or an export."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from ..core.changes import Record
from ..core.naming import label
from ..models import WorkflowRun
from ..states import COMPLETED, FAILED

#: Of the form that exports have.
SCHEMA = 1


class NotAnExport(ValueError):  # noqa: N818 - what it is, not what it does
    """A text that is no export of a history, or one of a form that this version does not know."""


@dataclass(frozen=True, slots=True)
class History:
    """One run's: values are stored text, as in the tables."""

    run_id: UUID
    workflow: str
    version: str
    state: str
    reason: str
    generation: int
    seed: UUID | None
    arguments: str
    result: str | None
    records: Sequence[Record]
    scheduled_for: datetime | None = None

    @property
    def label(self) -> str:
        """`name`, or `name@version`."""
        return label(self.workflow, self.version)

    @property
    def completed(self) -> bool:
        """Whether the body came to its end: all that it will ever call is on record."""
        return self.state == COMPLETED

    @property
    def failed(self) -> bool:
        """Whether the body has raised, or the run was ended as if it had."""
        return self.state == FAILED


def of_run(run: WorkflowRun, records: Sequence[Record]) -> History:
    """Return the history of a run with these records."""
    return History(
        run.id, run.workflow, run.version, run.state, run.reason, run.generation, run.seed, run.arguments, run.result,
        records, run.scheduled_for,
    )  # fmt: skip


def of_export(export: Mapping[str, Any]) -> History:
    """Return the history that an export holds; NotAnExport if it holds none."""
    if not isinstance(export, Mapping) or "schema" not in export:
        raise NotAnExport('it is no export of a history: it has no "schema"')
    if export["schema"] != SCHEMA:
        raise NotAnExport(f"its schema is {export['schema']!r}; this version of canx_flow reads {SCHEMA}")
    try:
        run = export["run"]
        return History(
            UUID(run["id"]), run["workflow"], run["version"], run["state"], run["reason"], run["generation"],
            None if run["seed"] is None else UUID(run["seed"]),
            _text(run["arguments"]) or "", _text(run["result"]), [_record(each) for each in export["records"]],
            None if run.get("scheduled_for") is None else datetime.fromisoformat(run["scheduled_for"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotAnExport(f"it is no export of a history: {type(error).__name__}: {error}") from error


def of_file(path: Path) -> History:
    """Return the history that a file holds, as `flow export` wrote it; NotAnExport or OSError if it holds none."""
    try:
        return of_export(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnExport(f"it is no JSON: {error}") from error


def _record(given: Mapping[str, Any]) -> Record:
    return Record(
        given["seq"], given["name"], given["kind"], given["state"], given["attempts"], given["epoch"],
        result=_text(given["result"]), errors=_text(given["errors"]),
    )  # fmt: skip


def _text(value: Any) -> str | None:
    """Return the stored text of a value that stands as JSON in an export."""
    return None if value is None else json.dumps(value, separators=(",", ":"))
