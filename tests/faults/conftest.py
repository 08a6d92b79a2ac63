"""Fixtures of the fault tests: a database server that a test may stop, in place of the tier's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.db import connections
from testproject.databases import database

from ..processes import manage
from .servers import NAME, SERVERS, Server, Wire


@pytest.fixture
def own_server(transactional_db: None, tier: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of the tier's kind with empty tables, for this test and its workers. Take it before `workers`."""
    if tier not in SERVERS:
        pytest.skip("SQLite has no server")
    if SERVERS[tier].missing():
        pytest.skip(f"the programs of a {tier} server are not installed here")
    server = SERVERS[tier]()
    try:
        before = connections.settings["default"]
        connections["default"].close()
        monkeypatch.setenv("DATABASE_URL", server.url)
        monkeypatch.setitem(connections.settings, "default", {**before, **_settings(server, before)})
        del connections["default"]
        done = manage("migrate", "--run-syncdb", "--verbosity", "0")
        assert done.returncode == 0, done.stderr
        yield server
        connections["default"].close()
        del connections["default"]
    finally:
        server.remove()


@pytest.fixture
def wire(own_server: Server) -> Iterator[Wire]:
    """A wire to the test's own server that can be cut; nobody uses it who is not told its port."""
    wire = Wire(own_server.port)
    yield wire
    wire.close()


def _settings(server: Server, before: dict[str, object]) -> dict[str, object]:
    own = database(server.url)
    wanted = ("HOST", "PORT", "USER", "PASSWORD")
    return {**{name: own[name] for name in wanted}, "NAME": NAME}
