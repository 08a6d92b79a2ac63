"""One connection as the engine's statements use it: the small things that every statement is made of.

`databases.session_of` makes one for each connection, of the class for its database. What differs by database is an
attribute or a method here, with the answer that most databases give; `postgresql`, `mysql` and `sqlite` give theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .effects import Effects
from .merging import Select, merged
from .tables import PAUSED_WORKFLOW, placeholders

_NO_TURN = nullcontext()


class Session:
    """A connection, and what this kind of database needs to be told."""

    #: The literals of a statement.
    true, false = "1", "0"
    #: That a run is ready, for a row that its key finds: by no index of ready runs.
    is_ready = "ready = 1"
    #: What has a SELECT or UPDATE go by the primary key, where it might not by itself.
    by_key = ""
    #: What locks the rows of a SELECT, and leaves out those that another transaction has locked.
    lock_free_rows = " FOR UPDATE SKIP LOCKED"
    #: What locks the rows of a SELECT, and waits for other transactions.
    lock_rows = " FOR UPDATE"
    #: The server's time now, in seconds, as an expression: not that of the transaction's begin.
    time = "UNIX_TIMESTAMP(SYSDATE(6))"
    #: Whether a recursive statement goes from one value of an index to the next, and reads no row between them.
    recursion_jumps = True
    #: What has a SELECT, by being one of its columns, keep its transaction to indexes that have rows in order.
    by_order = ""
    #: What a statement may do to a session.
    effects = Effects(r";|\$|/\*|\*/|\\|@|\#")
    #: That a workflow, which is the parameter, is not paused.
    not_paused = f"NOT EXISTS (SELECT 1 FROM {PAUSED_WORKFLOW} paused WHERE paused.workflow = %s)"
    #: The same, and that a run is of this workflow, given once more, and of a version. Where the workflow is paused,
    #: that is known before any run is read.
    open_code = f"{not_paused} AND workflow = %s AND version = %s"
    #: Whether one transaction at a time may write, in all of the database.
    has_one_writer = False
    #: Whether it tells other sessions of something (LISTEN, NOTIFY).
    notifies = False
    #: An INSERT that leaves out the rows whose unique columns have a value that is taken: its first words, and its end.
    insert_unless_taken = "INSERT", " ON CONFLICT ({columns}) DO NOTHING"
    #: Whether an INSERT that meets a rival's row keeps a lock on it, so that what can be seen should not be met.
    locks_what_it_meets = False
    #: Whether a SELECT without a lock shows what others have committed since its transaction began. (Where it does not
    #: on PostgreSQL, nothing else does: that is a serialization failure.)
    sees_commits = True
    #: The time of this statement, in microseconds since 1970.
    microseconds = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
    #: Whether it has an index for JSON, so that runs are found by their attributes.
    indexes_json = False
    #: Whether an index may keep entries of rows that have changed long ago, all of which a look reads again.
    keeps_dead_entries = False
    #: Whether one statement can lock rows, write several tables and say what it has done: it then commits by itself.
    #: The parents of runs that have completed by it have been told.
    writes_at_once = False

    def __init__(self, connection: BaseDatabaseWrapper, *, is_own: bool = False) -> None:
        self.connection: Any = connection
        #: Whether the engine has opened it: only then may anything be set on what is behind it.
        self.is_own = is_own

    # -- an engine connection is opened ------------------------------------------------------------

    @classmethod
    def options(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options to open an engine connection with, made of a project's."""
        return dict(given)

    def set_up(self) -> None:
        """Set what an engine connection needs that has just been opened, outside any transaction."""

    # -- a transaction -----------------------------------------------------------------------------

    def turn(self) -> AbstractContextManager[object]:
        """Return what a thread holds while it writes, so that the threads of this process write one after another."""
        return _NO_TURN

    def begin(self) -> None:
        """Begin a transaction of the engine's own."""
        with self.connection.cursor() as cursor:
            cursor.execute("START TRANSACTION")

    def locking_at_its_begin(self) -> AbstractContextManager[object]:
        """Have Django's `atomic`, inside of this, take the lock for writing that it will need: SQLite's."""
        return nullcontext()

    def lock_first(self) -> None:
        """Have an open transaction take the lock for writing that it will need: SQLite's, before it reads anything."""

    def read_committed(self) -> AbstractContextManager[object]:
        """Open a transaction, on a caller's connection, that sees what others have committed meanwhile."""
        return transaction.atomic(using=str(self.connection.alias))

    def one_by_one(self, contest: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """Have one session at a time do an INSERT that may meet a rival's row; `contest` is what they are rivals for.

        Where rivals wait for each other in a row by themselves, this does nothing.
        """
        return nullcontext()

    def hardly_waiting(self, milliseconds: int) -> AbstractContextManager[object]:  # noqa: ARG002
        """Wait no longer than this for a lock on all of the database, where there is one."""
        return nullcontext()

    # -- a project's session is lent ---------------------------------------------------------------

    def taken_back_by(self) -> str:
        """Return the statements that take the session back to what it is now; empty where there are none."""
        return ""

    def is_in_transaction(self) -> bool:
        """Return whether the session is in a transaction, as far as its driver tells without asking the server."""
        return False

    def is_begun_by_hand(self, statement: str, before: bool) -> bool:  # noqa: ARG002
        """Return whether a transaction is open after this statement, where the driver does not tell."""
        return False

    def was_ended_by_hand(self) -> bool | None:
        """Return whether the transaction of an `atomic` block has ended inside of it; `None` where it is not told."""
        return None

    # -- values ------------------------------------------------------------------------------------

    def uuid(self, value: UUID | str) -> Any:
        """Return a UUID as this database's column compares it."""
        uuid = value if isinstance(value, UUID) else UUID(value)
        return str(uuid) if self.connection.features.has_native_uuid_field else uuid.hex

    def moment(self, moment: datetime | None) -> Any:
        """Return a moment as this database's driver takes it."""
        if moment is None:
            return None
        if moment.tzinfo is UTC and self.connection.timezone is UTC:
            return str(moment.replace(tzinfo=None))  # What Django does, which asks more questions.
        return self.connection.ops.adapt_datetimefield_value(moment)

    def read_moment(self, value: Any) -> datetime | None:
        """Return a moment that this database's driver gives, aware."""
        if value is None:
            return None
        moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return (moment if moment.tzinfo else moment.replace(tzinfo=self.connection.timezone)).astimezone(UTC)

    def largest_packet(self) -> int | None:
        """Return how many bytes the server takes at once; `None` if it takes what is sent."""
        return None

    def in_order(self, *columns: str, null: str) -> tuple[str, ...]:  # noqa: ARG002 - for PostgreSQL
        """Return by what to order rows whose column `null` IS NULL, so that the index which it leads does."""
        return columns

    # -- statements --------------------------------------------------------------------------------

    def by_index(self, index: str) -> str:  # noqa: ARG002 - for the others
        """Return what, behind a table's name, has a SELECT go by this index; nothing where none takes advice."""
        return ""

    def first_by(self, order: str) -> str:  # noqa: ARG002 - for PostgreSQL, which takes an index for its order
        """Return what has a SELECT give one row, whichever is the first in an index with this order."""
        return "LIMIT 1"

    def of_each_code(self, codes: Sequence[tuple[str, str]], parts: Sequence[Select], most: int) -> Select:
        """Return the SELECT of the first rows of these, for each workflow and version, for which `{code}` stands.

        Of a workflow that is paused nothing is read, however many runs of it are ready.
        """
        return merged([
            (text.replace("{code}", self.open_code), [name, name, version, *values])
            for name, version in codes for text, values in parts
        ], most)  # fmt: skip

    def fetch(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement, as the driver gives them."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())

    def prepared(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any],
        *,
        large: bool = False,  # noqa: ARG002 - for PostgreSQL
    ) -> list[Any]:
        """Return the rows of a statement that is run again and again, and prepared where that pays.

        `large`: the answer may be, and must not be kept until the next statement.
        """
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def fetch_of(self, statement: str, values: Sequence[Any], rest: str = "", *, large: bool = False) -> list[Any]:  # noqa: ARG002
        """Return the rows of a SELECT that ends in a column, and then `rest`, where that is one of these values."""
        self.connection.ensure_connection()
        return self.fetch(f"{statement} IN ({placeholders(values)}){rest}", values)

    def execute(self, statement: str, parameters: Sequence[Any]) -> None:
        """Run a statement that gives no rows."""
        self.execute_many(statement, [parameters])

    def execute_of(self, statement: str, parameters: Sequence[Any], values: Sequence[Any]) -> None:
        """Run a statement that ends in a column, for the rows in which that is one of these values."""
        self.execute(f"{statement} IN ({placeholders(values)})", [*parameters, *values])

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once for each of these rows of parameters; return how many rows of its table that met."""
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, rows)
            return int(cursor.rowcount)
