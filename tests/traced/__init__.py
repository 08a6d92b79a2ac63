"""Django backends whose driver is wrapped, as tracers wrap it: what is opened, and its cursors, are somebody else's.

They do what PEP 249 and Django ask for, and nothing else: no attributes of others, no constructor like the driver's.
"""

from __future__ import annotations

from typing import Any

#: What sqlite3 and psycopg add to PEP 249's connections, and a wrapper may lack.
_SHORT_CUTS = ("execute", "executemany", "executescript", "pgconn")


class Cursor:
    """A tracer's: nobody else makes one."""

    __slots__ = ("_cursor", "_tracer")

    def __init__(self, cursor: Any, *, tracer: str, service: str) -> None:
        self._cursor = cursor
        self._tracer = (tracer, service)

    def execute(self, query: Any, args: Any = None) -> Any:
        return self._cursor.execute(query) if args is None else self._cursor.execute(query, args)

    def executemany(self, query: Any, args: Any) -> Any:
        return self._cursor.executemany(query, args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Any:
        return iter(self._cursor)

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_error: object) -> None:
        self._cursor.close()


class Connection:
    """A tracer's: to the driver's own class a stranger."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Any) -> None:
        object.__setattr__(self, "_raw", raw)

    def cursor(self, *args: Any, **kwargs: Any) -> Cursor:
        return Cursor(self._raw.cursor(*args, **kwargs), tracer="tests", service="database")

    def __getattr__(self, name: str) -> Any:
        if name in _SHORT_CUTS:
            raise AttributeError(name)
        return getattr(self._raw, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self._raw), name):
            raise AttributeError(f"a traced connection has no {name!r}")
        setattr(self._raw, name, value)


class Traced:
    """For a backend's DatabaseWrapper: what it opens is wrapped."""

    def get_new_connection(self, conn_params: Any) -> Any:
        return Connection(super().get_new_connection(conn_params))  # type: ignore[misc]
