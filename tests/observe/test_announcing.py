"""Announcing: every receiver that wants a fact gets it, and nothing is asked twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from canx_flow.observe import announcing
from canx_flow.observe.announcing import announce, wants, wants_any
from canx_flow.observe.facts import Fact

pytestmark = pytest.mark.once


@dataclass(frozen=True, slots=True)
class Rang(Fact):
    """A fact of these tests."""

    times: int


@dataclass(frozen=True, slots=True)
class Fell(Fact):
    """A fact that no receiver knows."""


class Counting:
    """A receiver that can be switched off."""

    calls_project = False

    def __init__(self) -> None:
        self.on = True
        self.heard: list[Fact] = []

    def wanting(self, kind: type[Fact]) -> Callable[[], object] | None:
        """Knows `Rang` alone."""
        return (lambda: self.on) if kind is Rang else None

    def receive(self, fact: Fact) -> None:
        """Keep it."""
        self.heard.append(fact)


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    """Two receivers, in place of the engine's own."""
    monkeypatch.setattr(announcing, "_listening", announcing._Listening())
    both = [Counting(), Counting()]
    for receiver in both:
        announcing.add(receiver)
    return both


def test_every_receiver_that_wants_a_fact_gets_it(receivers: list[Counting]) -> None:
    """One that does not want it at the moment gets the next one."""
    first, second = receivers
    second.on = False
    announce(Rang(1))
    second.on = True
    announce(Rang(2))
    announce(Fell())
    assert (first.heard, second.heard) == ([Rang(1), Rang(2)], [Rang(2)])


def test_a_fact_is_wanted_while_one_receiver_wants_it(receivers: list[Counting]) -> None:
    """So that none is built for nothing."""
    first, second = receivers
    assert wants(Rang)
    assert not wants(Fell)
    assert wants_any((Fell, Rang))
    first.on = second.on = False
    assert not wants(Rang)
    assert not wants_any((Fell, Rang))


def test_a_receiver_that_comes_later_is_asked_as_well(receivers: list[Counting]) -> None:
    """Metrics of a project are added when its apps are ready."""
    announce(Rang(1))
    third = Counting()
    announcing.add(third)
    announce(Rang(2))
    assert third.heard == [Rang(2)]


def test_settings_may_import_the_package_and_configure_logging_afterwards() -> None:
    """`disable_existing_loggers` silences what exists by then: importing canx_flow makes no logger."""
    code = "import canx_flow, logging; print(sorted(n for n in logging.root.manager.loggerDict if 'canx' in n))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
