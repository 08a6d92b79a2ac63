"""The catalogues of German and Spanish: nothing is missing in them, and nothing else is said than in the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from .catalogues import LANGUAGES, compiled, entries, path, placeholders, shared_with_django
from .processes import ROOT

pytestmark = [pytest.mark.once, pytest.mark.source]

LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


def test_the_catalogues_are_what_the_code_says_now() -> None:
    """Extracted anew, no text is missing and none is gone; each .mo is what its .po compiles to."""
    if shutil.which("xgettext") is None:
        leave_out = pytest.fail if os.environ.get("CI") else pytest.skip
        leave_out("GNU gettext is not installed here")
    command = [sys.executable, str(ROOT / "scripts" / "write_messages.py"), "--check"]
    own = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@LANGUAGE
def test_every_text_is_translated(language: str) -> None:
    """In all its forms; none is a guess of gettext's, none is left over from code that is gone."""
    found = entries(path(language))
    assert len(found) > 400
    assert not [entry.key for entry in found if not all(text.strip() for text in entry.translations)]
    assert not [entry.key for entry in found if any("fuzzy" in line for line in entry.comments if line[:2] == "#,")]
    assert not [line for line in path(language).read_text(encoding="utf-8").splitlines() if line.startswith("#~")]


@LANGUAGE
def test_translations_have_the_placeholders_of_their_texts(language: str) -> None:
    """Of both forms; a form may leave out a number that it says in words, as the text's own does."""
    wrong = []
    for entry in entries(path(language)):
        all_names = set().union(*map(placeholders, entry.sources))
        least = set.intersection(*map(placeholders, entry.sources))
        singular, *others = entry.translations
        wrong += [entry.key for text in entry.translations if not least <= placeholders(text) <= all_names]
        wrong += [entry.key for text in others or [singular] if placeholders(text) != placeholders(entry.sources[-1])]
    assert not wrong


@LANGUAGE
def test_translations_begin_and_end_as_their_texts(language: str) -> None:
    """With the same blanks, and the same mark at the end: they stand in the same places."""
    wrong = []
    for entry in entries(path(language)):
        for source, text in zip(entry.sources, [entry.translations[0], entry.translations[-1]], strict=False):
            same = [source[0].isspace() == text[0].isspace(), source[-1].isspace() == text[-1].isspace()]
            same += [source.endswith(mark) == text.endswith(mark) for mark in (".", ":", "?", "…")]
            wrong += [] if all(same) else [(source, text)]
    assert not wrong


@LANGUAGE
def test_django_reads_what_translators_wrote(language: str) -> None:
    """The compiled catalogue is committed, and holds the same as the written one."""
    written = {entry.key: sorted(entry.translations) for entry in entries(path(language))}
    read = {key: sorted(texts) for key, texts in compiled(path(language, ".mo")).items() if key}
    assert read == written


@LANGUAGE
def test_texts_that_django_has_are_translated_as_there(language: str) -> None:
    """All apps share one catalogue: which of two translations is shown would depend on the order of the apps."""
    ours = {entry.key: entry.translations for entry in entries(path(language))}
    theirs = dict(shared_with_django(language))
    shared = ours.keys() & theirs.keys()
    assert {"History", "Home"} <= shared
    assert {key: ours[key] for key in shared} == {key: [theirs[key]] for key in shared}
