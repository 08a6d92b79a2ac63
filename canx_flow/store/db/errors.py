"""What an error means for the code that catches it: one table for each database, and the questions asked of them.

Only what a row's own data causes may fail that row's run. Whatever is not listed here is no fault of the row:
the database is away, the schema or a privilege is changing under a session, memory is short. That is waited for.
"""

from __future__ import annotations

from enum import Enum

from django.db.utils import DataError, Error, IntegrityError, InterfaceError, OperationalError


class SharedSession(Exception):  # noqa: N818 - its name is what is the matter
    """The database is behind a pooler that gives each transaction another session, and the settings do not say so."""


class Verdict(Enum):
    """What to do about an error."""

    AGAIN = "repeat it at once: a deadlock, a lock waited for too long, a serialization failure"
    AWAY = "wait for the database: the connection is lost, or the server takes no work"
    TAKEN = "look what is there: a row with this key exists"
    ROW = "fail the row's run: the data of this row can never be stored"
    OTHER = "reset the session and wait: schema, privilege, memory, limits, a statement that is wrong"


#: PostgreSQL, by the beginning of SQLSTATE; the longest one that fits decides. What is not here is OTHER.
POSTGRESQL = {
    "22": Verdict.ROW,  # data exception: too long, out of range, invalid text, encoding or JSON
    "54": Verdict.ROW,  # program limit exceeded: a value too large for an index, JSON nested too deeply
    "23505": Verdict.TAKEN,  # unique violation; NOT NULL, CHECK and the like are a migration's or an operator's
    "40001": Verdict.AGAIN,  # serialization failure
    "40P01": Verdict.AGAIN,  # deadlock detected
    "55P03": Verdict.AGAIN,  # lock not available: lock_timeout
    "08": Verdict.AWAY,  # connection exception
    "25006": Verdict.AWAY,  # read-only: not the primary any more, or not yet
    "25P03": Verdict.AWAY,  # idle in transaction for too long: the session has ended
    "25P04": Verdict.AWAY,  # transaction timeout: the same
    "40003": Verdict.AWAY,  # statement completion unknown
    "53300": Verdict.AWAY,  # too many connections
    "57P": Verdict.AWAY,  # the server is shut down, has crashed, or cannot be connected to now
}

#: MySQL and MariaDB, by number. What is not here is AWAY if the client says so (2000 and above), else OTHER.
MYSQL = {
    1062: Verdict.TAKEN,  # duplicate entry
    1586: Verdict.TAKEN,  # duplicate entry, with the key's name
    1020: Verdict.AGAIN,  # the row has changed since it was read: MariaDB's word for a serialization failure
    1205: Verdict.AGAIN,  # lock wait timeout exceeded
    1213: Verdict.AGAIN,  # deadlock
    1118: Verdict.ROW,  # row size too large
    1153: Verdict.ROW,  # got a packet bigger than max_allowed_packet
    1264: Verdict.ROW,  # out of range
    1265: Verdict.ROW,  # data truncated
    1292: Verdict.ROW,  # truncated incorrect value
    1300: Verdict.ROW,  # invalid character string
    1301: Verdict.ROW,  # result larger than max_allowed_packet
    1366: Verdict.ROW,  # incorrect value for a column: a character that it cannot hold
    1406: Verdict.ROW,  # data too long
    1441: Verdict.ROW,  # datetime overflow
    1690: Verdict.ROW,  # value out of range
    1713: Verdict.ROW,  # undo log record too large
    2020: Verdict.ROW,  # the client: packet too large
    3140: Verdict.ROW,  # invalid JSON text
    3141: Verdict.ROW,  # invalid JSON text in an argument
    3144: Verdict.ROW,  # JSON of another character set
    3150: Verdict.ROW,  # JSON value too large
    3151: Verdict.ROW,  # JSON key too large
    3157: Verdict.ROW,  # JSON nested too deeply
    1040: Verdict.AWAY,  # too many connections
    1053: Verdict.AWAY,  # server shutdown in progress
    1077: Verdict.AWAY,  # normal shutdown
    1079: Verdict.AWAY,  # shutdown complete
    1080: Verdict.AWAY,  # forcing close of a thread
    1152: Verdict.AWAY,  # aborted connection
    1158: Verdict.AWAY,  # reading communication packets failed
    1159: Verdict.AWAY,  # the same, by a timeout
    1160: Verdict.AWAY,  # writing them failed
    1161: Verdict.AWAY,  # the same, by a timeout
    1184: Verdict.AWAY,  # aborted connection
    1203: Verdict.AWAY,  # this user has too many connections
    1226: Verdict.AWAY,  # this user has used up a resource
    1290: Verdict.AWAY,  # --read-only
    1836: Verdict.AWAY,  # read-only mode
    1927: Verdict.AWAY,  # connection was killed
    4025: Verdict.OTHER,  # CHECK constraint failed; but see _OUR_JSON
}
_MYSQL_CLIENT = range(2000, 3000)
#: What MySQL's driver calls operational and is wrong with the statement: a schema that changes.
_MYSQL_STATEMENT = {1054, 1136, 1267, 1270, 1271, 1390, 4078}

