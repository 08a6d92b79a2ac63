"""Fixtures of the fault tests: a database server that a test may stop, in place of the tier's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections
from testproject.databases import database

from ..processes import manage
from .servers import NAME, SERVERS, Server, Wire


@pytest.fixture
def own_server(transactional_db: None, tier: str) -> Iterator[Server]:
    """A server of the tier's kind with empty tables, for this test and its workers. Take it before `workers`."""
    if tier not in SERVERS:
        pytest.skip("SQLite has no server")
    if SERVERS[tier].missing():
        pytest.skip(f"the programs of a {tier} server are not installed here")
    server = SERVERS[tier]()
    try:
        with _instead_of_the_tiers(server):
            done = manage("migrate", "--run-syncdb", "--verbosity", "0")
            assert done.returncode == 0, done.stderr
            yield server
    finally:
        server.remove()


@contextmanager
def _instead_of_the_tiers(server: Server) -> Iterator[None]:
    """Let this process, and those it starts, find this server where they look for the database under test."""
    own = database(server.url)
    place = {name: own[name] for name in ("HOST", "PORT", "USER", "PASSWORD")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", server.url)
        patch.setitem(connections.settings, "default", {**connections.settings["default"], **place, "NAME": NAME})
        _forget_connection()
        yield
    _forget_connection()


def _forget_connection() -> None:
    connections["default"].close()
    del connections["default"]


@pytest.fixture
def wire(own_server: Server) -> Iterator[Wire]:
    """A wire to the test's own server that can be cut; nobody uses it who is not told its port."""
    wire = Wire(own_server.port)
    yield wire
    wire.close()
