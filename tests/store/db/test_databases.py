"""Which session a connection has, and that nothing is noted on Django's own object for it."""

from __future__ import annotations

from django.db import connections

from canx_flow.store.db import engine
from canx_flow.store.db.databases import database_of, session_of
from canx_flow.store.db.portable import Portable
from canx_flow.store.db.tables import RUN

from ...elsewhere import elsewhere


def test_a_connection_has_one_session() -> None:
    """It is of the class for its database, and an engine connection's is another than the project's."""
    project, own = connections["default"], engine.open_connection("default")
    assert session_of(project) is session_of(project)
    assert session_of(own) is session_of(own) is not session_of(project)
    assert type(session_of(own)) is type(session_of(project)) is database_of(project.settings_dict["ENGINE"])
    assert session_of(own).is_own
    assert not session_of(project).is_own


def test_each_thread_has_a_session_for_its_own_connection() -> None:
    """As Django has a connection for each thread."""
    here = session_of(connections["default"])
    there = elsewhere(lambda: session_of(connections["default"])).result(10)
    assert there is not here
    assert there.connection is not here.connection


def test_a_connection_that_was_made_anew_has_a_new_session() -> None:
    """What is known of a session goes with its connection."""
    before = session_of(connections["default"])
    kept = connections["default"]
    del connections["default"]
    try:
        after = session_of(connections["default"])
    finally:
        connections["default"].close()
        connections["default"] = kept
    assert after is not before


def test_a_database_without_a_class_of_its_own_is_spoken_to_in_plain_sql() -> None:
    """Such as Oracle, of which the checks warn."""
    assert database_of("django.db.backends.dummy") is Portable


def test_nothing_is_noted_on_a_connection(db: None) -> None:
    """A backend that is not Django's, and has other attributes after a step than before it, is made anew."""
    connection = connections["default"]
    before = set(vars(connection))
    session = session_of(connection)
    session.prepared(f"SELECT count(*) FROM {RUN}", [])
    session.fetch(f"SELECT id FROM {RUN} WHERE id = %s", [session.uuid("0" * 32)])
    assert set(vars(connection)) <= before | {"_named_cursor_idx"}
