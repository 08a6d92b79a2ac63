"""A run that fails: its cause in the list, its traceback, and a fork of it once the code is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..processes import Workers
from ..waiting import wait_until
from .billing import BROKEN, MENDED, billing, deploy
from .chromium import Visitor

pytestmark = pytest.mark.browser


def test_a_failed_run_is_understood_and_forked_after_a_deployment(
    operator: Visitor, workers: Workers, tmp_path: Path
) -> None:
    """The list says why, the page shows where; new code and corrected input finish it, and no step is repeated."""
    worker = workers.start(env=deploy(tmp_path, BROKEN))
    run_id = billing.start("Garce", 12)
    wait_until(lambda: billing.status(run_id).state == "failed")
    operator.opens("/admin/canx_flow/workflowrun/")
    operator.sees("Needs attention", within=".canx-tabs [aria-current]")
    operator.sees("price-hours: KeyError: 'Garce'", within="#result_list .field-goes_on")

    operator.do(lambda page: page.locator("#result_list .field-run a").click())
    operator.sees("KeyError: 'Garce'", within=".canx-failure")
    operator.sees("return RATES[customer] * hours", within=".canx-failure details[open] pre")
    assert "canx_flow" not in operator.reads(".canx-failure details[open] pre")

    worker.terminate()
    worker.wait()
    workers.start(env=deploy(tmp_path, MENDED))
    operator.clicks("Fork from here…", within="#step-price-hours")
    operator.sees("number-invoice", within="[aria-labelledby=canx-kept]")
    operator.sees("price-hours", within="[aria-labelledby=canx-again]")
    operator.fills("Arguments", '["Grace", 12, 3]')
    operator.clicks("Yes, fork it")
    operator.sees("too many positional arguments", within=".errorlist")
    operator.shoots("fork")
    operator.fills("Arguments", '["Grace", 12]')
    operator.fills("Reason", "The name was mistyped; the release of noon reads any case")
    operator.clicks("Yes, fork it")
    operator.sees("completed", within=".canx-why")
    operator.sees("1140", within="[aria-labelledby=canx-values]")
    operator.sees("mistyped", within=".canx-history")
    assert billing.status(run_id).state == "failed"
