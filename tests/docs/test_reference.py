"""The reference pages say what the code does: tables and signatures are compared with the code they describe."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import subprocess
import sys
from argparse import SUPPRESS, ArgumentParser, _SubParsersAction, _VersionAction
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.management import _get_all_permissions
from django.core.exceptions import ImproperlyConfigured
from django.core.management import load_command_class
from django.db import models as django_models
from django.dispatch import Signal

import canx_flow
from canx_flow import (
    CanxFlowError,
    Context,
    InvalidState,
    Retry,
    client,
    conf,
    models,
    queues,
    schedules,
    signals,
    states,
    workflow,
)
from canx_flow.current import CurrentStep
from canx_flow.models import WorkflowRun
from canx_flow.observe import log
from canx_flow.status import RunStatus
from canx_flow.testing import advance
from canx_flow.workflows import Starter, Workflow

from ..test_control import CALLS, TABLE
from .pages import DOCS, page

pytestmark = pytest.mark.once

TESTS = DOCS.parent / "tests"
PACKAGE = Path(canx_flow.__file__).parent


def section(text: str, heading: str) -> str:
    """What stands between a heading and the next of its level or above."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The rows of every table, without heads and markup of links."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {i for i, line in enumerate(lines[1:]) if set(line) <= set("|- ")}
    body = [line for i, line in enumerate(lines) if i not in heads and not set(line) <= set("|- ")]
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line) for line in body]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] for line in plain]


def code(cell: str) -> list[str]:
    """What is written as code in a cell."""
    return re.findall(r"`([^`]*)`", cell)


# -- settings ----------------------------------------------------------------------------------------------------


KEYS = {code(row[0])[0]: row[1:] for row in rows(section(page("reference/settings").text, "## The keys"))}


def test_every_setting_is_listed_with_its_default() -> None:
    """The table has exactly the keys of CANX_FLOW, in the code's order, with the defaults in force."""
    defaults = conf.Settings()
    assert [key.lower() for key in KEYS] == [
        field.name for field in inspect.signature(conf.Settings).parameters.values()
    ]
    for key, (_, default, _) in KEYS.items():
        expected = {} if key == "RETRY" else getattr(defaults, key.lower())
        assert ast.literal_eval(code(default)[0]) == expected
    assert defaults.retry == Retry()


NUMBERS = [key for key, row in KEYS.items() if re.search(r"\d", row[2])]


@pytest.mark.parametrize("key", NUMBERS)
def test_a_range_is_the_one_that_is_checked(settings: Any, key: str) -> None:
    """The bounds are accepted, and what lies beyond is not."""
    kinds, _, span = KEYS[key]
    low, high = [*re.findall(r"[\d.,]+", span), ""][:2]
    least = float(low.replace(",", ""))
    whole = kinds == "int"
    accepted = [int(least) if whole else least, *([float(high.replace(",", ""))] if high else [])]
    refused = [least - 1, *([float(high.replace(",", "")) * 1.01] if high else []), "7", True]
    for value in [*accepted, *([None] if "None" in kinds else [])]:
        settings.CANX_FLOW = {key: value}
        conf.get()
    for value in [int(v) if whole and isinstance(v, float) else v for v in refused]:
        settings.CANX_FLOW = {key: value}
        with pytest.raises(ImproperlyConfigured):
            conf.get()


def test_every_setting_has_a_section() -> None:
    """Each key of the table leads to its explanation."""
    for key in KEYS:
        assert section(page("reference/settings").text, f"### {key}").strip()


# -- states ------------------------------------------------------------------------------------------------------


def test_every_state_is_explained() -> None:
    """Runs' and steps' states and kinds are those of the code."""
    text = page("reference/states").text
    assert {code(row[0])[0] for row in rows(section(text, "## The states"))} == set(states.ALL)
    kept = {value for name, value in vars(states.RecordState).items() if name.isupper()}
    assert {code(row[0])[0] for row in rows(section(text, "## The state of a step"))} == kept


