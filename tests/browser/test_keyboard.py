"""The admin without a mouse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from canx_flow import get_run

from ..admin import runs
from . import world
from .chromium import Visitor

#: What can be clicked, and is to be seen.
_CLICKABLE = """() => {
    const can = "a[href], button, input:not([type=hidden]), select, textarea, summary, [role=button]";
    const shown = (e) => e.checkVisibility({visibilityProperty: true}) && !e.disabled;
    const all = [...document.querySelectorAll("#content *")].filter(shown);
    const plain = all.filter((e) => e.matches(can));
    const hand = (e) => getComputedStyle(e).cursor === "pointer";
    const pointed = all.filter((e) => hand(e) && !e.closest(can) && !e.closest("label"));
    window.clickable = [...plain, ...pointed];
    window.reached = new Map();
    window.look = (e) => {
        const style = getComputedStyle(e);
        return [style.outline, style.boxShadow, style.borderColor, style.background, style.textDecoration].join();
    };
    document.addEventListener("focusin", ({target}) => { window.reached.set(target, window.look(target)); });
    return window.clickable.length;
}"""
_LEFT_OUT = """() => window.clickable.filter((e) => !window.reached.has(e)).map((e) => e.outerHTML.slice(0, 120))"""
_UNSEEN = """() => {
    document.activeElement.blur();
    const ours = [...window.reached].filter(([e]) => e.closest("#content"));
    return ours.filter(([e, then]) => window.look(e) === then).map(([e]) => e.outerHTML.slice(0, 120));
}"""

pytestmark = pytest.mark.browser

PAGES: dict[str, Callable[[], str]] = {
    "list": lambda: f"{world.ADMIN}workflowrun/?state=all",
    "failed run": lambda: f"{world.ADMIN}workflowrun/{runs.at_rest('fail', note='luck')}/change/",
    "waiting run": lambda: f"{world.ADMIN}workflowrun/{runs.at_rest('wait')}/change/",
    "fork": lambda: f"{world.ADMIN}workflowrun/{runs.at_rest('fail', note='luck')}/fork/",
    "workflow": lambda: f"{world.ADMIN}workflowrun/workflows/admin.any/",
    "workers": lambda: f"{world.ADMIN}worker/",
    "events": lambda: f"{world.ADMIN}event/",
}


@pytest.mark.parametrize("name", PAGES)
def test_what_can_be_clicked_can_be_reached_by_the_tab_key(operator: Visitor, name: str) -> None:
    """Every link, button, field and fold, and whatever else shows a hand; and one sees where one is."""
    runs.at_rest("sleep"), runs.a_worker()
    operator.opens(PAGES[name]())
    number = operator.do(lambda page: page.evaluate(_CLICKABLE))
    assert number > 1
    for _ in range(number + 60):  # Beside the content there are the header and the sidebar.
        operator.do(lambda page: page.keyboard.press("Tab"))
    assert operator.do(lambda page: page.evaluate(_LEFT_OUT)) == []
    assert operator.do(lambda page: page.evaluate(_UNSEEN)) == []


def test_a_run_is_found_and_cancelled_by_keys_alone(operator: Visitor) -> None:
    """Tab and Enter lead from the list over the run's page to the question, and to its answer."""
    run_id = runs.at_rest("sleep")
    operator.opens(f"{world.ADMIN}workflowrun/?state=all")
    tab_to(operator, "#result_list .field-run a")
    press(operator, "Enter")
    operator.sees("sleeping", within=".canx-why")
    tab_to(operator, "a.canx-tool-cancel")
    press(operator, "Enter")
    operator.sees("will happen", within=".canx-confirm")
    tab_to(operator, "#id_reason")
    operator.do(lambda page: page.keyboard.type("by keys"))
    press(operator, "Enter")
    operator.sees("The run is cancelled.", within=".messagelist")
    assert get_run(run_id).state == "cancelled"


def press(visitor: Visitor, key: str) -> None:
    """Press a key, whatever has the focus."""
    visitor.do(lambda page: page.keyboard.press(key))


def tab_to(visitor: Visitor, selector: str) -> None:
    """Press Tab until this is what has the focus."""
    for _ in range(1000):  # Past a filter by each workflow that the whole suite declares.
        if visitor.do(lambda page: page.evaluate("what => document.activeElement.matches(what)", selector)):
            return
        press(visitor, "Tab")
    raise AssertionError(f"the tab key does not lead to {selector}")
