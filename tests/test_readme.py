"""The README is true: its code is taken from the file and run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from canx_flow.core import registry
from canx_flow.testing import advance, run_until_idle
from testproject.databases import SQLITE_OPTIONS

from .docs.console import ROOT

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package `shop` as the README imagines it, with its workflows as the README writes them."""
    called: list[tuple[str, Any]] = []

    def module(name: str, *functions: str) -> ModuleType:
        made = ModuleType(f"shop.{name}")
        for function in functions:
            setattr(made, function, lambda argument, function=function: called.append((function, argument)))
        monkeypatch.setitem(sys.modules, made.__name__, made)
        return made

    package = ModuleType("shop")
    package.__path__ = []
    package.called = called
    package.payments = module("payments", "charge", "renew")
    package.mail = module("mail", "ask_for_approval")
    package.orders = module("orders", "book")
    package.workflows = module("workflows")
    package.workflows.__package__ = "shop"
    monkeypatch.setitem(sys.modules, "shop", package)
    known = dict(registry._workflows)
    registry._workflows.clear()
    for block in BLOCKS:
        if block.startswith("# shop/workflows.py"):
            exec(compile(block, "README.md", "exec"), package.workflows.__dict__)
    yield package
    registry._workflows.clear()
    registry._workflows.update(known)


def run_block(beginning: str, **names: Any) -> dict[str, Any]:
    """Run the one block of the README that begins so."""
    (block,) = [block for block in BLOCKS if block.startswith(beginning)]
    exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.mark.django_db
def test_the_example_starts_reads_and_cancels_a_run(shop: ModuleType) -> None:
    """The first example starts a run and cancels it."""
    names = run_block("# anywhere")

    assert isinstance(names["run_id"], UUID)
    assert names["subscription"].status(names["run_id"]).state == "cancelled"


@pytest.mark.django_db
def test_the_example_of_a_test_is_a_test_that_passes(shop: ModuleType) -> None:
    """Thirty days pass, and the subscription is charged and renewed once each."""
    run_block("from datetime import timedelta\n\nfrom canx_flow.testing")

    assert shop.called == [("charge", "user-123"), ("renew", "user-123")]


@pytest.mark.django_db
@pytest.mark.parametrize(("answer", "result"), [("rejected", "rejected"), ("fine", "booked")])
def test_the_approval_ends_as_the_manager_answers(shop: ModuleType, answer: str, result: str) -> None:
    """The event that the manager's view sends decides how the order ends."""
    approval = shop.workflows.approval
    run_id = approval.start(7)
    run_until_idle()
    assert approval.status(run_id).state == "waiting"

    if answer == "rejected":
        run_block("# the manager's view", run_id=run_id)
    else:
        approval.send(run_id, "approval", answer)
    run_until_idle()

    assert approval.status(run_id).result == result


@pytest.mark.django_db
def test_all_failed_runs_are_retried_at_once(shop: ModuleType) -> None:
    """The shell of three in the morning lets every failed run go on, and says how many."""
    charge, shop.payments.charge = shop.payments.charge, lambda _: int("no")
    runs = [shop.workflows.subscription.start(name) for name in ("ann", "bob")]
    advance(timedelta(hours=2))
    assert {shop.workflows.subscription.status(run_id).state for run_id in runs} == {"failed"}

    shop.payments.charge = charge
    run_block("# a shell, after the outage")
    run_until_idle()

    assert {shop.workflows.subscription.status(run_id).state for run_id in runs} == {"sleeping"}
    assert shop.called == [("charge", "ann"), ("charge", "bob")]


@pytest.mark.once
def test_every_block_of_the_readme_is_run_or_is_the_settings() -> None:
    """No python block of the README is left out here."""
    run = r"# shop/workflows|# anywhere|# the manager|# a shell|from datetime"
    left = [block for block in BLOCKS if not re.match(run, block)]

    assert len(left) == 1
    assert left[0].startswith("DATABASES")


@pytest.mark.once
def test_the_settings_are_those_of_the_test_project() -> None:
    """The two options of the README are among those that the suite runs with."""
    (block,) = [block for block in BLOCKS if block.startswith("DATABASES")]
    names: dict[str, Any] = {}
    exec(block, names)
    (database,) = names["DATABASES"].values()

    assert database["OPTIONS"].items() <= SQLITE_OPTIONS.items()


@pytest.mark.once
def test_the_first_screen_has_the_two_commands_that_do_all_the_set_up() -> None:
    """A newcomer finds them without scrolling, with what they need; both make the environment by themselves."""
    screen = "\n".join(TEXT.splitlines()[:20])
    makefile = (ROOT / "Makefile").read_text()

    assert re.findall(r"^\$ make (\w+)", screen, re.MULTILINE) == ["demo", "test"]
    assert "Python 3.11 to 3.13, make, and the internet for pip" in screen
    assert "demo: $(VENV)/demo\n" in makefile
    assert "test: env\n" in makefile


@pytest.mark.once
def test_every_page_that_the_readme_links_is_there() -> None:
    """Links within this repository lead to files of it."""
    linked = re.findall(r"\]\(([^):]+)\)", TEXT)

    assert len(linked) > 10
    for target in linked:
        assert (ROOT / target).is_file(), target


@pytest.mark.once
def test_the_readme_needs_no_picture() -> None:
    """It is read on the package index, too, which knows no files of this repository: its picture is text."""
    assert "![" not in TEXT
    assert "<img" not in TEXT
