"""What takes a project's session on PostgreSQL back to what it was when it was opened.

Called by `session` when a connection that is lent has been opened.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

#: What undoes what a session may have been told, but for what Django and the project told it when it was opened.
#: `DISCARD ALL` would do the same and more: it forgets the plans, and runs in no batch of statements.
_RESET = (
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); "
    "DISCARD TEMP; DISCARD SEQUENCES"
)
_TOLD = """
    SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
    UNION ALL SELECT 'role', pg_catalog.current_setting('role')
"""

#: What was found for connections that are open. One from a pool comes back, and comes back reset.
_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def statements(raw: Any) -> str:
    """Return the statements that take this connection of the driver's back to what it is now; empty for none."""
    with suppress(TypeError):  # A tracer's may not be weakly referred to.
        if raw in _known:
            return _known[raw]
    try:
        from psycopg import sql
    except ImportError:
        return ""
    with raw.cursor() as cursor:
        cursor.execute(_TOLD)
        told = [(name, value) for name, value in cursor.fetchall() if (name, value) != ("role", "none")]
    again = [f"; SELECT pg_catalog.set_config({sql.quote(name)}, {sql.quote(value)}, false)" for name, value in told]
    reset = _RESET + "".join(again)
    with suppress(TypeError):
        _known[raw] = reset
    return reset
