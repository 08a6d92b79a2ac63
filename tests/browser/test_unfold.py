"""The admin on django-unfold's pages, in a process of its own: light and dark, on a desk and in the hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ..processes import ROOT, environment
from . import axe, world
from .chromium import NARROW, WIDE, Chromium, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.once]  # The pages are the same with every database.

#: Where a run is, what may be done to it, and all that is about no single one.
RUN, LIST = "/workflowrun/#/", f"{world.ADMIN}workflowrun/?state=all"
PLACES = ("/dashboard/", "/queues/", "/workflows/", "/workflows/#/", "/worker/", "/worker/#/change/", "/event/send/",
          "/queues/#/change/", "/pause/#/", "/resume/#/", "/schedule/", "/schedule/#/change/", "/schedule/#/backfill/",
          "/schedule/new/",
          f"{RUN}change/", f"{RUN}cancel/", f"{RUN}retry/", f"{RUN}fork/", f"{RUN}send/", f"{RUN}history/")  # fmt: skip
#: Parts that unfold draws, and we do not.
UNFOLDS = ("#changelist-search", ".action-checkbox", ".action-checkbox-column", ".filter-open-button")
#: Things to click and to fill in of which one lies over another. What sticks to the window's edge does so on purpose.
_OVERLAPPING = """() => {
    const aloft = (element) => element.closest("#submit-row, #changelist-filter, #changelist-actions, .sticky");
    const all = [...document.querySelectorAll("body :is(a[href], button, input, select, textarea, summary)")]
        .filter((element) => element.checkVisibility({visibilityProperty: true}) && !aloft(element))
        .map((element) => [element, [...element.getClientRects()]]);
    const meet = (one, other) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
        && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1;
    const said = (element) => element.outerHTML.slice(0, 80);
    return all.flatMap(([one, mine], place) => all.slice(place + 1)
        .filter(([other, its]) => !one.contains(other) && mine.some((box) => its.some((each) => meet(box, each))))
        .map(([other]) => `${said(one)} lies over ${said(other)}`));
}"""


@pytest.fixture(scope="module")
def themed() -> Iterator[dict[str, Any]]:
    """A server of another project, with everything that there is to see."""
    pytest.importorskip("unfold", reason="make env installs django-unfold")
    settings = "tests.sites.unfold_settings"
    more = {"DJANGO_SETTINGS_MODULE": settings, "PYTHONPATH": f"{ROOT}:{ROOT / 'testproject'}"}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.sites.serving", settings], cwd=ROOT,
        env=environment(**more, DATABASE_URL="sqlite:///x", OTHER_DATABASE_URL="sqlite:///y"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both are pipes
        yield json.loads(process.stdout.readline())
        process.stdin.close()


@pytest.fixture
def visitor(chromium: Chromium, themed: dict[str, Any]) -> Iterator[Visitor]:
    """The manager of that project, at a desk. No page may complain of anything."""
    found = Visitor(chromium, themed["url"]).has_cookie("sessionid", themed["session"])
    yield found
    found.leaves()
    assert found.faults == []


def looks(visitor: Visitor, size: Any, scheme: str) -> None:
    """Look at the page in this size, and with this preference."""
    visitor.do(lambda page: page.set_viewport_size(size))
    visitor.do(lambda page: page.emulate_media(color_scheme=scheme))


def overlapping(visitor: Visitor) -> list[str]:
    """A line for each thing that lies over another."""
    found: list[str] = visitor.do(lambda page: page.evaluate(_OVERLAPPING))
    return found


def wrong(visitor: Visitor, *, is_new: bool) -> Iterator[str]:
    """What is wrong with the open page; axe, which takes long, looks at the first of a place."""
    beyond = visitor.do(lambda page: page.evaluate("document.documentElement.scrollWidth - innerWidth"))
    if beyond > 0:
        yield f"{beyond} px too wide"
    yield from overlapping(visitor)
    if is_new:
        yield from axe.faults(visitor, theirs=UNFOLDS)


def test_what_lies_over_another_is_seen(visitor: Visitor) -> None:
    """The test below would fail for a button that is put anywhere."""
    visitor.opens(LIST)
    assert overlapping(visitor) == []
    visitor.do(lambda page: page.locator(".canx-refresh").evaluate("link => { link.style.marginRight = '-40px'; }"))
    [fault] = overlapping(visitor)
    assert "canx-refresh" in fault


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["desk", "hand"])
def test_on_every_page_nothing_overlaps_and_all_can_be_read(
    visitor: Visitor, themed: dict[str, Any], size: Any, scheme: str
) -> None:
    """No page that there is a way to is refused anything by the policy that the docs name, or is too wide."""
    looks(visitor, size, scheme)
    found: dict[str, list[str]] = {}
    for address in world.walk(visitor, [*world.DOORS, *themed["pages"]], inside="#page", kind=world.place):
        if visitor.number("#content"):  # Not what is no page: a value as text, JSON.
            faults = wrong(visitor, is_new=world.place(address) not in found)
            found.setdefault(world.place(address), []).extend(f"{address}: {fault}" for fault in faults)
    assert {place: faults for place, faults in found.items() if faults} == {}
    assert [place for place in PLACES if not any(place in each for each in found)] == []


def test_the_dark_is_unfolds(visitor: Visitor) -> None:
    """Colours follow the theme that the reader has chosen there, not what the system prefers."""
    badge = "getComputedStyle(document.querySelector('.canx-badge.canx-failed')).backgroundColor"
    light, dark = "rgb(253, 234, 234)", "rgb(67, 20, 22)"
    for scheme, chosen, colour in (
        ("light", "auto", light), ("dark", "auto", dark), ("dark", "light", light), ("light", "dark", dark),
    ):  # fmt: skip
        looks(visitor, WIDE, scheme)
        visitor.opens(LIST)
        visitor.do(lambda page, chosen=chosen: page.evaluate(f"localStorage.adminTheme = '\"{chosen}\"'"))
        visitor.opens(LIST)
        assert visitor.do(lambda page: page.evaluate(badge)) == colour, (scheme, chosen)


def test_a_run_is_found_by_keys_cancelled_and_its_buttons_change(visitor: Visitor, themed: dict[str, Any]) -> None:
    """`j` and Enter open the first of the list; the button is in a row of its own, and the question has a title."""
    visitor.opens(f"{world.ADMIN}workflowrun/?state=sleeping")
    visitor.do(lambda page: page.keyboard.press("j"))
    visitor.do(lambda page: page.keyboard.press("Enter"))
    visitor.do(lambda page: page.wait_for_url("**/change/*"))
    assert visitor.number("#header-inner .canx-tool") == 0  # Where there is no room for seven.
    visitor.clicks("Cancel", within=".canx-tools")
    visitor.sees("Cancel this run?", within="h2.canx-heading")
    visitor.clicks("Yes, cancel it")
    visitor.sees("cancelled", within=".canx-why")
    assert visitor.number(".canx-tool-cancel") == 0
    visitor.do(lambda page: page.keyboard.press("?"))
    visitor.sees("Older and newer run", within="dialog.canx-keys[open]")


def test_the_lists_action_bar_is_unfolds(visitor: Visitor) -> None:
    """Rows are ticked, an action is chosen, and the page that asks names them."""
    visitor.opens(f"{world.ADMIN}workflowrun/?state=failed")
    visitor.do(lambda page: page.locator("#result_list input.action-select").first.check())
    visitor.do(lambda page: page.locator("#changelist-actions select").select_option("retry_runs"))
    visitor.do(lambda page: page.locator("#changelist-actions button[type=submit]").click())
    visitor.sees("Retry these runs?", within="h2.canx-heading")


def test_runs_of_an_object_are_on_its_page(visitor: Visitor, themed: dict[str, Any]) -> None:
    """As an inline, and by a button among unfold's own."""
    visitor.opens(themed["pages"][-1])
    visitor.sees("order-processing", within=".canx-runs-of")
    visitor.do(lambda page: page.get_by_role("link", name="Runs (1)").click())
    visitor.sees("order 1", within="#result_list")
