"""An event for a branch of a run under way, among very many for others."""

from __future__ import annotations

from types import ModuleType

from django.db import transaction

from canx_flow import send_event
from canx_flow.models import Timer

from ..crowding import FLOWS
from ..processes import WorkerProcess
from ..waiting import wait_until
from .test_in_flight import each_kind
from .test_in_workers import _ended


@each_kind
def test_a_broadcast_is_read_at_once_though_very_many_were_sent_before_it(
    worker: WorkerProcess, effects: ModuleType, kind: str
) -> None:
    """By a branch that waits for its key, while another branch is in a long step."""
    worker.start()
    flow = FLOWS["hears", kind]
    run_id = flow.start()
    wait_until(lambda: effects.count("at long") and Timer.objects.filter(event="paid").exists())
    with transaction.atomic():
        for number in range(1000):
            send_event("paid", key=f"other {number}")
        send_event("paid", key="mine")
    wait_until(lambda: effects.count("told"))
    effects.release("long")
    assert _ended(flow, run_id).state == "completed"
