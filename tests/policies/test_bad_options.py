"""What each option of a start policy refuses: at the call, naming the option, and nothing is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from canx_flow import Context, workflow
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

from .shared import work

pytestmark = pytest.mark.django_db

ONE = {"singleton": "a"}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"singleton": ""}, ValueError, "singleton must not be empty"),
    ({"singleton": 7}, TypeError, "singleton must be a str"),
    ({"singleton": "x" * 256}, ValueError, "singleton has 256 characters"),
    ({"singleton": "a\x00"}, ValueError, "singleton"),
    ({"on_conflict": "replace"}, ValueError, "on_conflict must be"),
    ({"on_conflict": "cancel_other"}, ValueError, "on_conflict='cancel_other' needs singleton"),
    ({"on_conflict": "cancel_other", "key": "k"}, ValueError, "on_conflict='cancel_other' needs singleton"),
    ({"debounce": 5}, ValueError, "debounce needs singleton"),
    ({**ONE, "debounce": 0}, ValueError, "debounce must be above zero"),
    ({**ONE, "debounce": -1}, ValueError, "debounce must be above zero"),
    ({**ONE, "debounce": float("inf")}, ValueError, "debounce"),
    ({**ONE, "debounce": 1e300}, ValueError, "debounce"),
    ({**ONE, "debounce": "5"}, TypeError, "debounce must be a timedelta"),
    ({**ONE, "debounce": True}, TypeError, "debounce must be a timedelta"),
    ({**ONE, "debounce": 5, "delay": 5}, ValueError, "debounce excludes delay"),
    ({**ONE, "debounce_max": 5}, ValueError, "debounce_max needs debounce"),
    ({**ONE, "debounce": 5, "debounce_max": 4}, ValueError, "debounce_max must not be shorter"),
    ({**ONE, "debounce": 5, "debounce_max": "9"}, TypeError, "debounce_max must be a timedelta"),
    ({**ONE, "debounce": 5, "debounce_max": 1e300}, ValueError, "debounce_max"),
    ({"expires": 0}, ValueError, "expires must be above zero"),
    ({"expires": timedelta(seconds=-1)}, ValueError, "expires must be above zero"),
    ({"expires": "soon"}, TypeError, "expires must be a timedelta"),
    ({"expires": 1e300}, ValueError, "expires"),
    ({"expires": 60, "delay": 60}, ValueError, "expires must be longer"),
    ({**ONE, "expires": 60, "debounce": 60}, ValueError, "expires must be longer"),
    ({**ONE, "expires": 60, "debounce": 30, "debounce_max": 60}, ValueError, "expires must be longer"),
    ({"cancel_on": 7}, TypeError, "cancel_on must be"),
    ({"cancel_on": ("a",)}, TypeError, "cancel_on must be"),
    ({"cancel_on": ("a", "b", "c")}, TypeError, "cancel_on must be"),
    ({"cancel_on": (7, "b")}, TypeError, "cancel_on must begin with an event's name"),
    ({"cancel_on": ("a", 42)}, TypeError, "cancel_on's key must be a str"),
    ({"cancel_on": ""}, ValueError, "event name must not be empty"),
    ({"cancel_on": "#end:1"}, ValueError, "must not begin with #end:"),
]


@pytest.mark.parametrize(("options", "error", "said"), BAD, ids=[str(options) for options, *_ in BAD])
def test_it_is_refused_at_the_call(options: dict[str, Any], error: type[Exception], said: str) -> None:
    """By `start` and by `start_many`; no row is left."""
    with pytest.raises(error, match=said):
        work.using(**options).start()
    with pytest.raises(error, match=said if "key" not in options else "."):
        work.using(**options).start_many([(1,)])
    assert not WorkflowRun.objects.exists()


def test_start_many_takes_no_key_and_no_parent() -> None:
    """One key has one run."""
    with pytest.raises(ValueError, match="takes no key"):
        work.using(key="k").start_many([(1,)])
    with pytest.raises(ValueError, match="on_parent_cancel"):
        work.using(on_parent_cancel="cancel").start_many([(1,)])


@workflow("policies.bad-parent")
def bad_parent(ctx: Context, options: dict[str, Any]) -> None:
    """Calls a child with these options."""
    ctx.call("child", work.using(**options))


@pytest.mark.parametrize("options", [ONE, {**ONE, "debounce": 5}])
def test_a_child_takes_no_singleton(options: dict[str, Any]) -> None:
    """Its parent waits for this very run, not for another that is there already."""
    run_id = bad_parent.start(options)
    run_until_idle()
    status = bad_parent.status(run_id)
    assert status.state == "failed"
    assert status.error is not None
    assert "a child takes no singleton" in status.error["message"]
