"""Numbers, durations and moments as the reader's language writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from canx_flow.core import durations
from canx_flow.insight import speech

pytestmark = pytest.mark.once

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ["2,273", "1.3 s", "12 ms", "3 d 4 h", "1 h 5 min", "1 min 1 s", "in 3 d 4 h", "3 d 4 h ago", "now"]),
        (
            "de",
            [
                "2.273", "1,3 s", "12 ms", "3 d 4 h", "1 h 5 min", "1 min 1 s", "in 3 d 4 h",
                "vor 3 d 4 h", "jetzt",
            ],
        ),
        (
            "es",
            [
                "2.273", "1,3 s", "12 ms", "3 d 4 h", "1 h 5 min", "1 min 1 s", "dentro de 3 d 4 h", "hace 3 d 4 h",
                "ahora",
            ],
        ),
    ],
)  # fmt: skip
def test_each_language_writes_them_its_own_way(language: str, said: list[str]) -> None:
    """Its separators, its units and its order of words."""
    long = timedelta(days=3, hours=4)
    with translation.override(language):
        number = speech.number(2273).replace("\N{NO-BREAK SPACE}", ".")
        spans = [speech.span(seconds) for seconds in (1.3, 0.012, long, 3900, 61)]
        assert [number, *spans, *(speech.when(at, NOW) for at in (NOW + long, NOW - long, NOW))] == said


@given(st.floats(0, 1e10))
def test_in_english_it_says_what_the_terminal_says(seconds: float) -> None:
    """And where no language is active: durations are cut in the same places."""
    for language in (None, "en"):
        with translation.override(language):
            assert speech.span(seconds) == durations.span(seconds)
            assert speech.span(seconds, briefly=True) == " ".join(durations.span(seconds).split()[:2])


def test_a_project_without_translations_has_english_numbers(settings: Any) -> None:
    """As its texts are English, whatever its language."""
    settings.USE_I18N = False
    with translation.override("de"):
        assert (speech.number(2273), speech.number(1.3, 1)) == ("2,273", "1.3")


def test_a_moment_that_is_late_says_so() -> None:
    """With how late it is."""
    with translation.override("de"):
        assert speech.due(NOW - timedelta(minutes=5), NOW) == "jetzt, war vor 5 min fällig"
        assert speech.due(NOW + timedelta(minutes=5), NOW) == "in 5 min"


def test_a_script_can_write_the_same() -> None:
    """From the patterns alone, in the reader's language."""
    with translation.override("de"):
        found: dict[str, Any] = speech.patterns()
        both = found["days_hours"].format(days=3, hours=4)
        assert found["in"].format(span=both) == speech.when(NOW + timedelta(days=3, hours=4), NOW)
        assert set(found) == {
            *("in", "ago", "now", "late", "seconds", "days", "days_hours", "hours", "hours_minutes", "minutes"),
            "minutes_seconds",
        }
