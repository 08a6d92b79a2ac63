"""Migrations: the same whatever a project's settings, nothing left to make, and they can be taken back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from django.db import connection, models
from django.db.migrations import AddField
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

from .processes import ROOT, manage

pytestmark = pytest.mark.once

SETTINGS = [
    "",
    'DEFAULT_AUTO_FIELD = "django.db.models.AutoField"',
    'DEFAULT_AUTO_FIELD = "django.db.models.SmallAutoField"',
    'LANGUAGE_CODE = "de"',
    'LANGUAGE_CODE = "ar"; USE_I18N = True',
    "USE_I18N = False",
    "USE_TZ = False",
    'USE_TZ = False; TIME_ZONE = "Pacific/Apia"',
]


def _manage(folder: Path, *arguments: str, settings: str = "") -> subprocess.CompletedProcess[str]:
    """`manage.py` with these settings added to the suite's, on a SQLite file of its own."""
    (folder / "odd_settings.py").write_text(f"from tests.settings import *\n{settings}\n")
    return manage(
        *arguments,
        DJANGO_SETTINGS_MODULE="odd_settings",
        PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]),
        DATABASE_URL=f"sqlite:///{folder / 'db.sqlite3'}",
    )


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_setting_makes_a_migration(settings: str, tmp_path: Path) -> None:
    """`makemigrations --check` finds nothing to make under any project's settings."""
    # The checks would refuse USE_TZ = False before anything was compared.
    made = _manage(tmp_path, "makemigrations", "--check", "--dry-run", "--skip-checks", "canx_flow", settings=settings)
    assert (made.returncode, made.stdout) == (0, "No changes detected in app 'canx_flow'\n"), made.stderr


def test_migrations_can_be_taken_back_and_made_again(tmp_path: Path) -> None:
    """To zero and forward again leaves a database that needs no further migration."""
    for target in (["canx_flow"], ["canx_flow", "zero"], ["canx_flow"]):
        migrated = _manage(tmp_path, "migrate", *target)
        assert migrated.returncode == 0, migrated.stderr
    checked = _manage(tmp_path, "migrate", "--check", "canx_flow")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.django_db
def test_a_step_record_costs_no_count_of_its_own(tier: str) -> None:
    """On SQLite storing a record writes no second table; an event's id is never given again, for records name it."""
    if tier != "sqlite":
        pytest.skip("other databases count in memory")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name LIKE 'canx_flow_%'")
        counted = {name for name, sql in cursor.fetchall() if "AUTOINCREMENT" in sql}
    assert "canx_flow_steprecord" not in counted
    assert {"canx_flow_event", "canx_flow_timer"} <= counted


# -- columns added later ---------------------------------------------------------------------------


def _without_default(operations: Iterable[Operation]) -> list[str]:
    """The columns that these operations add, and that a row can not leave out.

    While a deployment rolls on, workers of the version before insert rows without them; Django takes a `default` away
    from the column again.
    """
    found = []
    for operation in operations:
        if isinstance(operation, AddField):
            field = operation.field
            may_be_left_out = field.null or field.has_db_default() or field.many_to_many or field.generated
            if not may_be_left_out:
                found.append(f"{operation.model_name}.{operation.name}")
    return found


def test_every_column_that_was_added_later_has_a_default_in_the_database() -> None:
    """Looks at each migration after the first: workers of the version before go on storing during a deployment."""
    loader = MigrationLoader(None)
    later = [m for key, m in loader.disk_migrations.items() if key[0] == "canx_flow" and key[1] != "0001_initial"]
    assert [_without_default(migration.operations) for migration in later] == [[] for _ in later]


def test_a_column_without_one_would_be_found() -> None:
    """What the test above looks for, in operations that a migration might have."""
    operations = [
        AddField("steprecord", "bad", models.IntegerField(default=0)),
        AddField("steprecord", "good", models.IntegerField(db_default=0)),
        AddField("steprecord", "optional", models.IntegerField(null=True)),
    ]
    assert _without_default(operations) == ["steprecord.bad"]
