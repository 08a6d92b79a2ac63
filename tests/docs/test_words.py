"""What the pages name exists: commands and their options, settings, checks, loggers, attributes, tables.

And what is neither Python nor run can at least be read: YAML, unit files, SQL.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import yaml
from django.apps import apps
from django.conf import global_settings
from django.core.management import get_commands, load_command_class
from django.db import connection, transaction
from django.utils.module_loading import import_string

from canx_flow import AsyncContext, Context, checks, conf

from .console import Typed
from .pages import Block, Page, every_page

PAGES = pytest.mark.parametrize("page", every_page(), ids=lambda page: page.name)

OURS = ("runflowworker", "flow", "flowhealth", "flowreplay", "pruneflows")
#: Options of other people's programs that the prose names.
FOREIGN_OPTIONS = {"--database", "--help", "--init", "--output", "--settings", "--tag", "--traceback", "--verbosity"}
#: Names in capitals that are no settings: signals, SQL, environment variables, formats.
OTHER_CAPITALS = re.compile(
    r"TERM|INT|SIG\w+|ERROR|WARNING|INFO|DEBUG|NOTIFY|LISTEN|INSERT|UPDATE|SELECT|WAL|IMMEDIATE|RUN|JSON|NULL|NAME|WHAT"
    r"|ENGINE|OPTIONS|DATABASE_URL|CONN_MAX_AGE|DISABLE_SERVER_SIDE_CURSORS|ARG|EVENT|PAYLOAD|GIN|PATH|READ|UUID|CMD"
    r"|AUTOCOMMIT|CONN_HEALTH_CHECKS|PREPARE|SET|FILE|TASKS|MODULES|READY|RUNNING|SUCCESSFUL|FAILED"
)
LOGGERS = re.compile(r"canx_flow(\.(run|worker|workflow(\.[\w<>-]+)?|signals|wakeup|telling|executors|store))?")


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.once
@PAGES
def test_commands_in_other_files_take_what_they_are_given(page: Page) -> None:
    """Every command line in unit files, YAML, Procfiles and crontabs could be typed as well."""
    assert [problem for line in started(page) if (problem := Typed(page.name, line).problem())] == []


@pytest.mark.once
@PAGES
def test_options_in_the_prose_exist(page: Page) -> None:
    """`--option` between backticks is an option of one of our commands."""
    ours = FOREIGN_OPTIONS | set(options())
    named = {option for span in page.spans for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    assert named <= ours


def started(page: Page) -> Iterator[str]:
    """What other programs start, from `python manage.py` on."""
    for block in page.blocks:
        for line in commands(block):
            if "manage.py" in line:
                yield f"python manage.py{line.partition('manage.py')[2]}"


def commands(block: Block) -> list[str]:
    """The lines of a block that another program starts, or might."""
    if block.language == "yaml":
        return [shlex.join(value) for value in lists(yaml.safe_load(block.code))]
    if block.language in ("ini", "text"):
        return block.code.replace("\\\n", " ").splitlines()
    return []


def lists(value: Any) -> Iterator[list[str]]:
    """Every list of words in a YAML document."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from lists(item)


def options() -> Iterator[str]:
    """Every option of our commands, their actions included."""
    for name in OURS:
        if name not in get_commands():
            continue
        parsers = [load_command_class("canx_flow", name).create_parser("manage.py", name)]
        while parsers:
            for action in parsers.pop()._actions:
                yield from action.option_strings
                if action.choices and isinstance(action.choices, dict):
                    parsers += action.choices.values()


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.once
@PAGES
def test_settings_exist(page: Page) -> None:
    """A name in capitals between backticks is a setting of ours or of Django's, or is listed above."""
    named = {span for span in page.spans if re.fullmatch(r"[A-Z][A-Z_]{2,}", span)}
    unknown = {
        name
        for name in named
        if name not in conf._KEYS
        and name != "CANX_FLOW"
        and not hasattr(global_settings, name)
        and not OTHER_CAPITALS.fullmatch(name)
    }
    assert not unknown


@pytest.mark.once
@PAGES
def test_context_calls_exist(page: Page) -> None:
    """`ctx.name`, in code or prose, is an attribute of the contexts."""
    named = set(re.findall(r"\bctx\.(\w+)", page.text))
    assert {name for name in named if not (hasattr(Context, name) and hasattr(AsyncContext, name))} <= not_yet(page)


def not_yet(page: Page) -> set[str]:
    """What a page says is not there yet, in a comment to the tests."""
    found = re.search(r"<!-- not yet: (.*?) -->", page.text)
    return set(found[1].split()) if found else set()


@pytest.mark.once
@PAGES
def test_checks_exist(page: Page) -> None:
    """Every id of a check is one of those that the package lists."""
    assert checks.__doc__ is not None
    assert set(re.findall(r"canx_flow\.[EW]\d+", page.text)) <= set(re.findall(r"canx_flow\.[EW]\d+", checks.__doc__))


@pytest.mark.once
@PAGES
def test_dotted_names_exist(page: Page) -> None:
    """`canx_flow.something` between backticks can be imported, or is a logger or a check."""
    named = {found[0] for span in page.spans if (found := re.match(r"canx_flow(\.\w+)+$", span))}
    assert not [name for name in named if not (exists(name) or is_other(name))]


CELERYS = "canx_flow.delegated"


def is_other(name: str) -> bool:
    """Whether it is a logger, a check, a permission, a table, or the task that Celery's workers get."""
    return (
        name == CELERYS
        or bool(LOGGERS.fullmatch(name) or re.fullmatch(r"canx_flow\.[EW]\d+", name))
        or name in permissions()
    )


def permissions() -> set[str]:
    """Every permission of ours, as `has_perm` takes it."""
    metas = [model._meta for model in apps.get_app_config("canx_flow").get_models()]
    own = {str(codename) for meta in metas for codename, *_ in meta.permissions}
    return {f"canx_flow.{name}" for name in own | {f"view_{meta.model_name}" for meta in metas}}


def exists(name: str) -> bool:
    """Whether a dotted path leads to a module or something in one."""
    for find in (import_module, import_string):
        try:
            find(name)
        except ImportError:
            continue
        return True
    return False


# -- other languages -------------------------------------------------------------------------------


@pytest.mark.once
@PAGES
def test_yaml_and_unit_files_can_be_read(page: Page) -> None:
    """YAML blocks are YAML; blocks with sections in brackets are INI."""
    for block in page.blocks:
        if block.language == "yaml":
            assert yaml.safe_load(block.code)
        if block.language == "ini" and "\n[" in f"\n{block.code}":
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            parser.read_string(block.code)


@pytest.mark.django_db
def test_sql_runs() -> None:
    """SQL, which is PostgreSQL's, names our tables; on PostgreSQL each page's is run, and rolled back."""
    pages = [[block.code for block in page.blocks if block.language == "sql"] for page in every_page()]
    assert any(pages)
    for statements in pages:
        # Without the names of constraints.
        tables = set(re.findall(r"\bcanx_flow_\w+(?<!_pkey)\b", " ".join(statements)))
        assert tables <= set(connection.introspection.table_names())
        if connection.vendor == "postgresql":
            with transaction.atomic(), connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                transaction.set_rollback(True)
