"""Every page of the admin, clicked through in a browser: nothing is refused, nobody kept out, nothing cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User

from canx_flow.models import WorkflowRun

from . import axe, world
from .chromium import NARROW, WIDE, Visitor
from .conftest import Door, logged_in
from .policy import strict

pytestmark = pytest.mark.browser

#: `make walk`: every page in every look, and lists with two filters at once.
IS_LONG = "WALK" in os.environ

#: What must be among the pages that a walk finds: it would not do to find few, and no fault on them.
PLACES = ("/workflows/#/", "/send/", "/history/", "/fork/", "/cancel/", "/retry/", "/worker/#/", "/event/#/")
SIZES = {"wide": WIDE, "narrow": NARROW}
Look = tuple[str, ...]
#: The first is enough where another row of the same place has been seen in all of them.
LOOKS: list[Look] = [
    ("wide", "light"),
    ("wide", "dark", "color-contrast"),
    ("narrow", "dark"),
    ("narrow", "light", "color-contrast"),
]


@pytest.fixture
def doors(server: str, settings: Any) -> list[str]:
    """Where a walk begins, in a world that has everything, under a strict policy."""
    settings.SECURE_CSP = strict()
    return [*world.DOORS, *world.build()]


def test_what_a_policy_refuses_is_heard(anybody: Door, server: str, settings: Any) -> None:
    """The tests below would fail for a style that is written into a page."""
    settings.SECURE_CSP = strict()
    visitor = anybody().opens("/admin/login/")
    assert visitor.faults == []
    visitor.do(lambda page: page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">')"))
    visitor.do(lambda page: page.wait_for_timeout(0))
    assert any("style-src" in fault for fault in visitor.faults), visitor.faults
    visitor.faults.clear()


def test_no_page_is_refused_anything_or_keeps_anybody_out(operator: Visitor, doors: list[str]) -> None:
    """On every page to which there is a way: no violation of the policy, no error on the console, and no answer but
    success; axe finds nothing grave and nothing is too wide, be it light or dark, on a desk or in the hand.
    """
    wrong: dict[str, list[str]] = {}
    known: set[str] = set()
    for address in world.walk(operator, doors, filters=world.MORE if IS_LONG else world.FEW):
        found = [*operator.faults]
        is_new = world.place(address) not in known
        wanted = is_new or IS_LONG or address in doors
        if wanted and operator.number("#content"):  # Not what is no page: a value as text, JSON.
            looks = LOOKS if is_new or IS_LONG else LOOKS[:1]
            found += [f"{look}: {fault}" for look, fault in looked_at(operator, looks)]
        known.add(world.place(address))
        operator.faults.clear()  # What axe itself does is no fault of the page's.
        if found:
            wrong[address] = found
    assert not wrong, "\n".join(f"{address}: {fault}" for address, faults in wrong.items() for fault in faults)
    assert [place for place in PLACES if not any(place in found for found in known)] == []


#: What moves without end is not waited for.
_SETTLED = """Promise.race([
    Promise.allSettled(document.getAnimations().map((each) => each.finished)),
    new Promise((done) => setTimeout(done, 2000)),
])"""


def looked_at(visitor: Visitor, looks: Sequence[Look]) -> Iterator[tuple[str, str]]:
    """How the open page looks, and what is wrong with it then. Colours alone are other ones in the dark."""
    for size, scheme, *rules in looks:
        visitor.do(lambda page, size=size: page.set_viewport_size(SIZES[size]))
        visitor.do(lambda page, scheme=scheme: page.emulate_media(color_scheme=scheme))
        visitor.do(lambda page: page.evaluate(_SETTLED))  # A link takes its time to change its colour.
        yield from ((f"{scheme}, {size}", fault) for fault in axe.faults(visitor, *rules))
        beyond = visitor.do(lambda page: page.evaluate("document.documentElement.scrollWidth - innerWidth"))
        if beyond > 0:
            yield f"{scheme}, {size}", f"{beyond} px too wide"
    visitor.do(lambda page: page.set_viewport_size(WIDE))
    visitor.do(lambda page: page.emulate_media(color_scheme="light"))


def test_the_sentence_of_a_run_is_on_a_phones_screen(anybody: Door, manager: User, doors: list[str]) -> None:
    """Of every run in the list, without scrolling sideways."""
    phone = logged_in(anybody(viewport=NARROW, has_touch=True), manager)
    phone.opens("/admin/canx_flow/workflowrun/?state=all")
    assert phone.number("#result_list .field-goes_on") == WorkflowRun.objects.count()
    boxes = phone.do(lambda page: [each.bounding_box() for each in page.locator("#result_list .field-goes_on").all()])
    assert [box for box in boxes if box is None or box["x"] < 0 or box["x"] + box["width"] > NARROW["width"]] == []