def test_the_verbs_answer_what_the_table_says() -> None:
    """The page's table is the one that `tests/test_control.py` tries cell by cell."""
    table = rows(section(page("reference/states").text, "## What each call answers"))
    assert [code(cell)[0] for cell in head("reference/states", "## What each call answers")[1:]] == [
        "cancel", "pause", "resume", "retry", "send", "wake",
    ]  # fmt: skip
    assert CALLS == ("cancel", "pause", "resume", "retry", "send", "wake")
    assert {row[0]: tuple(map(answer, row[1:])) for row in table} == TABLE


def head(name: str, heading: str) -> list[str]:
    """The head of the first table of a section."""
    first = next(line for line in section(page(name).text, heading).splitlines() if line.startswith("|"))
    return [cell.strip() for cell in first.strip()[1:-1].split("|")]


def answer(cell: str) -> tuple[Any, str | None]:
    """A cell as `tests/test_control.py` writes it: what the call answers, and the state it leaves."""
    said, _, state = (part.strip() for part in cell.partition("→"))
    return {"True": True, "stored": True, "False": False, "InvalidState": InvalidState}[said], state or None


# -- signals -----------------------------------------------------------------------------------------------------


SIGNALS = {code(row[0])[0]: set(code(row[2])) for row in rows(page("reference/signals").text)}


@workflow("documented.signals", retry=Retry(max_attempts=2, jitter=0))
def signalling(ctx: Context, how: str = "") -> None:
    """Goes the way that sends what a test waits for."""
    ctx.step("one", len, "ab")
    ctx.sleep("nap", 60)
    if how == "fail":
        ctx.step("two", int, "no")


@pytest.fixture
def sent() -> Iterator[dict[str, set[str]]]:
    """What each signal was sent with, by name."""
    names = {id(signal): name for name, signal in vars(signals).items() if isinstance(signal, Signal)}
    sent: dict[str, set[str]] = {}

    def receive(signal: Signal, sender: Any, **kwargs: Any) -> None:
        sent[names[id(signal)]] = set(kwargs)

    for signal in signals.ALL:
        signal.connect(receive)
    yield sent
    for signal in signals.ALL:
        signal.disconnect(receive)


@pytest.mark.django_db
def test_signals_come_with_what_the_table_says(
    sent: dict[str, set[str]], django_capture_on_commit_callbacks: Any
) -> None:
    """All nine are sent, each with `run_id`, `workflow` and the arguments of its row."""
    signalling.start()
    signalling.start("fail")
    with django_capture_on_commit_callbacks(execute=True):
        signalling.cancel(signalling.start())
    WorkflowRun.objects.filter(id=signalling.start()).update(version="gone")
    advance(timedelta(minutes=2))

    assert sent == {name: {"run_id", "workflow", *adds} for name, adds in SIGNALS.items()}


# -- errors ------------------------------------------------------------------------------------------------------


def test_every_error_is_explained_and_shown() -> None:
    """Each public exception is in a table, with what to do, and with its own words below."""
    exported = {name: getattr(canx_flow, name) for name in canx_flow.__all__}
    public = {name for name, value in exported.items() if inspect.isclass(value) and issubclass(value, CanxFlowError)}
    text = page("reference/errors").text
    explained = {re.split(r"\W", name)[0] for row in rows(text) for name in code(row[0])[:1]}
    shown = set(re.findall(r"^- `(\w+)", section(text, "## What they carry"), re.MULTILINE))
    assert shown == public
    assert public - explained == {"CanxFlowError"}


@pytest.mark.django_db
def test_a_stored_error_has_the_keys_of_the_table() -> None:
    """What is stored of a failed run's error is what the page lists."""
    run_id = signalling.start("fail")
    advance(timedelta(minutes=2))
    error = signalling.status(run_id).error
    listed = {code(row[0])[0] for row in rows(section(page("reference/errors").text, "## Stored errors"))}
    assert error is not None
    assert set(error) == listed


