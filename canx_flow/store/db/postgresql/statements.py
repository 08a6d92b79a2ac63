"""PostgreSQL's statements that write at once what takes a short transaction elsewhere, as `session` runs them.

Each row is reached by its key whatever the planner believes: of a table that has just grown it knows nothing, and would
read all of it for a join. A subquery that locks stays a loop of look-ups; so does `= ANY` of an array.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....core import arrows
from ....core.naming import END
from ....states import SUSPENDED
from ..assignments import assignments
from ..ready import Look
from ..tables import DELEGATION, EVENT, HISTORY, KEY, RECORD_COLUMNS, RUN, STEP, TIMER, WORKER
from .libpq import Statement

#: For a row that its key finds. It implies the condition of no index: the planner would read all ready runs for one.
#: Numbers, because planners know more of truth values with each release.
IS_READY = "ready::int = 1"
#: For the few events that no worker has taken, for the same reason: all broadcasts are of an index with this condition.
IS_BROADCAST = "num_nulls(run_id) = 1"

#: The same for a timer.
_IS_FREE = "NOT (held IS DISTINCT FROM false)"

#: As `store.children.reads` has it.
_READS = "state <> 'completed' AND ending <> 'cancelled'"

_SUSPENDED = ", ".join(f"'{state}'" for state in SUSPENDED)

_RECORD = """seq int, name text, kind text, state text, attempts int, result text, errors text, event_id bigint,
    started_at timestamptz, finished_at timestamptz"""

_CLAIMED = assignments(arrows.CLAIM)
_COMPLETED = assignments(
    arrows.COMPLETE, now="%s::timestamptz", result="(SELECT lease.result FROM lease WHERE lease.run_id = run.id)"
)


def _plain(
    *, wanted: str = "", seen: str = "", as_seen: str = "", ended: str = "", told: str = "", said: str = ""
) -> str:
    return f"""
WITH wanted AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, run_id uuid, epoch int, ends bool, result text{wanted})
), record AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, {_RECORD})
), lease AS MATERIALIZED (
  SELECT wanted.*, run.state FROM wanted, {seen}LATERAL (
    -- Not `owner_id = `: in the index of owners stand all runs that this worker has had.
    SELECT state FROM {RUN} WHERE id = wanted.run_id AND owner_id IS NOT DISTINCT FROM %s::uuid AND epoch = wanted.epoch
      AND state IN ('running', 'paused', 'stopping'){as_seen} FOR NO KEY UPDATE SKIP LOCKED
  ) run
), stored AS (
  INSERT INTO {STEP} ({RECORD_COLUMNS})
  SELECT lease.run_id, lease.epoch, {", ".join("record." + name for name in RECORD_COLUMNS.split(", ")[2:])}
  FROM record JOIN lease ON lease.n = record.n
), ended AS (
  UPDATE {RUN} run SET {_COMPLETED}
  WHERE run.id = ANY(ARRAY(SELECT run_id FROM lease WHERE ends AND state = 'running')){ended}
){told}
SELECT n::text, state, (ends AND state = 'running')::text{said} FROM lease
"""


#: Records and completions of many runs.
PLAIN = Statement("plain", _plain())

#: The same, where some of the runs have parents: as `store.children` tells those, and wakes them.
#:
#: Those that are suspended, or this owner's, are locked for that, if no other transaction has them. Of one that is then
#: as the statement has seen it, in state and epoch, it has seen the waits, too: no run is suspended twice in one epoch.
#: For any other, whatever it does at this moment, the event stays to be delivered.
#:
#: Whoever makes a fork that is to be told of a child's end writes the child's row (`store.children.pass_on`). Of one
#: that is locked as it was seen, all such forks were seen, too; any other counts as locked by another transaction.
PLAIN_AND_TELL = Statement(
    "telling",
    _plain(
        wanted=", parent uuid",
        seen=f"LATERAL (SELECT xmin AS version FROM {RUN} WHERE id = wanted.run_id LIMIT 1) seen, ",
        as_seen=" AND xmin = seen.version",
        ended=" RETURNING run.id, run.result, run.finished_at",
        told=f""", reader AS MATERIALIZED (
  SELECT reader.id, reader.state, reader.epoch, '{END}' || ended.id AS event, ended.result, ended.finished_at
  FROM ended JOIN lease ON lease.run_id = ended.id, LATERAL (
    SELECT id, state, epoch FROM {RUN} WHERE id = lease.parent AND {_READS}
    UNION  -- A parent that is a fork itself is among both. One that is gone was none: the seed of its forks is its id.
    SELECT id, state, epoch FROM {RUN}
    WHERE seed = COALESCE((SELECT seed FROM {RUN} WHERE id = lease.parent), lease.parent) AND {_READS}
  ) reader
), held AS MATERIALIZED (
  SELECT seen.id, seen.state FROM (SELECT DISTINCT id, state, epoch FROM reader) seen, LATERAL (
    SELECT FROM {RUN} WHERE id = seen.id AND state = seen.state AND epoch = seen.epoch
      AND (state IN ({_SUSPENDED}) OR state = 'running' AND owner_id IS NOT DISTINCT FROM %s::uuid)
    FOR NO KEY UPDATE SKIP LOCKED
  ) run
), woken AS (
  UPDATE {RUN} SET {assignments(arrows.WAKE)} WHERE id = ANY(ARRAY(
    SELECT held.id FROM held JOIN reader ON reader.id = held.id, LATERAL (
      SELECT FROM {TIMER} WHERE run_id = held.id AND event = reader.event LIMIT 1
    ) wait WHERE held.state IN ({_SUSPENDED})))
  RETURNING id
), told AS (
  INSERT INTO {EVENT} (run_id, name, payload, created_at, delivered)
  SELECT id, event, '["completed",' || COALESCE(result, 'null') || ']', finished_at, id IN (SELECT id FROM held)
  FROM reader
  RETURNING delivered
)""",
        said=", COALESCE((SELECT bool_and(delivered) FROM told), true)::text, (SELECT count(*) FROM woken)::text",
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


def claim(look: Look, condition: str, columns: Sequence[str]) -> str:
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
          SELECT id FROM {RUN} WHERE id = looked.id AND {IS_READY} AND {condition} FOR NO KEY UPDATE SKIP LOCKED
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

#: Records that are stored already are taken further, unless they are finished: see `Portable.update_records`.
FURTHER = f"""
WITH further AS (
  SELECT * FROM json_to_recordset(%s::json) AS (run_id uuid, epoch int, {_RECORD})
), found AS MATERIALIZED (
  SELECT record.id, further.* FROM further, LATERAL (
    SELECT id FROM {STEP} WHERE run_id = further.run_id AND name = further.name
      AND (state NOT IN ('completed', 'failed') OR (kind = 'sleep' AND further.state = 'closed'))
      AND (attempts <= further.attempts OR state = 'started') FOR NO KEY UPDATE
  ) record
)
UPDATE {STEP} step SET seq = found.seq, state = found.state, attempts = found.attempts, epoch = found.epoch,
  result = found.result, errors = found.errors, event_id = found.event_id, finished_at = found.finished_at
