"""Columns and indexes that must mean the same on every database. Used by `models` and its migrations only."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.indexes import Index


class NameField(models.CharField):  # type: ignore[type-arg]
    """Text that compares byte by byte: `Charge`, `charge`, `café` and `cafe` are four names.

    PostgreSQL and SQLite do so by themselves. MySQL and MariaDB fold case and accents and pad with
    blanks unless the column says otherwise, and each has another word for it.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            mariadb = getattr(connection, "mysql_is_mariadb", False)
            parameters["collation"] = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        return parameters


class PartialIndex(Index):
    """An index over the rows that matter, where the database can; over all rows elsewhere.

    Django's own `Index(condition=…)` is left out altogether on MySQL and warns about it.
    """

    def __init__(self, *fields: Any, where: models.Q, name: str, **kwargs: Any) -> None:
        super().__init__(*fields, name=name, **kwargs)
        self.where = where

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Any:
        self.condition = self.where if schema_editor.connection.features.supports_partial_indexes else None
        try:
            return super().create_sql(model, schema_editor, using=using, **kwargs)
        finally:
            self.condition = None

    def deconstruct(self) -> Any:
        path, arguments, kwargs = super().deconstruct()
        return path, arguments, kwargs | {"where": self.where}