# -- signatures and names ----------------------------------------------------------------------------------------


def test_signatures_and_descriptions_are_the_codes_own() -> None:
    """What stands in the pages as coming from the code is what `make reference` would write there now."""
    script = DOCS.parent / "scripts" / "write_reference.py"
    command = [sys.executable, str(script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nRun `make reference`."


#: Every name that the pages take from the code.
DESCRIBED = {name for path in DOCS.rglob("*.md") for name in re.findall(r"<!-- from the code: (\S+)", path.read_text())}


def public(cls: type) -> set[str]:
    """The public names of a class, without fields and the async twins, which are described once for all."""
    own = {name for name in dir(cls) if not name.startswith("_")}
    own -= {name for name in own if name.startswith("a") and name[1:] in own}
    return own - {field.name for field in fields(cls)} if is_dataclass(cls) else own


@pytest.mark.parametrize(
    "cls", [Workflow, Starter, Context, Retry, RunStatus, CurrentStep], ids=lambda cls: cls.__name__
)
def test_every_public_name_of_a_class_is_described(cls: type) -> None:
    """Methods and properties that users call are each in a page."""
    described = {name.rpartition(".")[2] for name in DESCRIBED if f".{cls.__name__}." in name}
    assert public(cls) - described <= {"declared", "fingerprint", "found_async", "identified", "misfit", "takes"}


def test_every_exported_name_is_described() -> None:
    """What `canx_flow` exports is in a page: with its signature, or in the list of errors."""
    exported = {f"canx_flow.{name}" for name in canx_flow.__all__ if not hasattr(canx_flow.exceptions, name)}
    assert exported <= DESCRIBED


@pytest.mark.parametrize("module", [queues, schedules], ids=lambda module: module.__name__)
def test_every_name_of_a_public_module_is_described(module: ModuleType) -> None:
    """What operators call has its signature in a page; async twins are described once for all."""
    exported = set(module.__all__)
    exported -= {name for name in exported if name.startswith("a") and name[1:] in exported}
    described = DESCRIBED | {f"canx_flow.schedules.{name}" for name in canx_flow.__all__}
    assert {f"{module.__name__}.{name}" for name in exported} <= described


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_a_page_needs_no_sphinx(path: Path) -> None:
    """No page has directives, roles or targets that only Sphinx fills: a code host shows all of it."""
    assert not re.search(r"^ *(```|:::+) *\{|\{[\w-]+\}`|^\([\w-]+\)=$", path.read_text(), re.MULTILINE)


def test_the_verbs_of_the_client_exist() -> None:
    """Everything that the page says `canx_flow.client` has, with its twin where it asks the database."""
    text = section(page("reference/workflows").text, "## Any run, whatever its workflow")
    (sentence,) = re.findall(r"in `canx_flow.client`: (.*?), with", text, re.DOTALL)
    verbs = code(sentence)
    assert len(verbs) > 8
    for verb in verbs:
        assert callable(getattr(client, verb))
        assert verb == "runs" or callable(getattr(client, f"a{verb}"))


MODELS = re.findall(r"^## (\w+)$", page("reference/models").text, re.MULTILINE)[:-1]  # Examples


@pytest.mark.parametrize("name", MODELS)
def test_the_fields_of_a_model_exist(name: str) -> None:
    """Every field that the page names is one of the model's, or a property of it."""
    model: type[django_models.Model] = getattr(models, name)
    listed = [field for row in rows(section(page("reference/models").text, f"## {name}")) for field in code(row[0])]
    assert listed
    for field in listed:
        assert hasattr(model, field)


def test_every_permission_is_listed() -> None:
    """The page of the admin names each that a user or a group may be given."""
    text = section(page("reference/admin").text, "## Permissions")
    given = {
        codename
        for model in apps.get_app_config("canx_flow").get_models()
        for codename, _ in _get_all_permissions(model._meta)
    }
    assert given <= set(code(text))


def test_every_logger_is_listed() -> None:
    """The table names the loggers of the engine's lines and of `ctx.log`, with the levels that they log at."""
    listed: dict[str, set[str]] = {}
    for names, levels, *_ in rows(page("reference/logging").text):
        for name in code(names):
            listed.setdefault(name, set()).update(levels.split(", "))
    used: dict[str, set[str]] = {"canx_flow.workflow.<name>": {"yours"}}
    for line in log.LINES.values():
        used.setdefault(line.logger.name, set()).add(logging.getLevelName(line.level))
    assert listed == used


# -- commands ----------------------------------------------------------------------------------------------------


COMMANDS = sorted(path.stem for path in (PACKAGE / "management/commands").glob("[!_]*.py"))


def parsers(name: str) -> dict[str, ArgumentParser]:
    """The parser of a command, and those of its subcommands, by heading."""
    parser = load_command_class("canx_flow", name).create_parser("manage.py", name)
    found: dict[str, ArgumentParser] = {f"## {name}": parser}
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            found |= {f"### {name} {sub}": inner for sub, inner in action.choices.items()}
    return found


EVERY = {heading: parser for name in COMMANDS for heading, parser in parsers(name).items()}
#: What Django gives to every command.
STANDARD = {
    "--help", "-h", "--verbosity", "-v", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color",
    "--skip-checks",
}  # fmt: skip


def options(parser: ArgumentParser) -> set[str]:
    """The long options of a parser that people are shown, and its arguments as its help calls them."""
    shown = [action for action in parser._actions if action.help != SUPPRESS]
    plain = [action for action in shown if not isinstance(action, _SubParsersAction | _VersionAction)]
    named = {name for action in plain for name in action.option_strings if name.startswith("--")}
    return (named | {str(a.metavar or a.dest) for a in plain if not a.option_strings}) - STANDARD


def common(heading: str) -> set[str]:
    """What every action of this action's command takes: listed once, with the command."""
    command = heading.split()[1]
    siblings = [options(parser) for other, parser in EVERY.items() if other.startswith(f"### {command} ")]
    return set.intersection(*siblings) if siblings else set()


@pytest.mark.parametrize("heading", EVERY)
def test_every_option_of_a_command_is_listed(heading: str) -> None:
    """A command's tables have exactly the options and arguments of its parser, and its actions."""
    text = section(page("reference/commands").text, heading).partition("\n### ")[0]
    firsts = [name for row in rows(text) for name in code(row[0])]
    listed = {name.split(" ")[0] if name.startswith("-") else name for name in firsts}
    actions = {other.split()[2] for other in EVERY if other.startswith(f"#{heading} ")}
    expected = options(EVERY[heading]) | actions | (common(heading) if actions else set())
    assert listed == (expected if heading.startswith("## ") else expected - common(heading))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_exit_codes(name: str) -> None:
    """A command's section says with what it exits."""
    text = section(page("reference/commands").text, f"## {name}")
    assert "| exit code | |" in text


# -- tests -------------------------------------------------------------------------------------------------------


def test_every_test_that_a_page_names_exists() -> None:
    """A promise is shown by a test that is there."""
    named = {found for path in DOCS.rglob("*.md") for found in re.findall(r"`([\w/]+\.py)::(\w+)`", path.read_text())}
    assert len(named) > 40
    for file, test in named:
        assert re.search(rf"^ *(async )?def {test}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_every_promise_is_shown() -> None:
    """Each promise of the guarantees names the test that shows it."""
    text = page("explanation/guarantees").text.partition("## What is never promised")[0]
    promises = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert len(promises) > 15
    for promise in promises:
        assert "*Shown by*" in section(text, f"### {promise}"), promise
