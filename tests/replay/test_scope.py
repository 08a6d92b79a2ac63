"""The keys of a branch, and what of them a journal that is kept makes cheap."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from canx_flow.core.changes import Record
from canx_flow.core.journal import Journal
from canx_flow.replay.scope import Scope
from canx_flow.states import Kind, RecordState

pytestmark = pytest.mark.once


class Name(StrEnum):
    NAP = "nap"


def _journal(*names: str, kind: str = Kind.SLEEP) -> Journal:
    return Journal(Record(seq, name, kind, RecordState.COMPLETED) for seq, name in enumerate(names, start=1))


def _replay(journal: Journal, names: list[Any], kind: str = Kind.SLEEP, prefix: str = "") -> list[tuple[str, bool]]:
    """Ask for these names as a context does: the key of each, and whether it was found at once."""
    scope = Scope(journal, prefix)
    keys = []
    for name in names:
        if (record := scope.past(name, kind)) is not None:
            keys.append((record.name, True))
            continue
        key = scope.key(name)
        keys.append((key, False))
        found = journal.records.get(key)
        scope.met(found)
        if found is not None and found.kind == kind:
            scope.passed(name, found)
    return keys


def test_a_replay_finds_at_once_what_one_before_it_has_passed() -> None:
    """The keys are the same, however they are found, and however the body mixes names."""
    journal = _journal("nap", "nap#2", "doze", "nap#3")
    names = ["nap", "nap", "doze", "nap"]
    keys = ["nap", "nap#2", "doze", "nap#3"]
    assert _replay(journal, names) == [(key, False) for key in keys]
    assert _replay(journal, names) == [(key, True) for key in keys]
    assert _replay(journal, [*names, "nap", "doze"])[4:] == [("nap#4", False), ("doze#2", False)]


def test_names_that_are_no_plain_str_have_the_same_keys() -> None:
    """A member of `class Name(StrEnum)` is its text; what is no str is refused each time."""
    journal = _journal("nap", "nap#2")
    for _ in range(2):
        assert [key for key, _ in _replay(journal, [Name.NAP, "nap"])] == ["nap", "nap#2"]
    with pytest.raises(TypeError, match="must be a str"):
        _replay(journal, [["nap"]])


def test_a_record_of_another_kind_is_not_found_at_once() -> None:
    """It is found by its key, by which the run is parked."""
    journal = _journal("nap")
    _replay(journal, ["nap"])
    assert _replay(journal, ["nap"], kind=Kind.WAIT) == [("nap", False)]


def test_each_scope_has_passed_its_own() -> None:
    """One name in two branches is two keys."""
    journal = _journal("a/nap", "b/nap")
    for at_once in (False, True):
        assert _replay(journal, ["nap"], prefix="a/") == [("a/nap", at_once)]
        assert _replay(journal, ["nap"], prefix="b/") == [("b/nap", at_once)]


@pytest.mark.parametrize("again", [False, True])
def test_replay_is_over_with_the_last_record(again: bool) -> None:
    """However that is found."""
    journal = _journal("nap", "nap#2")
    if again:
        _replay(journal, ["nap", "nap"])
    scope = Scope(journal)
    told = []
    for _ in range(2):
        told.append(scope.replaying)
        if scope.past("nap", Kind.SLEEP) is None:
            scope.met(journal.records[scope.key("nap")])
    assert (told, scope.replaying) == ([True, True], False)