#: SQLite, by error code; its lower byte decides where the extended code is not listed. What is not here is OTHER.
SQLITE = {
    5: Verdict.AWAY,  # busy: the file is locked by another connection
    6: Verdict.AWAY,  # locked: the same within one connection's cache
    8: Verdict.AWAY,  # read-only
    10: Verdict.AWAY,  # I/O error
    13: Verdict.AWAY,  # disk full
    14: Verdict.AWAY,  # cannot open the file
    15: Verdict.AWAY,  # locking protocol
    18: Verdict.ROW,  # too big
    1555: Verdict.TAKEN,  # constraint: primary key
    2067: Verdict.TAKEN,  # constraint: unique
    2579: Verdict.TAKEN,  # constraint: row id
}
_SQLITE_BUSY = (5, 6)
_LOCK_TIMEOUT, _LOCK_WAIT_TIMEOUT = "55P03", 1205
_SQLITE_ERROR = 1  # what is wrong with the statement itself

#: The one CHECK that is ours: Django's, of a JSON column, where the database has no such type. MariaDB refuses by it
#: what is nested deeper than it reads.
_OUR_JSON = ("canx_flow_workflowrun.attributes", "JSON_VALID")

#: Too many connections. PostgreSQL says so before there is a session, and then the driver gives no code.
_CROWDED_STATE, _CROWDED_NUMBERS = "53300", {1040, 1203, 1226}
_CROWDED_WORDS = ("too many clients", "remaining connection slots", "too many connections", "no more connections")

#: Not a database's: a value that no driver can send.
_UNSENDABLE = (UnicodeError, OverflowError)


def verdict(exc: BaseException) -> Verdict:
    """Return what this error means. Django's database errors are told apart by what the driver has said."""
    if not isinstance(exc, Error):
        return Verdict.ROW if isinstance(exc, _UNSENDABLE) else Verdict.OTHER
    told = _by_code(exc)
    if told is None:
        return _by_class(exc)
    if told is Verdict.OTHER and isinstance(exc, IntegrityError) and any(name in str(exc) for name in _OUR_JSON):
        return Verdict.ROW
    return told


def _by_code(exc: Error) -> Verdict | None:
    """Return what the driver's code means; `None` if there is no code."""
    state, number, sqlite = _codes(exc)
    if state:
        return next((POSTGRESQL[state[:n]] for n in (5, 3, 2) if state[:n] in POSTGRESQL), Verdict.OTHER)
    if number is not None:
        return MYSQL.get(number, Verdict.AWAY if number in _MYSQL_CLIENT else Verdict.OTHER)
    if sqlite is not None:
        return SQLITE.get(sqlite) or SQLITE.get(sqlite & 0xFF, Verdict.OTHER)
    return None


