"""PostgreSQL's statements that write at once what takes a short transaction elsewhere, as `session` runs them.

Each row is reached by its key whatever the planner believes: of a table that has just grown it knows nothing, and would
read all of it for a join. A subquery that locks stays a loop of look-ups; so does `= ANY` of an array.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....core import arrows
from ....core.naming import END
from ..assignments import assignments
from ..ready import Look, Taker
from ..tables import EVENT, KEY, RECORD_COLUMNS, RUN, STEP, TIMER, WORKER
from .libpq import Statement

#: For a row that its key finds. It implies the condition of no index: the planner would read all ready runs for one.
#: Numbers, because planners know more of truth values with each release.
IS_READY = "ready::int = 1"
#: For the few events that no worker has taken, for the same reason: all broadcasts are of an index with this condition.
IS_BROADCAST = "num_nulls(run_id) = 1"

#: The same for a timer.
_IS_FREE = "NOT (held IS DISTINCT FROM false)"

_RECORD = """seq int, name text, kind text, state text, attempts int, result text, errors text, event_id bigint,
    started_at timestamptz, finished_at timestamptz"""

_CLAIMED = assignments(arrows.CLAIM)
_COMPLETED = assignments(
    arrows.COMPLETE, now="%s::timestamptz", result="(SELECT lease.result FROM lease WHERE lease.run_id = run.id)"
)


def _plain(wanted: str = "", ended: str = "", told: str = "") -> str:
    return f"""
WITH wanted AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, run_id uuid, epoch int, ends bool, result text{wanted})
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
  WHERE run.id = ANY(ARRAY(SELECT run_id FROM lease WHERE ends AND state = 'running')){ended}
){told}
SELECT n::text, state, (ends AND state = 'running')::text FROM lease
"""


#: Records and completions of many runs.
PLAIN = Statement("plain", _plain())

#: The same, where some of the runs have parents: as `store.children` tells those.
PLAIN_AND_TELL = Statement(
    "telling",
    _plain(
        ", parent uuid",
        " RETURNING run.id, run.result, run.finished_at",
        f""", told AS (
  INSERT INTO {EVENT} (run_id, name, payload, created_at, delivered)
  SELECT reader.id, '{END}' || ended.id, '["completed",' || ended.result || ']', ended.finished_at, false
  FROM ended JOIN lease ON lease.run_id = ended.id, LATERAL (
    WITH RECURSIVE reader AS (
      SELECT id, state, ending FROM {RUN} WHERE id = lease.parent
      UNION ALL
      SELECT fork.id, fork.state, fork.ending FROM reader JOIN {RUN} fork ON fork.forked_from_id = reader.id
    ) SELECT id FROM reader WHERE state <> 'completed' AND ending <> 'cancelled'
  ) reader
)""",
    ),
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


def claim(look: Look, taker: Taker, columns: Sequence[str]) -> str:
    """Return the statement that claims up to so many of the runs that a look finds: these columns, and priority.

    Its parameters are those of the look, the owner, the number, the number, the owner and the moment. The look is read
    as far as it is needed. Was it not enough, and there may be more, then each row ends in the place where it ended,
    and there is a row at least.
    """
    return f"""
      WITH looked AS MATERIALIZED (
        {look.text}
      ), alive AS MATERIALIZED (
        SELECT 1 FROM {WORKER} WHERE id = %s AND state = 'alive'
      ), picked AS MATERIALIZED (
        SELECT taken.id FROM looked, LATERAL (
          SELECT id FROM {RUN} WHERE id = looked.id AND {IS_READY} AND {taker.condition} FOR NO KEY UPDATE SKIP LOCKED
        ) taken WHERE looked.fits AND EXISTS (SELECT 1 FROM alive) LIMIT %s
      ), place AS (
        SELECT priority, id FROM looked WHERE (SELECT count(*) FROM picked) < %s AND EXISTS (SELECT 1 FROM alive)
        OFFSET {look.most - 1} LIMIT 1
      ), claimed AS (
        UPDATE {RUN} run SET {_CLAIMED} WHERE run.id = ANY(ARRAY(SELECT id FROM picked)) AND {IS_READY}
        RETURNING {", ".join("run." + column for column in columns)}, run.priority
      )
      SELECT claimed.*, place.priority, place.id FROM claimed FULL JOIN place ON true
    """


RECORDS = f"""
INSERT INTO {STEP} ({RECORD_COLUMNS})
SELECT {RECORD_COLUMNS} FROM json_to_recordset(%s::json) AS (run_id uuid, epoch int, {_RECORD})
"""

TIMERS = f"""
INSERT INTO {TIMER} (run_id, step, kind, due_at, held, event, key)
SELECT run_id, step, kind, due_at, held, event, key FROM json_to_recordset(%s::json)
  AS (run_id uuid, step text, kind text, due_at timestamptz, held bool, event text, key text)
