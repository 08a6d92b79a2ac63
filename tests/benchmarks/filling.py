"""Tables with any number of runs in them, as a year leaves them: made by a few statements of SQL, in minutes.

Of a hundred runs 76 have ended in the course of a year and 24 sleep. Of all others there are as many in any tables, so
that a list of them is as long: some thousand are ready in queues that no worker of the benchmark takes, some hundred
each wait, have failed, are paused, parked or between two attempts. Every run has its records, its timer and, every
other one, its key. Each id is an expression of its number, so that no table is read to fill another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import connection, models

from canx_flow import states
from canx_flow.core.entries import entry
from canx_flow.models import RunAttribute, RunKey, StepRecord, Timer, WorkflowRun
from canx_flow.store.db.databases import session_of

DAY = 86_400_000  # milliseconds
#: Queues that hold what is ready.
QUEUES = 10


@dataclass(frozen=True)
class Dialect:
    """How a database writes a row for each number, an id of a moment, and a moment; in expressions of `n` and `ms`."""

    numbers: str
    id: str
    moment: str
    attributes: str


_POSTGRESQL = Dialect(
    "generate_series(1::bigint, {count}) AS s(n)",
    "(lpad(to_hex({ms}), 12, '0') || '7' || substr(md5((n * 97 + {salt})::text), 1, 3) || '8' || "
    "substr(md5((n * 97 + {salt})::text), 4, 3) || lpad(to_hex(n * 97 + {salt}), 12, '0'))::uuid",
    "to_timestamp(({ms}) / 1000.0)",
    "jsonb_build_object('customer', n)",
)
_SQLITE = Dialect(
    "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s)",
    "printf('%%012x7%%03x8%%03x%%012x', {ms}, (n * 7919 + {salt}) %% 4096, n * 104729 %% 4096, n * 97 + {salt})",
    "strftime('%%Y-%%m-%%d %%H:%%M:%%f', ({ms}) / 1000.0, 'unixepoch') || '000'",
    "json_object('customer', n)",
)
_DIALECTS = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}


@dataclass(frozen=True)
class Crowd:
    """Runs that are alike, made in the course of so many days until now; `share`: of all, or else how many they are."""

    state: str
    share: float
    days: float
    workflow: str = "flow"
    steps: int = 1
    #: The kind of the wait that they are suspended in.
    wait: str = ""
    keyed: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


_QUEUED = {"queue": f"'queue-' || (n %% {QUEUES})", "priority": "n %% 201 - 100"}
CROWDS = (
    Crowd(states.COMPLETED, 0.76, 365, steps=3, keyed=True, columns={"result": "'{\"ok\": true}'"}),
    Crowd(states.SLEEPING, 0.24, 365, workflow="nap", wait="sleep"),
    Crowd(states.FAILED, 300, 365, steps=2, columns={"error": '\'{"type": "ValueError", "message": "no"}\''}),
    Crowd(states.PENDING, 3000, 0.05, steps=0, columns=_QUEUED),
    Crowd(states.WAITING, 300, 30, workflow="history", wait="wait"),
    Crowd(states.PAUSED, 300, 30),
    Crowd(states.PARKED, 300, 30, workflow="gone", steps=0),
    Crowd(states.RETRYING, 300, 1, wait="retry"),
)


def fill(count: int, crowds: Sequence[Crowd] = CROWDS) -> None:
    """Write so many runs, and those of which there are always as many, with all that is theirs."""
    now = round(time.time() * 1000)
    for salt, crowd in enumerate(crowds):
        runs = round(count * crowd.share) if crowd.share < 1 else round(crowd.share)
        _Filling(crowd, runs, salt, now).write()


def leave_statistics_alone() -> None:
    """Keep autovacuum from the tables: only `settle` gives them statistics."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for model in apps.get_app_config("canx_flow").get_models():
                cursor.execute(f"ALTER TABLE {model._meta.db_table} SET (autovacuum_enabled = off)")


