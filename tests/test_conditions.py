"""Conditions say what they say on every database, whatever words or order that has."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db.models import Q

from canx_flow.models import Timer, WorkflowRun
from canx_flow.models.conditions import FALSE, TRUE, of_runs

pytestmark = pytest.mark.django_db


def test_rows_are_found_whatever_the_ids_of_their_runs() -> None:
    """MariaDB has these two, which do not begin with the time, in the other order."""
    ids = [UUID("00000000-0000-4000-8000-000000000002"), UUID("ffffffff-0000-4000-8000-000000000001")]
    for run_id in ids:
        run = WorkflowRun.objects.create(id=run_id, workflow="w", ready=False)
        Timer.objects.create(run=run, kind="sleep", step="nap")
    assert Timer.objects.filter(of_runs(ids)).count() == 2
    assert Timer.objects.filter(of_runs(ids[:1])).update(held=True) == 1
    assert list(Timer.objects.filter(held=True).values_list("run_id", flat=True)) == ids[:1]
    assert not Timer.objects.filter(of_runs([])).exists()


@pytest.mark.parametrize("ready", [True, False])
def test_a_truth_value_means_the_same_in_the_words_of_an_index(ready: bool) -> None:
    """For `filter` and for `exclude`."""
    run = WorkflowRun.objects.create(workflow="w", ready=ready)
    WorkflowRun.objects.create(workflow="w", ready=not ready)
    value = TRUE if ready else FALSE
    assert WorkflowRun.objects.get(ready=value) == run
    assert WorkflowRun.objects.get(~Q(ready=FALSE if ready else TRUE)) == run
