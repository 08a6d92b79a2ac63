"""One database from its URL, with the options each kind needs to serve workers. Used by the settings."""

from __future__ import annotations

from typing import Any

import environ

SQLITE_OPTIONS = {
    # Takes the write lock when a transaction begins: one that reads first and writes later never finds it taken.
    "transaction_mode": "IMMEDIATE",
    # Readers and the one writer do not wait for each other.
    "init_command": "PRAGMA journal_mode=WAL",
    # Seconds to wait for the write lock.
    "timeout": 20,
}
MYSQL_OPTIONS = {"charset": "utf8mb4"}


def database(url: str) -> dict[str, Any]:
    """Read `sqlite:////path`, `postgres://user:password@host:port/name` or `mysql://…` as an entry of DATABASES."""
    settings: dict[str, Any] = environ.Env.db_url_config(url)
    vendor = settings["ENGINE"].rpartition(".")[2]
    options = {"sqlite3": SQLITE_OPTIONS, "mysql": MYSQL_OPTIONS}.get(vendor, {})
    settings["OPTIONS"] = {**options, **settings.get("OPTIONS", {})}
    return settings
