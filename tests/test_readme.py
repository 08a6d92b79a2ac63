"""The README is true: its code is taken from the file and run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from canx_flow import registry
from canx_flow.testing import run_until_idle

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


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


@pytest.mark.once
def test_every_block_of_the_readme_is_run_or_is_the_settings() -> None:
    """No python block of the README is left out here."""
    left = [
        block for block in BLOCKS if not re.match(r"# shop/workflows|# anywhere|# the manager|from datetime", block)
    ]

    assert len(left) == 1
    assert left[0].startswith("DATABASES")
