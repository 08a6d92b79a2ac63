"""Pages that refresh themselves, as people see them; copying, and keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from canx_flow.admin import live
from canx_flow.insight import health, pulse
from canx_flow.testing import run_until_idle

from ..admin import runs
from ..admin.conftest import url
from ..admin.runs import anything, at_rest
from ..processes import Workers
from ..waiting import wait_until
from ..workflows import waits
from .chromium import Visitor
from .conftest import Door

pytestmark = pytest.mark.browser

LIST = f"{url('changelist')}?state=all"
#: What the page asks for, and how it was answered.
_HEAR = """() => {
    const ask = window.fetch;
    window.answers = [];
    window.fetch = async (...given) => {
        const answer = await ask(...given);
        window.answers.push(answer.status);
        return answer;
    };
}"""
_HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def page(run_id: UUID) -> str:
    """The address of a run's page."""
    return url("change", run_id)


def answers(visitor: Visitor) -> list[int]:
    """How the questions of this page have been answered so far."""
    found: list[int] = visitor.do(lambda page: page.evaluate("window.answers"))
    return found


def heard(visitor: Visitor, status: int, more: int = 1) -> None:
    """Wait until so many more questions have been answered so."""
    wanted = answers(visitor).count(status) + more
    wait_until(lambda: answers(visitor).count(status) >= wanted, message=f"{status} is not heard", pause=0.1)


def hears(visitor: Visitor) -> Visitor:
    """Have the page note what it asks for."""
    visitor.do(lambda page: page.evaluate(_HEAR))
    return visitor


def test_a_run_completes_before_ones_eyes(operator: Visitor, workers: Workers) -> None:
    """A real worker goes on with it: sentence, buttons, steps and the tab change, and nothing is loaded anew."""
    workers.start()
    run_id = waits.start("x")
    wait_until(lambda: waits.status(run_id).state == "waiting")
    operator.opens(page(run_id))
    operator.do(lambda page: page.evaluate("window.mark = 1"))
    assert operator.number("a.canx-tool-cancel") == 1
    waits.send(run_id, "go", "yes")
    operator.sees("completed", within=".canx-why")
    operator.sees("yes", within="[data-canx-live=head]")
    assert operator.number("a.canx-tool-cancel") == 0
    assert operator.do(lambda page: page.title()).startswith("✓ completed")
    assert operator.do(lambda page: page.evaluate("window.mark")) == 1
    assert "completed" in operator.do(lambda page: page.locator(".canx-live [role=status]").inner_text())


def test_where_one_is_stays_as_it_is(operator: Visitor) -> None:
    """Focus, selection, what is unfolded, and what is in view, though the page above it has grown."""
    run_id = runs.many_steps.start(40)
    run_until_idle()
    operator.opens(page(run_id))
    operator.do(lambda page: page.locator(".canx-menu summary").click())
    operator.do(lambda page: page.locator("#canx-history").scroll_into_view_if_needed())
    operator.do(lambda page: page.locator("a.canx-here").last.focus())
    operator.do(lambda page: page.evaluate("getSelection().selectAllChildren(document.querySelector('#canx-steps'))"))
    before = _where(operator)
    runs_history = operator.number(".canx-history tbody tr")
    anything_paused(run_id)
    wait_until(lambda: operator.number(".canx-history tbody tr") > runs_history, pause=0.1)
    after = _where(operator)
    assert abs(after.pop("seen") - before.pop("seen")) <= 1  # Pixels are rounded.
    assert after == before
    assert before["focus"].startswith("?step=")
    assert before["selected"] == "Steps"
    assert before["unfolded"]
    assert before["scrolled"]


def anything_paused(run_id: UUID) -> None:
    """Change what is shown of the run."""
    runs.many_steps.pause(run_id, "lunch")


def _where(visitor: Visitor) -> dict[str, Any]:
    return visitor.do(lambda page: page.evaluate("""() => ({
        focus: document.activeElement.getAttribute("href"), selected: getSelection().toString(),
        unfolded: document.querySelector(".canx-menu").open, scrolled: scrollY > 0,
        seen: Math.round(document.activeElement.getBoundingClientRect().top),
    })"""))  # fmt: skip


