"""Every page says everything in the reader's language: German, Spanish, and one of marks that shows what is missed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

import pytest
from django.template import Context, Template
from django.template.loader import render_to_string
from django.test import Client
from django.utils import translation

from canx_flow import client as flow
from canx_flow.core import registry
from canx_flow.core.schedules import CATCH_UPS, OVERLAPS
from canx_flow.insight import speech

from .. import catalogues
from ..catalogues import LANGUAGES
from . import runs
from .conftest import Person, url
from .runs import MAKE
from .test_bulk import choose, confirm
from .test_subjects import an_order, page_of, rows
from .texts import Texts, crawl, marked, read

pytestmark = [pytest.mark.django_db, pytest.mark.once]

#: What may stand on a page and is in no language: what the tests have named so, and what is stored as it was raised.
DATA = re.compile(
    r"""
    [\w., ]*(Error|Failed|Unknown\w*|TooMany\w+)\b.*  # what a step or the engine has raised is stored in English
    | [0-9a-f]{8}-[0-9a-f-]{27}|…[0-9a-f]{4}\b|\bUTC\b|\bp50\b|\bp95\b
    | \b(canx_flow|admin\.any|inline|gone|operator|grace|ada|elsewhere|shop-1|default)\b
    | \b(begin|hopeless|flaky|nap|charge|book|answered|answer|unheard|everywhere|k-1)\b
    | \b(nightly|poll|every\ 1\ h|CES?T|concurrency|rate|5/s|reports|mail)\b
    | \bthe\ reports\ are\ wrong\b|\bthe\ provider\ is\ down\b|\ba\ bad\ release\b
    | \bchanged\ her\ mind\b|\blunch\b|\b(no\ )?luck\b|\bspring\ cleaning\b
    """,
    re.VERBOSE | re.DOTALL,
)
#: Django has these itself, and writes them as they are in one language or the other.
DJANGOS = {"Django", "Filter", "Run", "Search"}


@pytest.fixture(autouse=True)
def _in_english() -> Iterator[None]:
    """What a request has activated is another test's language no more."""
    with translation.override("en-us"):
        yield


@pytest.fixture
def made(db: None) -> dict[str, UUID]:
    """Runs in every state, an unread and a sent event, a worker, and a step that was retried by a person."""
    made = {name: make() for name, make in MAKE.items()}
    flow.send(made["waiting"], "unheard", {"a": 1})
    flow.send_event("everywhere", {"b": 2})
    runs.a_worker(name="shop-1", queues=["default"])
    flow.pause(made["retrying"], "lunch", by="ada")
    flow.resume(made["retrying"], by="ada")
    flow.rerun(made["completed"], by="ada")
    flow.fork(made["failed"], "hopeless", "luck", by="ada")
    runs.steered()
    return made


def pages(client: Client, made: dict[str, UUID]) -> Iterator[tuple[str, str]]:
    """Every page that links lead to, and those that only a form leads to."""
    yield from crawl(client, url("workflow", "admin.any"), *(url("change", run_id) for run_id in made.values()))
    for verb in ("cancel", "retry", "pause", "resume", "wake"):
        asked = choose(client, f"{verb}_runs", *made.values())
        yield f"{verb} many", asked.content.decode()
    for verb, state in {"cancel": "sleeping", "retry": "failed", "pause": "waiting", "resume": "paused"}.items():
        answer = client.post(url(verb, made[state]), {"reason": "lunch"}, follow=True)
        yield f"{verb} one", answer.content.decode()
        again = client.post(url(verb, made[state]), {"reason": "lunch"}, follow=True)
        yield f"{verb} again", again.content.decode()
    report = confirm(client, choose(client, "cancel_runs", *made.values()), "spring cleaning")
    answer = client.get(report["Location"], follow=True)
    yield "after many", answer.content.decode()
    (link,) = re.findall(r'href="([^"]+report/[^"]+)"', answer.content.decode())
    yield "report", client.get(link.replace("&amp;", "&")).content.decode()
    nothing = choose(client, "cancel_runs", made["completed"])
    yield "nothing to do", client.get(nothing["Location"], follow=True).content.decode()
    sent = client.post(url("send", made["retrying"]), {"event": "", "payload": "{"})
    yield "refused", sent.content.decode()