def settle(*, analysed: bool) -> None:
    """Put the tables in order, as autovacuum would have, with or without statistics."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE" if analysed else "VACUUM")
            cursor.execute("CHECKPOINT")
        elif connection.vendor == "mysql":
            tables = ", ".join(model._meta.db_table for model in apps.get_app_config("canx_flow").get_models())
            cursor.execute(f"ANALYZE TABLE {tables}" if analysed else "DO 0")
        else:
            if analysed:
                cursor.execute("ANALYZE")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


class _Filling:
    """The statements for one crowd."""

    def __init__(self, crowd: Crowd, count: int, salt: int, now: int) -> None:
        self.crowd = crowd
        self.dialect = _DIALECTS[connection.vendor]
        self.count = count
        self.numbers = self.dialect.numbers.format(count=count)
        self.salt = salt
        every = max(1, round(crowd.days * DAY / count))
        #: Milliseconds since 1970 at which run `n` was made.
        self.ms = f"({now - round(crowd.days * DAY)} + n * {every})"

    def write(self) -> None:
        crowd = self.crowd
        made, later = self._moment(), self._moment("+ 1000")
        ended = crowd.state in states.ENDED
        run = {"created_at": made, "started_at": made, "finished_at": later if ended else "NULL"}
        ready = "true" if crowd.state == states.PENDING else "false"
        same = {
            "workflow": f"'{crowd.workflow}'", "state": f"'{crowd.state}'", "ready": ready, "arguments": "'[[1],{}]'",
        }  # fmt: skip
        key = {"key": _KEY} if crowd.keyed else {}
        self._insert(WorkflowRun, {"id": self._id(), **run, **same, **key, **self._subject(), **crowd.columns})
        self._note_attributes()
        if crowd.keyed:
            keyed = {"run_id": self._id(), "workflow": same["workflow"], "key": _KEY}
            self._insert(RunKey, keyed, where="n %% 2 = 0")
        for seq in range(1, crowd.steps + 1):
            self._record(seq, f"'step-{seq}'", "step", made)
        if crowd.wait:
            self._record(crowd.steps + 1, "'wait'", crowd.wait, made, state="open")
            due = "NULL" if crowd.wait == "wait" else self._moment(f"+ {730 * DAY}")
            event = {"event": "'answered'", "key": "'k' || n"} if crowd.wait == "wait" else {}
            timer = {"run_id": self._id(), "step": "'wait'", "kind": f"'{crowd.wait}'", "due_at": due, "held": "false"}
            self._insert(Timer, {**timer, **event})

    def _subject(self) -> dict[str, str]:
        """Every third has a subject, every tenth attributes."""
        return {
            "subject_type": "CASE WHEN n %% 3 = 0 THEN 'benchmarks.Row' ELSE '' END",
            "subject_id": "CASE WHEN n %% 3 = 0 THEN CAST(n %% 500000 AS text) ELSE '' END",
            "attributes": f"CASE WHEN n %% 10 = 0 THEN {self.dialect.attributes} ELSE '{{}}' END",
        }

    def _note_attributes(self) -> None:
        """Write by what `with_attributes` finds them, where that is no index: the numbers are Python's."""
        if session_of(connection).indexes_json:
            return
        rows = [(entry("customer", number), number) for number in range(10, self.count + 1, 10)]
        statement = (
            f"INSERT INTO {RunAttribute._meta.db_table} (entry, run_id) SELECT %s, {self._id()} FROM (SELECT %s AS n)"
        )
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)

    def _record(self, seq: int, name: str, kind: str, at: str, state: str = "completed") -> None:
        record = {
            "run_id": self._id(), "seq": str(seq), "name": name, "kind": f"'{kind}'", "state": f"'{state}'",
            "attempts": "1", "epoch": "1", "result": "'null'", "started_at": at, "finished_at": at,
        }  # fmt: skip
        self._insert(StepRecord, record)

    def _id(self) -> str:
        return self.dialect.id.format(ms=self.ms, salt=self.salt)

    def _moment(self, more: str = "") -> str:
        return self.dialect.moment.format(ms=f"{self.ms} {more}")

    def _insert(self, model: type[models.Model], columns: Mapping[str, str], where: str = "true") -> None:
        """Write one row for each number: these columns by their expressions, the others as a new object has them."""
        pattern, rest, values = model(), {}, []
        for one in model._meta.concrete_fields:
            if one.column not in columns and not isinstance(one, models.AutoField | models.BigAutoField):
                rest[one.column] = "%s"
                values.append(_value(one, pattern))
        chosen = {**columns, **rest}
        names = ", ".join(f'"{column}"' for column in chosen)
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {model._meta.db_table} ({names}) SELECT {', '.join(chosen.values())} "
                f"FROM {self.numbers} WHERE {where}",
                values,
            )


#: Every other one has a key.
_KEY = "CASE WHEN n %% 2 = 0 THEN 'order-' || n END"


def _value(one: Any, pattern: models.Model) -> Any:
    return one.get_db_prep_save(one.pre_save(pattern, True), connection)