def _by_class(exc: Error) -> Verdict:
    if isinstance(exc, (OperationalError, InterfaceError)):
        return Verdict.AWAY  # libpq's own words, mostly: the connection is lost.
    if isinstance(exc, IntegrityError):
        return Verdict.TAKEN
    return Verdict.ROW if isinstance(exc, DataError) else Verdict.OTHER


def _codes(exc: BaseException) -> tuple[str, int | None, int | None]:
    """Return PostgreSQL's SQLSTATE, MySQL's number and SQLite's code, each if there is one."""
    cause = exc.__cause__ if isinstance(exc, Error) and exc.__cause__ is not None else exc
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
    first = cause.args[0] if cause.args else None
    # Zero is mysqlclient's word for a connection that was closed.
    number = first if isinstance(first, int) and first and isinstance(exc, Error) else None
    return state, number, getattr(cause, "sqlite_errorcode", None)


def is_outage(exc: BaseException) -> bool:
    """Return whether the database is away, or too busy to answer (SQLite's locked file): wait and try again.

    Deadlocks are such errors too: ask `is_deadlock` first where they deserve an answer of their own. So is whatever
    else the driver calls operational, if no data and no statement of ours is wrong.
    """
    told = verdict(exc)
    if told is Verdict.OTHER and isinstance(exc, (OperationalError, InterfaceError)):
        _state, number, sqlite = _codes(exc)
        return number not in _MYSQL_STATEMENT and sqlite != _SQLITE_ERROR
    return told in (Verdict.AGAIN, Verdict.AWAY)


def is_busy(exc: BaseException) -> bool:
    """Return whether SQLite's file is locked by another transaction: the connection itself is sound."""
    code = _codes(exc)[2]
    return code is not None and code & 0xFF in _SQLITE_BUSY


def is_sound(exc: BaseException) -> bool:
    """Return whether the connection that has met this error is as it was: others were in its way, and no more."""
    return is_deadlock(exc) or is_busy(exc)


def is_aborted(exc: BaseException) -> bool:
    """Return whether an earlier statement of a transaction of PostgreSQL's has failed, and its error was swallowed."""
    return _codes(exc)[0] == "25P02"


def is_deadlock(exc: BaseException) -> bool:
    """Return whether the same may succeed at once: a deadlock, a lock waited for too long, a serialization failure."""
    if not isinstance(exc, Error):  # A driver's own, as raised by code that does not go through Django.
        return POSTGRESQL.get(_codes(exc)[0]) is Verdict.AGAIN
    return verdict(exc) is Verdict.AGAIN


def is_conflict(exc: BaseException) -> bool:
    """Return whether to repeat it: a deadlock or a serialization failure. For a lock it would wait as long again."""
    state, number, _sqlite = _codes(exc)
    return is_deadlock(exc) and state != _LOCK_TIMEOUT and number != _LOCK_WAIT_TIMEOUT


def may_last(exc: BaseException) -> bool:
    """Return whether the same may fail for hours while the database answers: a row is locked, a statement too slow."""
    return not is_conflict(exc) and verdict(exc) is not Verdict.AWAY


def is_of_the_row(exc: BaseException) -> bool:
    """Return whether the data of this row can never be stored: its run has failed, and no other."""
    return verdict(exc) is Verdict.ROW


def is_taken(exc: BaseException) -> bool:
    """Return whether a row with this key is there already."""
    return verdict(exc) is Verdict.TAKEN


def is_crowded(exc: BaseException) -> bool:
    """Return whether there are no more connections: the server, or a pool before it, has given out all that it has."""
    state, number, _sqlite = _codes(exc)
    return state == _CROWDED_STATE or number in _CROWDED_NUMBERS or any(words in str(exc) for words in _CROWDED_WORDS)
