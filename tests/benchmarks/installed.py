"""The databases that can be measured here, each by its name. Asked for by the command."""

from __future__ import annotations

from ..faults import servers
from .mariadb import MariaDB
from .places import Place, Postgres, SQLite

#: What it takes to measure a database that is not among those found.
MISSING = {
    "postgresql": "no initdb was found, and no --postgres-url was given",
    "mariadb": "no mariadbd was found",
}


def found_places(url: str | None) -> dict[str, Place]:
    """Every database that can be measured here, by name; `url`: of a PostgreSQL server that is there already."""
    places: list[Place] = [SQLite("FULL"), SQLite("NORMAL")]
    if url is not None or not servers.PostgreSQL.missing():
        places.insert(0, Postgres(url))
    if not servers.MariaDB.missing():
        places.append(MariaDB())
    return {place.name: place for place in places}
