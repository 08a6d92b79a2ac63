"""Columns, indexes and comparisons that must mean the same on every database. Used by `models` and its migrations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.core.exceptions import FullResultSet
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.constants import LOOKUP_SEP
from django.db.models.indexes import Index
from django.db.models.lookups import In

from .entries import entry

#: The table of `models.RunAttribute`.
_NOTED = "canx_flow_runattribute"


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


class RowIdField(models.BigAutoField):  # type: ignore[type-arg]
    """A generated key that is kept nowhere else: it may come again once its row is gone.

    On SQLite it is the row's own number. Django's AUTOINCREMENT notes the largest one ever given in a table of its own,
    one more page to read and write in each commit.
    """

    def db_type_suffix(self, connection: BaseDatabaseWrapper) -> str | None:
        return None if connection.vendor == "sqlite" else super().db_type_suffix(connection)


class PartialIndex(Index):
    """An index over the rows that matter, where the database can; over all rows elsewhere, by what `where` fixes first.

    Do not name the columns that `where` fixes: PostgreSQL drops such a condition from what it looks up, since the
    index implies it, and a column that it leads with keeps what follows from being a boundary: the index is read from
    end to end. Django's own `Index(condition=…)` is left out altogether on MySQL and warns about it.
    """

    def __init__(self, *, fields: Sequence[str], where: models.Q, name: str) -> None:
        super().__init__(fields=fields, name=name)
        self.where = where

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Any:
        if schema_editor.connection.features.supports_partial_indexes:
            index: Index = _Conditional(fields=self.fields, name=self.name, condition=self.where)
        else:
            index = Index(fields=[*_fixed(self.where), *self.fields], name=self.name)
        return index.create_sql(model, schema_editor, using=using, **kwargs)

    def deconstruct(self) -> Any:
        path, arguments, kwargs = super().deconstruct()
        return path, arguments, kwargs | {"where": self.where}


class _Conditional(Index):
    """An index whose condition has the same words under each Django: SQLite takes it for these very words only.

    Before 6.1 Django writes a truth value as `ready` or `NOT ready`; the engine's statements say `ready = 1`.
    """

    def _get_condition_sql(self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor) -> Any:
        sql = super()._get_condition_sql(model, schema_editor)  # type: ignore[misc]
        assert self.condition is not None
        truths = [child for child in self.condition.children if isinstance(child, tuple) and isinstance(child[1], bool)]
        for name, value in truths if schema_editor.connection.vendor == "sqlite" else ():
            column = schema_editor.quote_name(name)
            whole = f"{column} = {value:d}"
            if LOOKUP_SEP not in name and whole not in sql:
                sql = sql.replace(column if value else f"NOT {column}", whole)
        return sql


class SparseIndex(PartialIndex):
    """An index over few rows of a table that is written all the time; where a database has no such, there is none."""

    #: What MySQL and MariaDB do in its place: nothing.
    _NOTHING = "DO 0"

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Any:
        if not schema_editor.connection.features.supports_partial_indexes:
            return self._NOTHING
        return super().create_sql(model, schema_editor, using=using, **kwargs)

    def remove_sql(self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, **kwargs: Any) -> Any:
        if not schema_editor.connection.features.supports_partial_indexes:
            return self._NOTHING
        return super().remove_sql(model, schema_editor, **kwargs)


def _fixed(where: models.Q) -> list[str]:
    """Return the columns of which this condition allows one value, or none (NULL)."""
    if where.negated or where.connector != models.Q.AND:
        return []
    pairs = (child for child in where.children if isinstance(child, tuple))
    names = (name.removesuffix("__isnull") if value is True else name for name, value in pairs)
    return [name for name in names if LOOKUP_SEP not in name]


class Between(models.Func):
    """The condition that an id lies between two others; for `filter`, beside one that says which ids are wanted.

    Always true on MySQL and MariaDB, which have an order of their own for UUIDs that do not begin with the time.
    """

    output_field = models.BooleanField()

    def __init__(self, column: str, first: UUID, last: UUID) -> None:
        super().__init__(models.F(column), *(models.Value(end, models.UUIDField()) for end in (first, last)))

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper, **_: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        texts, values = zip(*map(compiler.compile, self.get_source_expressions()), strict=True)
        return "({} BETWEEN {} AND {})".format(*texts), [value for each in values for value in each]

    def as_mysql(self, compiler: Any, connection: BaseDatabaseWrapper, **_: Any) -> Any:  # noqa: ARG002 - Django's hook
        return "(1 = 1)", []


class OneOfFew(In):
    """The condition that a column is one of those that a query finds, which are few; for `filter`.

    Without statistics PostgreSQL may take them for many, and go through the whole table in the order that is asked for.
    An array it takes for ten.
    """

    def __init__(self, column: str, found: models.QuerySet[Any, Any]) -> None:
        super().__init__(models.F(column), found.query)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        column, parameters = self.process_lhs(compiler, connection)
        query, more = self.process_rhs(compiler, connection)
        return f"{column} = ANY(ARRAY{query})", [*parameters, *more]

    def as_mysql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        """Put it into brackets of its own: MySQL takes no LIMIT right inside of IN."""
        column, parameters = self.process_lhs(compiler, connection)
        query, more = self.process_rhs(compiler, connection)
        return f"{column} IN (SELECT * FROM {query} few)", [*parameters, *more]  # noqa: S608 - of a queryset


class Among(In):
    """The condition that an id is one of these, which may be thousands; for `filter`.

    Where a database takes a list as one parameter: to prepare, send and read thousands takes longer than to look them
    up. Written once for all statements that ask for the same ids.
    """

    def __init__(self, column: str, ids: frozenset[UUID]) -> None:
        super().__init__(models.F(column), ids)

    def get_prep_lookup(self) -> frozenset[UUID]:
        return self.rhs  # type: ignore[no-any-return]

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        column, parameters = self.process_lhs(compiler, connection)
        return f"{column} = ANY(%s::uuid[])", [*parameters, f"{{{','.join(_written(self.rhs))}}}"]

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        column, parameters = self.process_lhs(compiler, connection)
        text = json.dumps(_written(self.rhs))
        return f"{column} IN (SELECT value FROM json_each(%s))", [*parameters, text]  # noqa: S608 - a column


@lru_cache(maxsize=4)
def _written(ids: frozenset[UUID]) -> tuple[str, ...]:
    return tuple(sorted(each.hex for each in ids))


class HasNoted(models.Lookup):  # type: ignore[type-arg]
    """The condition that the number of an entry is noted for the run of this id; for `filter`, beside `HasEntry`.

    So a run is found by an index where the database has none for JSON; where it has, nothing is asked. A lookup, since
    Django compares other conditions with 1 for SQLite, which then takes no index.
    """

    lookup_name = "has_noted"
    prepare_rhs = False

    def __init__(self, column: str, name: str, value: Any) -> None:
        super().__init__(models.F(column), entry(name, value))

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        text, parameters = self.process_lhs(compiler, connection)
        return f"{text} IN (SELECT run_id FROM {_NOTED} WHERE entry = %s)", [*parameters, self.rhs]  # noqa: S608 - ours

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **_: Any) -> Any:  # noqa: ARG002
        raise FullResultSet


class HasEntry(models.Func):
    """The condition that a JSON object has this key with exactly this value; for `filter`.

    Django's own key lookups take `a__b`, `in` and the like for more than a name, and each database compares texts,
    numbers, truth values and nested objects in its own way. Here 1 is 1.0, but neither "1" nor true.
    """

    output_field = models.BooleanField()

    def __init__(self, column: str, name: str, value: Any) -> None:
        super().__init__(models.F(column))
        self.name = name
        self.value = value

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper, **_: Any) -> Any:  # type: ignore[override]
        column, parameters = compiler.compile(self.get_source_expressions()[0])
        match connection.vendor:
            case "postgresql":
                return self._postgresql(column, list(parameters))
            case "mysql":
                return self._mysql(column, list(parameters), connection)
            case _:
                return self._sqlite(column, list(parameters))

    def _postgresql(self, column: str, parameters: list[Any]) -> tuple[str, list[Any]]:
        # The first two conditions are those of the index, see the first migration; the third is what it cannot tell.
        sql = f"({column} @> %s::jsonb AND {column} <> '{{}}'::jsonb AND {column} -> %s = %s::jsonb)"
        found = json.dumps({self.name: self.value})
        return sql, [*parameters, found, *parameters, *parameters, self.name, json.dumps(self.value)]

    def _mysql(self, column: str, parameters: list[Any], connection: Any) -> tuple[str, list[Any]]:
        found, at = f"JSON_EXTRACT({column}, %s)", [*parameters, f"$.{json.dumps(self.name)}"]
        value = json.dumps(self.value)
        if not connection.mysql_is_mariadb:
            return f"({found} = CAST(%s AS JSON))", [*at, value]
        if connection.mysql_version >= (10, 7):
            return f"(JSON_EQUALS({found}, %s))", [*at, value]
        return f"(JSON_CONTAINS({found}, %s) AND JSON_CONTAINS(%s, {found}))", [*at, value, value, *at]

    def _sqlite(self, column: str, parameters: list[Any]) -> tuple[str, list[Any]]:
        same, values = self._same_on_sqlite()
        sql = f"EXISTS(SELECT 1 FROM json_each({column}) entry WHERE entry.key = %s AND {same})"  # noqa: S608 - a column
        return sql, [*parameters, self.name, *values]

    def _same_on_sqlite(self) -> tuple[str, list[Any]]:
        if self.value is None or isinstance(self.value, bool):
            return "entry.type = %s", [json.dumps(self.value)]
        if isinstance(self.value, str):
            return "entry.type = 'text' AND entry.atom = %s", [self.value]
        if isinstance(self.value, (int, float)):
            return "entry.type IN ('integer', 'real') AND entry.atom = %s", [self.value]
        # A list or an object: both have the same leaves, whatever the order of the keys.
        there = "SELECT fullkey, replace(type, 'real', 'integer'), atom FROM json_tree(entry.value)"
        wanted = "SELECT fullkey, replace(type, 'real', 'integer'), atom FROM json_tree(%s)"
        kind = "array" if isinstance(self.value, (list, tuple)) else "object"
        sql = f"entry.type = %s AND NOT EXISTS({there} EXCEPT {wanted}) AND NOT EXISTS({wanted} EXCEPT {there})"
        return sql, [kind, json.dumps(self.value), json.dumps(self.value)]
