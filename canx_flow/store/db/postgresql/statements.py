"""PostgreSQL's statements that write at once what takes a short transaction elsewhere, as `session` runs them.

Each row is reached by its key whatever the planner believes: of a table that has just grown it knows nothing, and would
read all of it for a join. A subquery that locks stays a loop of look-ups; so does `= ANY` of an array.
"""

from __future__ import annotations

from ....core import arrows
from ..assignments import assignments
from ..tables import RECORD_COLUMNS, RUN, STEP, TIMER
from .libpq import Statement

_RECORD = """seq int, name text, kind text, state text, attempts int, result text, errors text, event_id bigint,
    started_at timestamptz, finished_at timestamptz"""

_COMPLETED = assignments(
    arrows.COMPLETE, now="%s::timestamptz", result="(SELECT lease.result FROM lease WHERE lease.run_id = run.id)"
)

#: Records and completions of many runs.
PLAIN = Statement(
    "plain",
    f"""
WITH wanted AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, run_id uuid, epoch int, ends bool, result text)
), record AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, {_RECORD})
), lease AS MATERIALIZED (
  SELECT wanted.*, run.state FROM wanted, LATERAL (
    -- Not `owner_id = `: in the index of owners stand all runs that this worker has had.
    SELECT state FROM {RUN} WHERE id = wanted.run_id AND owner_id IS NOT DISTINCT FROM %s::uuid AND epoch = wanted.epoch
      AND state IN ('running', 'paused', 'stopping') FOR NO KEY UPDATE SKIP LOCKED
  ) run
), stored AS (
  INSERT INTO {STEP} ({RECORD_COLUMNS})
  SELECT lease.run_id, lease.epoch, {", ".join("record." + name for name in RECORD_COLUMNS.split(", ")[2:])}
  FROM record JOIN lease ON lease.n = record.n
), ended AS (
  UPDATE {RUN} run SET {_COMPLETED}
  WHERE run.id = ANY(ARRAY(SELECT run_id FROM lease WHERE ends AND state = 'running'))
)
SELECT n::text, state, (ends AND state = 'running')::text FROM lease
""",
)

#: One record of one run: half the time of the statement for many. Each text says what it is: a project's connection
#: may send texts as such.
_ONE = f"""
WITH lease AS (
  SELECT id, epoch, state FROM {RUN}
  WHERE id = %s::uuid AND owner_id IS NOT DISTINCT FROM %s::uuid AND epoch = %s::int
    AND state IN ('running', 'paused', 'stopping')
  FOR NO KEY UPDATE {{}}
), stored AS (
  INSERT INTO {STEP} ({RECORD_COLUMNS})
  SELECT id, epoch, %s::int, %s, %s, %s, %s::int, %s, %s, %s::bigint, %s::timestamptz, %s::timestamptz FROM lease
)
SELECT state FROM lease
"""
ONE_SKIPPING = Statement("skipping", _ONE.format("SKIP LOCKED"))
ONE_WAITING = Statement("waiting", _ONE.format(""))

RECORDS = f"""
INSERT INTO {STEP} ({RECORD_COLUMNS})
SELECT {RECORD_COLUMNS} FROM json_to_recordset(%s::json) AS (run_id uuid, epoch int, {_RECORD})
"""

TIMERS = f"""
INSERT INTO {TIMER} (run_id, step, kind, due_at, held, event, key)
SELECT run_id, step, kind, due_at, held, event, key FROM json_to_recordset(%s::json)
  AS (run_id uuid, step text, kind text, due_at timestamptz, held bool, event text, key text)
"""
