"""The page of queues, on a desk and in the hand, in the longer languages too."""

from __future__ import annotations

from typing import Any

import pytest

from canx_flow import queues
from canx_flow.models import Worker, WorkflowRun

from ..admin import runs
from .chromium import NARROW, WIDE, Visitor

pytestmark = pytest.mark.browser

_BEYOND = "document.documentElement.scrollWidth - innerWidth"
#: Tables that are wider than their place: what is beyond it is only seen by whoever scrolls there.
_CUT = """[...document.querySelectorAll(".canx-scroll")].filter((each) => each.scrollWidth > each.clientWidth)
    .map((each) => each.scrollWidth - each.clientWidth)"""


@pytest.mark.parametrize("language", ["en", "de", "es"])
def test_no_column_is_cut_off(operator: Visitor, settings: Any, language: str) -> None:
    """With every column filled, and with a queue that no worker serves; on a phone the page is as wide as it."""
    settings.LANGUAGE_CODE = language
    WorkflowRun.objects.filter(id__in=[make() for make in runs.MAKE.values()]).update(queue="mail")
    runs.anything.using(queue="billing").start()
    runs.a_worker(queues=["mail", "default"])
    Worker.objects.update(queues='["mail", "default"]')
    queues.pause("mail", "the provider is down", by="ada")
    queues.limits("mail", concurrency=2, rate="5/s")
    operator.opens("/admin/canx_flow/workflowrun/queues/")
    assert operator.number("tr.canx-queue-bad") == 1
    for size, script in ((WIDE, _CUT), (NARROW, _CUT), (NARROW, _BEYOND)):
        operator.do(lambda page, size=size: page.set_viewport_size(size))
        found = operator.do(lambda page, script=script: page.evaluate(script))
        assert not found, f"{size}: {found} px too wide"