def test_what_has_not_changed_costs_an_empty_answer(operator: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question is answered with the page, the next ones with nothing."""
    monkeypatch.setattr(live, "_moment", lambda _seconds: 0)
    hears(operator.opens(page(at_rest("wait"))))
    heard(operator, 304, 2)
    assert answers(operator).count(200) == 1


def test_nothing_is_asked_while_the_tab_is_hidden(operator: Visitor) -> None:
    """And at once when it is shown again."""
    run_id = at_rest("sleep")
    hears(operator.opens(page(run_id)))
    heard(operator, 200)
    operator.do(lambda page: page.evaluate(_HIDE, True))
    number = len(answers(operator))
    anything.pause(run_id, "lunch")
    operator.do(lambda page: page.wait_for_timeout(2_500))
    assert len(answers(operator)) == number
    assert "lunch" not in operator.reads(".canx-why")
    operator.do(lambda page: page.evaluate(_HIDE, False))
    operator.sees("lunch", within=".canx-why")


def test_the_switch_turns_it_off_and_on_for_this_browser(operator: Visitor) -> None:
    """The next page has it off, too."""
    run_id = at_rest("sleep")
    hears(operator.opens(page(run_id)))
    operator.clicks("Live")
    operator.opens(page(run_id))
    assert operator.do(lambda page: page.get_by_role("button", name="Live", pressed=False).count()) == 1
    anything.pause(run_id, "lunch")
    operator.do(lambda page: page.wait_for_timeout(2_500))
    assert "lunch" not in operator.reads(".canx-why")
    operator.do(lambda page: page.keyboard.press("l"))
    operator.sees("lunch", within=".canx-why")


def test_without_an_answer_it_asks_ever_more_rarely(operator: Visitor) -> None:
    """It says so, and goes on when there are answers again."""
    run_id = at_rest("sleep")
    operator.opens(page(run_id))
    asked: list[str] = []

    def refuse(route: Any) -> None:
        asked.append("x")
        route.fulfill(status=503)

    operator.do(lambda page: page.route("**/change/", refuse))
    operator.sees("No answer. Next try in 4 s.", within=".canx-live-note")
    operator.sees("No answer. Next try in 8 s.", within=".canx-live-note")
    assert len(asked) == 2
    anything.pause(run_id, "lunch")
    operator.do(lambda page: page.unroute("**/change/"))
    operator.sees("lunch", within=".canx-why")
    assert operator.reads(".canx-live-note") == ""
    operator.faults[:] = [fault for fault in operator.faults if "503" not in fault]  # What was meant to happen.


def test_who_is_logged_out_is_told(operator: Visitor) -> None:
    """And nothing more is asked for."""
    operator.opens(page(at_rest("sleep")))
    operator.do(lambda page: page.context.clear_cookies())
    operator.sees("open it anew", within=".canx-live-note")
    assert operator.number("button.canx-toggle:visible") == 0


def test_rows_of_a_list_change_where_they_are_and_new_ones_are_counted(operator: Visitor) -> None:
    """A row that is ticked or has the focus is left alone; one that has left the filter is marked."""
    oldest, first, ticked, last = (at_rest("sleep") for _ in range(4))
    operator.opens(f"{url('changelist')}?state=unfinished")
    operator.do(lambda page: page.locator(f"input.action-select[value='{ticked}']").check())
    operator.do(lambda page: page.locator("body").click(position={"x": 5, "y": 5}))
    for run_id in (first, ticked):
        anything.pause(run_id, "lunch")
    anything.cancel(last), anything.cancel(oldest)
    new = [at_rest("sleep") for _ in range(2)]
    operator.sees("2 new runs, 2 are no longer in this list: show", within="a.canx-new")
    rows = operator.do(lambda page: page.locator("#result_list tbody tr").all_inner_texts())
    assert ["lunch" in row for row in rows] == [False, False, True, False]
    left = "all => all.map((code) => code.title)"
    found = operator.do(lambda page: page.eval_on_selector_all("tr.canx-left code.canx-id", left))
    assert found == [str(last), str(oldest)]
    operator.do(lambda page: page.locator("a.canx-new").click())
    operator.sees(str(new[1])[-4:], within="#result_list")
    assert operator.number("#result_list tbody tr") == 4


def test_a_row_of_a_runs_page_that_is_held_is_shown_once(operator: Visitor) -> None:
    """And all others beside it, in their order, though what came last stands above it now."""
    run_id = at_rest("sleep")
    anything.pause(run_id, "first")
    anything.resume(run_id, "second")
    operator.opens(page(run_id))
    rows = ".canx-history tbody tr"
    operator.do(lambda page: page.locator(rows).first.locator("td").last.select_text())
    anything.pause(run_id, "third")
    operator.sees("third", within=".canx-history")
    said = operator.do(lambda page: page.locator(f"{rows} td:last-child").all_inner_texts())
    assert said == ["third", "second", "first"]


#: Makes one table like another while a row is selected, and says which rows it has then.
_MORPH = """([held, fresh]) => {
    const table = (keys) => {
        const body = document.createElement("tbody");
        for (const key of keys) {
            const row = body.insertRow();
            row.dataset.canxKey = key;
            row.insertCell().textContent = key;
        }
        return body;
    };
    const shown = table(["a", "b", "c"]);
    document.body.append(document.createElement("table").appendChild(shown).parentNode);
    getSelection().selectAllChildren([...shown.rows].find((row) => row.dataset.canxKey === held));
    window.canxFlow.morph(shown, table(fresh));
    return [...shown.rows].map((row) => row.dataset.canxKey);
}"""


@pytest.mark.parametrize(
    ("held", "fresh", "shown"),
    [
        ("a", ["b", "a", "c"], ["a", "b", "c"]), ("b", ["x", "a", "b", "c"], ["x", "a", "b", "c"]),
        ("c", ["c", "b", "a"], ["c", "b", "a"]), ("b", ["a", "c"], ["a", "b", "c"]), ("b", ["c", "b"], ["b", "c"]),
    ],
)  # fmt: skip
def test_a_row_that_is_held_is_never_there_twice(
    operator: Visitor, held: str, fresh: list[str], shown: list[str]
) -> None:
    """Wherever its fresh one stands; it stays where it is."""
    operator.opens(page(at_rest("sleep")))
    assert operator.do(lambda page: page.evaluate(_MORPH, [held, fresh])) == shown


def test_moments_go_on_by_themselves(operator: Visitor) -> None:
    """In the words of the server, without a question."""
    operator.opens(page(at_rest("sleep")))
    operator.do(lambda page: page.evaluate(_HIDE, True))
    operator.do(lambda page: page.evaluate(_HIDE, False))
    shown = operator.do(lambda page: page.locator(".canx-facts time").first.inner_text())
    wait_until(
        lambda: operator.do(lambda page: page.locator(".canx-facts time").first.inner_text()) not in (shown, "now"),
        pause=0.2,
    )
    assert operator.do(lambda page: page.locator(".canx-facts time").first.inner_text()).endswith(" s ago")


@pytest.mark.parametrize("where", ["/admin/", LIST, "run", url("changelist", model="worker")])
def test_every_page_says_within_one_poll_that_the_worker_was_killed(
    operator: Visitor, workers: Workers, where: str
) -> None:
    """A real one, by SIGKILL, with nobody to say so for it."""
    run_id = at_rest("wait")
    worker = workers.start()
    hears(operator.opens(page(run_id) if where == "run" else where))
    assert operator.number(".canx-alarm") == 0
    worker.kill()
    wait_until(lambda: not health.examine(confirm=False).live, pause=0.1)
    pulse.forget()  # Which is shown for longer where looking takes longer, as on a busy machine.
    asked = len(answers(operator))
    operator.sees("No worker is live", within="[data-canx-live=banner]")
    # One may have been answered already, but not noted, when the worker was found dead.
    assert len(answers(operator)) <= asked + 2
    assert operator.number(".canx-alarm") > 0


# -- copying, and keys -------------------------------------------------------------------------------


def test_a_command_is_copied(anybody: Door, operator: Visitor) -> None:
    """By the button beside it, which says so."""
    run_id = at_rest("fail", note="x")
    operator.do(lambda page: page.context.grant_permissions(["clipboard-read", "clipboard-write"]))
    operator.opens(page(run_id))
    operator.do(lambda page: page.locator(".canx-menu summary").click())
    button = f"button[data-canx-copy='manage.py flow retry {run_id}']"
    operator.do(lambda page: page.locator(f".canx-menu {button}").click())
    operator.sees("Copied", within=f".canx-menu {button}")
    assert operator.do(lambda page: page.evaluate("navigator.clipboard.readText()")) == f"manage.py flow retry {run_id}"


def test_a_run_is_downloaded_as_json(operator: Visitor) -> None:
    """By a link in the menu."""
    run_id = at_rest("sleep")
    operator.opens(page(run_id))
    operator.do(lambda page: page.locator(".canx-menu summary").click())

    def downloads(page: Any) -> Path:
        with page.expect_download() as found:
            page.locator(".canx-menu").get_by_role("link", name="Download JSON").click()
        return Path(found.value.path())

    assert json.loads(operator.do(downloads).read_text())["id"] == str(run_id)


def at(visitor: Visitor) -> str:
    """The run that the focus is on."""
    run = "document.activeElement.closest('tr')?.querySelector('code').title ?? ''"
    found: str = visitor.do(lambda page: page.evaluate(run))
    return found


def test_keys_go_through_a_list_and_open_a_run(operator: Visitor) -> None:
    """`j` and `k`, `x` ticks, Enter opens; `n` and `p` lead to the neighbours; `r` and `c` to the pages that ask."""
    first, second, third = at_rest(), at_rest("fail", note="x"), at_rest("sleep")
    press: Callable[[str], None] = lambda key: operator.do(lambda page: page.keyboard.press(key))  # noqa: E731
    operator.opens(LIST)
    for key, run_id in (("j", third), ("j", second), ("j", first), ("j", first), ("k", second)):
        press(key)
        assert at(operator) == str(run_id)
    press("x")
    assert operator.number("input.action-select:checked") == 1
    press("/")
    press("j")
    assert operator.do(lambda page: page.input_value("#searchbar")) == "j"
    operator.opens(LIST)
    press("j"), press("j"), press("Enter")
    operator.do(lambda page: page.wait_for_url(f"**{url('change', second)}*"))
    press("n")
    operator.do(lambda page: page.wait_for_url(f"**{url('change', first)}*"))
    press("p")
    operator.do(lambda page: page.wait_for_url(f"**{url('change', second)}*"))
    press("r")
    operator.do(lambda page: page.wait_for_url(f"**{url('retry', second)}*"))
    operator.opens(page(third))
    press("c")
    operator.do(lambda page: page.wait_for_url(f"**{url('cancel', third)}*"))
    assert anything.status(third).state == "sleeping"


def test_keys_are_told_and_can_be_turned_off(operator: Visitor) -> None:
    """For this browser, in the list of them, which stays to be had."""
    operator.opens(LIST)
    operator.do(lambda page: page.keyboard.press("?"))
    operator.sees("Next and previous row", within="dialog.canx-keys")
    operator.do(lambda page: page.get_by_label("Keys are on in this browser").uncheck())
    operator.do(lambda page: page.keyboard.press("Escape"))
    at_rest()
    operator.opens(LIST)
    operator.do(lambda page: page.keyboard.press("j"))
    assert at(operator) == ""
    operator.do(lambda page: page.get_by_role("button", name="Keys").click())
    operator.sees("Search", within="dialog.canx-keys")
