"""Fixtures of the fault tests: a database server that a test may stop, in place of the tier's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import Settings

from testproject.databases import database

from ..processes import manage
from .servers import NAME, SERVERS, Server, Wire

#: Seconds, where a test needs several of them to pass.
LEASE = 1.5
#: Connections of a server that has too few. PostgreSQL keeps three of them for superusers, and we are one.
FEW = {"postgresql": 8, "mysql": 7}


@pytest.fixture
def short_lease(settings: Settings) -> None:
    """Leases of LEASE seconds in the workers of this test."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": LEASE}


@pytest.fixture(scope="session")
def _server(tier: str) -> Iterator[Server]:
    if tier not in SERVERS:
        pytest.skip("SQLite has no server")
    if SERVERS[tier].missing():
        # A developer may test against a server elsewhere; what decides over a change must not leave this out.
        leave_out = pytest.fail if os.environ.get("CI") else pytest.skip
        leave_out(f"the programs of a {tier} server are not installed here")
    server = SERVERS[tier]()
    yield server
    server.remove()


@pytest.fixture
def own_server(transactional_db: None, _server: Server) -> Iterator[Server]:
    """A server of the tier's kind with empty tables, for this test and its workers. Take it before `workers`."""
    _server.start()
    with _instead_of_the_tiers(_server):
        if _server.has_tables:
            call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=True)
        else:
            done = manage("migrate", "--run-syncdb", "--verbosity", "0")
            assert done.returncode == 0, done.stderr
            _server.has_tables = True
        yield _server


@pytest.fixture
def small_server(transactional_db: None, tier: str, _server: Server) -> Iterator[Server]:
    """A server with few connections: those of the engine and of this test, and a few for slots."""
    server = type("Small", (type(_server),), {"settings": {"max_connections": FEW[tier]}})()
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
