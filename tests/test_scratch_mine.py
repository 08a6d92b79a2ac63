"""scratch"""
import threading, pytest
from uuid import UUID
from tests.test_start import elsewhere, one_step
from canx_flow.models import WorkflowRun

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fresh", [True, False])
def test_x(fresh):
    """x"""
    barrier = threading.Barrier(2, timeout=30)
    bad = 0
    def start(label, key):
        barrier.wait()
        return one_step.using(key=key).start(label)
    for n in range(1500):
        if not fresh: WorkflowRun.objects.all().delete()
        calls = [elsewhere(lambda label=label: start(label, f"k{n if fresh else 1}")) for label in ("a", "b")]
        for c in calls:
            try: c.result(60)
            except Exception as e: bad += 1; print(e)
    from django.db import connection
    with connection.cursor() as c:
        c.execute("show engine innodb status"); t = c.fetchone()[2]
        i = t.find("LATEST DETECTED DEADLOCK"); print(t[i:i+6000])
    assert not bad
