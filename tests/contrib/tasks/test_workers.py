"""Tasks that real workers perform, and what the commands of a project with them say."""

from __future__ import annotations

import socket
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from django.db import transaction

from canx_flow.contrib.tasks.compat import TaskResultStatus, task_backends
from canx_flow.models import WorkflowRun
from tests.processes import ROOT, Workers, environment, manage
from tests.waiting import wait_until

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.contrib.tasks.settings"}


def finished(result: Any) -> Any:
    """The result, once it is finished."""

    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_until(is_finished)
    return result


def test_a_worker_performs_tasks(workers: Workers, effects: ModuleType, work: ModuleType) -> None:
    """Plain and async ones, of modules that nothing else of the worker imports; meanwhile they are running, by it."""
    held = work.held.enqueue("one")
    with transaction.atomic():
        others = [work.add.enqueue(1, two=2), work.add_async.enqueue(1, two=2), work.fail.enqueue("no")]
    worker = workers.start(env=SETTINGS)
    wait_until(lambda: effects.count("at one"))
    held.refresh()
    assert held.status == TaskResultStatus.RUNNING
    assert held.worker_ids == [f"{socket.gethostname()}:{worker.pid}"]
    assert held.enqueued_at <= held.started_at <= held.last_attempted_at
    effects.release("one")
    assert finished(held).return_value == "one"
    assert held.worker_ids == [f"{socket.gethostname()}:{worker.pid}"]
    assert [finished(result).status.value for result in others] == ["SUCCESSFUL", "SUCCESSFUL", "FAILED"]
    assert {tuple(result.worker_ids) for result in others} == {tuple(held.worker_ids)}


def test_a_worker_knows_the_tasks_of_other_backends(workers: Workers, effects: ModuleType, work: ModuleType) -> None:
    """One of them was given to the engine by `using`, in this process alone."""
    result = work.at_once.using(backend="retried").enqueue()
    workers.start(env=SETTINGS)
    assert finished(result).return_value == "done"


@pytest.mark.parametrize("name", ["held", "held_async"])
def test_c097_a_task_whose_worker_is_killed_is_performed_by_another(
    workers: Workers, effects: ModuleType, work: ModuleType, name: str
) -> None:
    """C097: it is called again, which is no second attempt, and its one result is that of the second worker."""
    result = getattr(work, name).enqueue("one")
    first = workers.start(env=SETTINGS)
    wait_until(lambda: effects.count("at one"))
    first.kill()
    second = workers.start(env=SETTINGS)
    wait_until(lambda: effects.count("at one") == 2)
    effects.release("one")
    assert finished(result).return_value == "one"
    assert (result.attempts, result.worker_ids) == (1, [f"{socket.gethostname()}:{second.pid}"])
    assert effects.count("one done") == 1


def test_c009_a_task_that_no_worker_knows_waits_for_one_that_does(
    workers: Workers, effects: ModuleType, work: ModuleType
) -> None:
    """C009: it is parked, and goes on when a worker imports the module that declares it."""
    result = work.add.enqueue(1)
    unknowing = workers.start(env={**SETTINGS, "TASKS_OPTIONS": "{}"})
    wait_until(lambda: WorkflowRun.objects.get(id=result.id).state == "parked")
    result.refresh()
    assert result.status == TaskResultStatus.READY
    unknowing.kill()
    workers.start(env=SETTINGS)
    assert finished(result).return_value == 1


def test_a_worker_serves_the_queues_that_it_is_told_to(workers: Workers, effects: ModuleType, work: ModuleType) -> None:
    """The queue of a task is a queue of the engine."""
    other, mail = work.add.enqueue(1), work.urgent.enqueue()
    workers.start("--queue", "mail", env=SETTINGS)
    assert finished(mail).return_value == "done"
    other.refresh()
    assert other.status == TaskResultStatus.READY


# -- checks ----------------------------------------------------------------------------------------


def checked(**more: str) -> str:
    """What `manage.py check` prints."""
    done = manage("check", **{**SETTINGS, **more})
    return done.stdout + done.stderr


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_a_project_that_is_in_order_has_no_problems() -> None:
    """Nothing is said of it."""
    assert "no issues" in checked()


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('{"RETRYS": {}}', "(canx_flow_tasks.E001) TASKS['default']['OPTIONS']['RETRYS'] is unknown."),
        (
            '{"RETRY": {"max_attempts": 0}}',
            "(canx_flow_tasks.E002) TASKS['default']['OPTIONS']['RETRY'] makes no Retry",
        ),
        ('{"RETRY": 3}', "(canx_flow_tasks.E002) TASKS['default']['OPTIONS']['RETRY'] makes no Retry"),
        ('{"MODULES": "shop"}', "(canx_flow_tasks.E003) TASKS['default']['OPTIONS']['MODULES'] must be a list"),
    ],
)
def test_a_wrong_option_is_an_error(options: str, said: str) -> None:
    """Of the system checks, which every command makes, the worker too."""
    assert said in checked(TASKS_OPTIONS=options)


@pytest.mark.django_db
def test_a_task_that_workers_do_not_import_is_told_of(work: ModuleType) -> None:
    """In this process its module was imported after Django had started."""
    told = [message for message in task_backends["default"].check() if message.id == "canx_flow_tasks.W001"]
    assert any("Task tests.contrib.tasks.work.add is in a module" in message.msg for message in told)
    assert 'add "tests.contrib.tasks.work" to OPTIONS["MODULES"]' in told[0].hint


@pytest.mark.django_db
def test_tasks_beside_views_are_told_of_whichever_check_comes_first(work: ModuleType, settings: Any) -> None:
    """Nothing has imported the views before."""
    settings.ROOT_URLCONF = "tests.contrib.tasks.urls"
    told = [message.msg for message in task_backends["default"].check() if message.id == "canx_flow_tasks.W001"]
    assert any("Task tests.contrib.tasks.urls.remind is in a module" in message for message in told)


@pytest.mark.django_db
def test_addresses_that_cannot_be_imported_are_not_told_of_here(work: ModuleType, settings: Any) -> None:
    """Django's own checks tell of them."""
    settings.ROOT_URLCONF = "tests.contrib.tasks.gone"
    assert task_backends["default"].check()


@pytest.mark.once
@pytest.mark.django_db
@pytest.mark.parametrize(("path", "is_told_here"), [("backend.DurableBackend", True), ("DurableBackend", False)])
def test_our_backend_without_its_app_is_told_of_under_any_path(settings: Any, path: str, is_told_here: bool) -> None:
    """The engine's own check knows one path, and imports none: a subclass tells itself. E019 is told once."""
    settings.TASKS = {"jobs": {"BACKEND": f"canx_flow.contrib.tasks.{path}"}}
    told = [message.msg for message in task_backends["jobs"].check() if message.id == "canx_flow.E019"]
    assert [message.startswith("TASKS['jobs'] is a DurableBackend") for message in told] == [True] * is_told_here


# -- what is imported ------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.django_db
def test_without_the_app_nothing_of_it_is_imported() -> None:
    """Nor are Django's tasks, which need not be there."""
    code = """
import sys, django
django.setup()
import canx_flow.worker.loop
assert not [name for name in sys.modules if name.startswith(("canx_flow.contrib", "django.tasks", "django_tasks"))]
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=True)