"""

#: Timers that are due are fired. What is due is read once, but it is the deletion that counts: what another worker has
#: fired, or a pause has held back, between reading and lock is not deleted again.
_FIRE = f"""
WITH due AS MATERIALIZED (
  SELECT id, run_id, kind FROM {TIMER} WHERE held = false AND due_at <= %(now)s{{}} ORDER BY due_at LIMIT %(most)s
), late AS (
  SELECT run_id FROM due WHERE kind IN ('deadline', 'cancel')
), run AS MATERIALIZED (
  SELECT id, state, owner_id FROM {RUN} WHERE id = ANY(ARRAY(SELECT run_id FROM due EXCEPT SELECT run_id FROM late))
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), fired AS (
  DELETE FROM {TIMER} WHERE id = ANY(ARRAY(SELECT due.id FROM due JOIN run ON run.id = due.run_id))
    AND {_IS_FREE} AND due_at <= %(now)s
  RETURNING run_id, kind, step
), waited AS (
  SELECT record.id FROM fired, LATERAL (
    SELECT id FROM {STEP} WHERE run_id = fired.run_id AND name = fired.step AND state = 'open' FOR NO KEY UPDATE
  ) record WHERE fired.kind IN ('sleep', 'retry', 'wait')
), recorded AS (
  UPDATE {STEP} SET state = CASE kind WHEN 'sleep' THEN 'completed' ELSE 'due' END,
    finished_at = CASE kind WHEN 'sleep' THEN %(now)s ELSE finished_at END
  WHERE id = ANY(ARRAY(SELECT id FROM waited))
), woken AS (
  UPDATE {RUN} SET {assignments(arrows.WAKE)} WHERE id = ANY(ARRAY(
    SELECT id FROM run JOIN fired ON fired.run_id = run.id WHERE run.state IN ('sleeping', 'waiting', 'retrying')))
  RETURNING id
), undoing AS (
  UPDATE {RUN} SET {assignments(arrows.WAKE_UNDO)} WHERE id = ANY(ARRAY(
    SELECT id FROM run JOIN fired ON fired.run_id = run.id WHERE run.state = 'stopping' AND run.owner_id IS NULL))
  RETURNING id
)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM fired),
  (SELECT count(*) FROM woken) + (SELECT count(*) FROM undoing),
  ARRAY(SELECT run_id FROM late), (SELECT min(due_at) FROM {TIMER} WHERE held = false AND due_at > %(now)s)
"""
FIRE = _FIRE.format("")
#: Of those that are due at a moment or later.
FIRE_SINCE = _FIRE.format(" AND due_at >= %(since)s")


def these(column: str, ids: str = "%(ids)s", first: str = "%(first)s", last: str = "%(last)s") -> str:
    """Choose rows by an id: one of `ids`, which lie between `first` and `last`.

    The range says to the planner that `ids`, however many, are a small part of a table it knows nothing of; and in
    which partitions they are, should there be any.
    """
    return f"{column} = ANY({ids}) AND {column} BETWEEN {first} AND {last}"


#: Locked runs go with all that is theirs.
FORGET = f"""
WITH record AS (
  DELETE FROM {STEP} WHERE {these("run_id")} RETURNING event_id
), unread AS (
  DELETE FROM {EVENT} WHERE {these("run_id")} AND consumed_at IS NULL
), read AS (
  -- Not the broadcasts, which others may read, nor what was sent to the run that one of these was forked from.
  DELETE FROM {EVENT} WHERE id = ANY(ARRAY(SELECT event_id FROM record WHERE event_id IS NOT NULL))
    AND run_id = ANY(%(ids)s)
), timer AS (
  DELETE FROM {TIMER} WHERE {these("run_id")}
), key AS (
  DELETE FROM {KEY} WHERE {these("run_id")}
)
DELETE FROM {RUN} WHERE {these("id")}
"""

#: New broadcasts are taken, in the order of their index; those that another worker is taking are left to it.
TAKE = f"""
UPDATE {EVENT} event SET seen_at = %(now)s WHERE event.id = ANY(ARRAY(
  SELECT id FROM {EVENT} WHERE delivered = false AND seen_at IS NULL AND {IS_BROADCAST}
  ORDER BY seen_at, id LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED))
RETURNING id, name, key, created_at
"""


def waits_for(same_key: str, most: int) -> str:
    """Return the SELECT of up to so many waits for broadcasts: their runs, and when those were sent.

    Its parameters are the broadcasts' names, keys and moments. For each the waits are looked up: a join the planner
    would begin with the waits, all of them, where it has not heard of the broadcasts yet.
    """
    return f"""
      SELECT timer.run_id, event.created_at
      FROM unnest(%s::text[], %s::text[], %s::timestamptz[]) event (name, key, created_at), LATERAL (
        SELECT run_id FROM {TIMER} timer
        WHERE timer.event = event.name AND timer.event IS NOT NULL AND {same_key} LIMIT {most}
      ) timer LIMIT {most}"""