FROM found WHERE step.id = found.id AND step.id = ANY(ARRAY(SELECT id FROM found))
RETURNING step.id
"""

#: Events are read, each by a step of its own.
READ = f"""
UPDATE {EVENT} SET consumed_by = (%s::text[])[array_position(%s::bigint[], id)], consumed_at = %s, delivered = true
WHERE id = ANY(%s) AND consumed_at IS NULL
RETURNING id
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
  SELECT run_id FROM due WHERE kind IN ('deadline', 'cancel', 'expire', 'freed')
), run AS MATERIALIZED (
  SELECT id, state, owner_id FROM {RUN} WHERE id = ANY(ARRAY(SELECT run_id FROM due EXCEPT SELECT run_id FROM late))
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), fired AS (
  DELETE FROM {TIMER} WHERE id = ANY(ARRAY(SELECT due.id FROM due JOIN run ON run.id = due.run_id))
    AND {_IS_FREE} AND due_at <= %(now)s
  RETURNING run_id, kind, step, due_at
), waited AS MATERIALIZED (
  SELECT record.id, fired.due_at FROM fired, LATERAL (
    SELECT id FROM {STEP} WHERE run_id = fired.run_id AND name = fired.step AND state = 'open' FOR NO KEY UPDATE
  ) record WHERE fired.kind IN ('sleep', 'retry', 'wait', 'limit', 'delegate')
), recorded AS (
  UPDATE {STEP} SET state = CASE kind WHEN 'sleep' THEN 'completed' ELSE 'due' END,
    finished_at = CASE WHEN kind IN ('sleep', 'wait') THEN waited.due_at ELSE finished_at END
  FROM waited WHERE {STEP}.id = waited.id AND {STEP}.id = ANY(ARRAY(SELECT id FROM waited))
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
), delegation AS (
  DELETE FROM {DELEGATION} WHERE {these("run_id")} RETURNING event_id
), unread AS (
  DELETE FROM {EVENT} WHERE {these("run_id")} AND consumed_at IS NULL
), read AS (
  -- Not the broadcasts, which others may read, nor what was sent to the run that one of these was forked from.
  DELETE FROM {EVENT} WHERE id = ANY(ARRAY(
    SELECT event_id FROM record WHERE event_id IS NOT NULL
    UNION SELECT event_id FROM delegation WHERE event_id IS NOT NULL))
    AND run_id = ANY(%(ids)s)
), timer AS (
  DELETE FROM {TIMER} WHERE {these("run_id")}
), key AS (
  DELETE FROM {KEY} WHERE {these("run_id")}
), history AS (
  DELETE FROM {HISTORY} WHERE {these("run_id")}
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
    """Return the SELECT of up to so many waits for broadcasts: their runs and kinds, and when those were sent.

    Its parameters are the broadcasts' names, keys and moments. For each the waits are looked up: a join the planner
    would begin with the waits, all of them, where it has not heard of the broadcasts yet.
    """
    return f"""
      SELECT timer.run_id, timer.kind, event.created_at
      FROM unnest(%s::text[], %s::text[], %s::timestamptz[]) event (name, key, created_at), LATERAL (
        SELECT run_id, kind FROM {TIMER} timer
        WHERE timer.event = event.name AND timer.event IS NOT NULL AND {same_key} LIMIT {most}
      ) timer LIMIT {most}"""