@pytest.fixture
def pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language in which every text is itself between marks."""
    for name in ("gettext", "pgettext", "ngettext", "npgettext"):
        monkeypatch.setattr(translation._trans, name, marked(name))


def test_every_text_is_handed_to_gettext(operator: Client, made: dict[str, UUID], pseudo: None) -> None:
    """What stands on a page of ours outside any translated text is data, a number or a moment."""
    missed: dict[str, set[str]] = {}
    seen = 0
    for name, content in pages(operator, made):
        texts = read(content)
        assert texts.is_balanced, name
        seen += 1
        for piece in _missed(texts):
            missed.setdefault(piece, set()).add(name)
    assert seen > 40
    assert missed == {}


def test_who_may_see_no_payloads_is_told_so_in_gettext(person: Person, made: dict[str, UUID], pseudo: None) -> None:
    """The same of the pages as others see them."""
    client = person("view_workflowrun", "view_steprecord", "view_timer", "view_event", "view_worker", name="grace")
    first = [url("change", run_id) for run_id in made.values()]
    assert {piece for _name, content in crawl(client, *first) for piece in _missed(read(content))} == set()


def _missed(texts: Texts) -> Iterator[str]:
    """Yield what is neither translated nor data."""
    known, names = (
        {*DJANGOS, *available_timezones(), *OVERLAPS, *CATCH_UPS, *(f"{each}:" for each in (*OVERLAPS, *CATCH_UPS))},
        re.compile("|".join(map(re.escape, _names()))),
    )
    for workflow in registry.workflows():
        said = inspect.getdoc(workflow.function) or ""
        known |= {" ".join(part.split()) for part in said.split("\n\n")}
    for piece in texts.outside:
        left = DATA.sub("", names.sub(_unless_within_a_word, piece))
        if " ".join(piece.split()) not in known and re.search(r"[^\W\d_]", left):
            yield piece


def _names() -> list[str]:
    """Return what workflows, versions and queues are called, other tests' too, the longest first."""
    found = {name for each in registry.workflows() for name in (each.name, each.version, each.queue) if name}
    return sorted(found, key=len, reverse=True)


def _unless_within_a_word(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return match[0] if re.search(r"[\w-]", before + after) else ""  # A version "2" is no part of an id.


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_english_is_left(operator: Client, made: dict[str, UUID], language: str, settings: Any) -> None:
    """In German and in Spanish no page has a text of ours as it is in the code."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    operator.defaults["HTTP_ACCEPT_LANGUAGE"] = language
    entries = catalogues.entries(catalogues.path(language))
    told = {text for entry in entries for text in entry.translations}
    whole = {text for entry in entries for text in entry.sources} - told - DJANGOS - {*_names(), *CATCH_UPS}
    parts = {part for text in whole if len(part := _longest(text)) > 12} - {_longest(text) for text in told}
    for name, content in pages(operator, made):
        assert f'lang="{language}' in content
        texts = read(content).found
        everything = " ".join(texts)
        left = {text for text in texts if text in whole} | {part for part in parts if part in everything}
        assert left == set(), name


def _longest(text: str) -> str:
    """Return the longest part of a text that stays as it is when it is filled in."""
    parts = re.split(r"\{\w+\}|%\(\w+\)\w|<[^>]*>", text)
    return max((" ".join(part.split()) for part in parts), key=len)


@pytest.mark.parametrize(
    ("language", "standing", "took"),
    [
        ("en", r"flaky: attempt 2 of 16 in [45] min — ValueError: no luck", "2 h 14 min"),
        ("de", r"flaky: Versuch 2 von 16 in [45] min — ValueError: no luck", "2 h 14 min"),
        ("es", r"flaky: intento 2 de 16 dentro de [45] min — ValueError: no luck", "2 h 14 min"),
    ],
)
def test_reasons_and_units_too(operator: Client, language: str, standing: str, took: str, settings: Any) -> None:
    """Why a run does not move, with its units, as the reader says it."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    MAKE["retrying"]()
    answer = operator.get(url("changelist"), {"state": "all"}, headers={"accept-language": language})
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", answer.content.decode()))
    assert re.search(standing, text)
    with translation.override(language):
        assert speech.span(2 * 3600 + 14 * 60) == took


@pytest.mark.parametrize(
    ("language", "button", "title", "row"),
    [
        ("de", "Läufe (2)", "Workflow-Läufe", "admin.any fehlgeschlagen"),
        ("es", "Ejecuciones (2)", "Ejecuciones de flujos de trabajo", "admin.any fallida"),
    ],
)
def test_so_do_the_pages_of_objects(
    admin_client: Client, language: str, button: str, title: str, row: str, settings: Any
) -> None:
    """The button and the runs on an object's page, and what the template tag draws on a page of the project's."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    order = an_order()
    content = admin_client.get(page_of(order), headers={"accept-language": language}).content.decode()
    assert button in content
    assert f">{title}</h2>" in content
    assert any(row in line for line in rows(content))
    with translation.override(language):
        drawn = Template("{% load canx_flow %}{% workflow_runs order %}").render(Context({"order": order}))
    assert row.split()[1] in drawn
    assert "failed</td>" not in drawn


def test_drawings_do_not_depend_on_the_language(operator: Client, made: dict[str, UUID], settings: Any) -> None:
    """Numbers in SVG are as browsers read them, however the reader writes them."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    settings.USE_THOUSAND_SEPARATOR = True
    numbers = []
    for address in [url("workflow", "admin.any"), *(url("change", run_id) for run_id in made.values())]:
        content = operator.get(address, headers={"accept-language": "de"}).content.decode()
        numbers += re.findall(r'\b(?:x|y|x1|x2|y1|y2|d|width|height|viewBox|max)="([^"]*)"', content)
    assert len(numbers) > 50
    assert not [number for number in numbers if "," in number or "\N{NO-BREAK SPACE}" in number]
    drawn = operator.get(url("workflow", "admin.any")).context["graph"]
    with translation.override("de"):
        large = replace(drawn, width=1234, height=5678, runs=1000)
        content = render_to_string("admin/canx_flow/graph.html", {"graph": large})
    assert 'width="1234" height="5678" viewBox="0 0 1234 5678"' in content
    assert "1.000 Läufe" in content
