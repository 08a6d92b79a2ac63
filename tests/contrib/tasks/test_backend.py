"""Django's tasks on the engine: what is enqueued, what comes of it, and that it is what Django's own backend gives."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import transaction

import canx_flow
from canx_flow import OutsideStep, PayloadTooLarge, signals, workflow
from canx_flow.contrib.tasks import DurableBackend, catalogue, telling
from canx_flow.contrib.tasks.compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from canx_flow.models import WorkflowRun
from canx_flow.testing import advance, reset_clock, run_until_idle
from tests.models import Effect

from .backends import CORE, TASKS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _clock() -> Any:
    yield
    reset_clock()


def done(task: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of a task that was enqueued and performed."""
    result = task.enqueue(*args, **kwargs)
    if result.status == TaskResultStatus.READY:
        run_until_idle()
        result.refresh()
    return result


# -- what it says of itself ------------------------------------------------------------------------


def test_it_supports_all_that_a_backend_may(work: ModuleType) -> None:
    """Delays, async tasks, results and priorities."""
    backend = task_backends["default"]
    assert isinstance(backend, DurableBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


# -- enqueueing ------------------------------------------------------------------------------------


def test_an_enqueued_task_is_a_run_that_is_ready(work: ModuleType) -> None:
    """Its run is named after the task's path, is in its queue, and has its priority and arguments."""
    result = work.urgent.enqueue()
    assert result.status == TaskResultStatus.READY
    assert not result.is_finished
    assert (result.attempts, result.worker_ids, result.errors) == (0, [], [])
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    with pytest.raises(ValueError, match="not finished"):
        result.return_value  # noqa: B018 - a property
    run = WorkflowRun.objects.get(id=result.id)
    assert run.workflow == "task:tests.contrib.tasks.work.urgent"
    assert (run.queue, run.priority, run.attributes) == ("mail", 50, {})


def test_what_using_says_is_kept(work: ModuleType) -> None:
    """Priority, queue, delay and backend are those of the run, and of the result that is read again."""
    moment = datetime.now(UTC) + timedelta(hours=1)
    changed = work.add.using(priority=-7, queue_name="slow", run_after=moment, backend="retried")
    result = changed.enqueue(1, two=2)
    assert result.task == changed
    found = task_backends["default"].get_result(result.id)
    assert (found.task, found.backend, found.args, found.kwargs) == (changed, "retried", [1], {"two": 2})
    run_until_idle()
    assert changed.get_result(result.id).status == TaskResultStatus.READY
    advance(timedelta(hours=1, seconds=1))
    assert changed.get_result(result.id).return_value == 3


def test_a_task_of_another_backend_stays_what_it_is_declared_as(work: ModuleType) -> None:
    """What `using` has changed, the run keeps; it is no declaration, not even the first that this backend hears of."""
    changed = work.at_once.using(backend="retried", queue_name="slow", priority=9)
    result = changed.enqueue()
    assert WorkflowRun.objects.get(id=result.id).attributes == {"backend": "retried"}
    assert task_backends["default"].get_result(result.id).task == changed
    registered: Any = canx_flow.core.registry.get("task:tests.contrib.tasks.work.at_once")
    assert (registered.queue, registered.priority) == ("elsewhere", 0)


def test_larger_priorities_come_first(work: ModuleType) -> None:
    """As Django says; of equal ones, what was enqueued first."""
    for note, priority in (("low", -100), ("zero", 0), ("high", 100), ("also high", 100)):
        work.write.using(priority=priority).enqueue(note)
    run_until_idle()
    assert list(Effect.objects.order_by("id").values_list("name", flat=True)) == ["high", "also high", "zero", "low"]


def test_a_rolled_back_enqueue_leaves_nothing(work: ModuleType) -> None:
    """The run is in the caller's transaction."""
    with transaction.atomic():
        result = work.add.enqueue(1)
        transaction.set_rollback(True)
    assert not WorkflowRun.objects.exists()
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_arguments_are_kept_as_json_keeps_them(work: ModuleType) -> None:
    """As with Django's own backends: tuples become lists, keys become text."""
    result = done(work.echo, ((1, 2), {"three": (4,), 5: b"six"}))
    assert result.args == [[[1, 2], {"three": [4], "5": "six"}]]
    assert result.return_value == [[1, 2], {"three": [4], "5": "six"}]


@pytest.mark.parametrize("value", [object(), datetime(2026, 1, 1, tzinfo=UTC), {1, 2}, float("nan"), b"\xff"])
def test_arguments_that_are_no_json_are_refused(work: ModuleType, value: Any) -> None:
    """At the call, and nothing is stored."""
    with pytest.raises((TypeError, ValueError)):
        work.echo.enqueue(value)
    with pytest.raises((TypeError, ValueError)):
        work.echo.enqueue(value=value)
    assert not WorkflowRun.objects.exists()


def test_arguments_that_are_too_large_are_refused(work: ModuleType, settings: Any) -> None:
    """As those of any run."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_PAYLOAD_BYTES": 100}
    with pytest.raises(PayloadTooLarge):
        work.echo.enqueue("x" * 200)


def test_django_s_own_refusals_stand(work: ModuleType, settings: Any) -> None:
    """Of queues that the backend does not have, naive moments, priorities out of range, and functions inside others."""
    with pytest.raises(InvalidTask, match="aware"):
        work.add.using(run_after=datetime(2026, 1, 1))
    with pytest.raises(InvalidTask, match="priority"):
        work.add.using(priority=101)
    with pytest.raises(InvalidTask, match="module level"):
        task(lambda: None)
    changed = work.add.using(queue_name="unknown")
    settings.TASKS = {"default": {"BACKEND": "canx_flow.contrib.tasks.DurableBackend", "QUEUES": ["known"]}}
    with pytest.raises(InvalidTask, match="unknown"):
        changed.enqueue(1)
    assert not WorkflowRun.objects.exists()


@pytest.mark.parametrize("name", ["x" * 101, "", " mail", 7])
def test_a_queue_that_the_engine_does_not_take_is_refused(work: ModuleType, name: Any) -> None:
    """Where the task is changed, though any queue is the backend's."""
    with pytest.raises(InvalidTask, match="queue_name"):
        work.add.using(queue_name=name)


def test_a_task_that_a_step_enqueues_is_enqueued_once(work: ModuleType) -> None:
    """A step that is repeated finds the run that it has started, though it computes the delay anew."""

    def enqueue() -> str:
        later = datetime.now(UTC) + timedelta(microseconds=1)
        result = work.add.using(run_after=later, priority=3).enqueue(1)
        if canx_flow.current_step().attempt == 1:
            raise ValueError("once")
        return str(result.id)

    @workflow("tasks.enqueues", retry=canx_flow.Retry(max_attempts=2, initial=0))
    def enqueues(ctx: canx_flow.Context) -> str:
        return ctx.step("enqueue", enqueue)

    run_id = enqueues.start()
    run_until_idle()
    assert WorkflowRun.objects.filter(workflow="task:tests.contrib.tasks.work.add").count() == 1
    assert work.add.get_result(enqueues.result(run_id)).return_value == 1


def test_the_body_of_a_workflow_enqueues_and_reads_nothing(work: ModuleType) -> None:
    """It would do so again at every replay."""

    @workflow("tasks.enqueues-in-body")
    def enqueues(ctx: canx_flow.Context) -> None:
        with pytest.raises(OutsideStep):
            work.add.enqueue(1)
        with pytest.raises(OutsideStep):
            work.add.get_result(str(uuid.uuid4()))

    run_id = enqueues.start()
    run_until_idle()
    assert enqueues.status(run_id).state == "completed"


async def enqueued_and_read(work: ModuleType) -> Any:
    """A result of async calls alone."""
    result = await work.add.aenqueue(1, two=4)
    from canx_flow.testing import arun_until_idle

    await arun_until_idle()
    await result.arefresh()
    return await work.add.aget_result(result.id)


def test_async_code_enqueues_and_reads(work: ModuleType) -> None:
    """`aenqueue`, `arefresh` and `aget_result`."""
    from asgiref.sync import async_to_sync

    assert async_to_sync(enqueued_and_read)(work).return_value == 5


# -- what comes of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["default", "immediate"])
@pytest.mark.parametrize("name", ["add", "add_async"])
def test_a_result_is_the_same_as_at_once(work: ModuleType, name: str, backend: str) -> None:
    """Under Django's ImmediateBackend and ours: value, times, attempts, arguments."""
    changed = getattr(work, name).using(backend=backend)
    result = done(changed, 1, two=2)
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.is_finished
    assert (result.return_value, result.args, result.kwargs) == (3, [1], {"two": 2})
    assert (result.task, result.backend, result.attempts, result.errors) == (changed, backend, 1, [])
    assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at
    assert len(result.worker_ids) == 1


@pytest.mark.parametrize("backend", ["default", "immediate"])
@pytest.mark.parametrize(
    ("name", "args", "kind", "end"),
    [
        ("fail", (), ValueError, "ValueError: This task failed\n"),
        ("fail_async", (), ValueError, "ValueError: This task failed\n"),
        ("leave", (), SystemExit, "SystemExit: This task left\n"),
        ("nested", (), ValueError, "ValueError: This task failed\n"),
        ("add", (1, 2, 3), TypeError, "takes from 1 to 2 positional arguments but 3 were given\n"),
        ("unstorable", (), TypeError, "Unsupported type: <class 'object'>\n"),
    ],
)
def test_a_failure_is_the_same_as_at_once(
    work: ModuleType, name: str, args: tuple[Any, ...], kind: type[BaseException], end: str, backend: str
) -> None:
    """Under Django's ImmediateBackend and ours: one attempt, its class and its traceback."""
    result = done(getattr(work, name).using(backend=backend), *args)
    assert result.status == TaskResultStatus.FAILED
    assert result.attempts == 1
    [error] = result.errors
    assert error.exception_class is kind
    assert error.traceback.endswith(end)
    assert result.started_at <= result.finished_at
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018 - a property


def test_returned_values_are_kept_as_json_keeps_them(work: ModuleType) -> None:
    """A tuple becomes a list."""
    assert done(work.pair).return_value == [1, {"two": [3]}]


def test_a_task_may_take_its_context(work: ModuleType) -> None:
    """Which has the result as it stands, with its id."""
    result = done(work.own_id)
    assert result.return_value == result.id


def test_an_id_that_is_no_task_s_has_no_result(work: ModuleType) -> None:
    """No UUID, an unknown one, and the run of another workflow."""

    @workflow("tasks.other")
    def other(ctx: canx_flow.Context) -> None: ...

    for wrong in ("", "x", str(uuid.uuid4()), str(other.start())):
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(wrong)


# -- retries ---------------------------------------------------------------------------------------


def test_retry_of_the_options_is_the_policy(work: ModuleType) -> None:
    """Between two attempts the task is ready, and tells what has failed; each attempt has its worker."""
    result = work.third_time.using(backend="retried").enqueue()
    run_until_idle()
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.READY, 1, 1)
    assert result.errors[0].traceback.endswith("ValueError: attempt 1, after 0 errors\n")
    advance(timedelta(hours=1))
    result.refresh()
    assert (result.return_value, result.attempts, len(result.errors)) == (3, 3, 2)
    assert result.errors[1].traceback.endswith("ValueError: attempt 2, after 1 errors\n")
    assert result.last_attempted_at - result.started_at >= timedelta(minutes=3)


def test_attempts_are_counted_though_not_all_errors_are_kept(work: ModuleType, settings: Any) -> None:
    """Of a step's errors the last 50 are; who has made the others is not known any more."""
    retried = {**TASKS["retried"], "OPTIONS": {"RETRY": {"max_attempts": 53, "initial": 0}}}
    settings.TASKS = {**TASKS, "retried": retried}
    result = done(work.at_last.using(backend="retried"), 53)
    assert (result.return_value, result.attempts, len(result.errors)) == (53, 53, 50)
    assert result.worker_ids == ["unknown"] * 2 + result.worker_ids[-1:] * 51


def test_the_last_attempt_decides(work: ModuleType) -> None:
    """Three of three have failed."""
    result = work.fail.using(backend="retried").enqueue()
    advance(timedelta(hours=1))
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 3, 3)


def test_give_up_ends_the_retries(work: ModuleType) -> None:
    """As in any step."""
    result = done(work.give_up.using(backend="retried"))
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)


def test_a_retry_by_hand_goes_on(work: ModuleType) -> None:
    """A task that failed is a run that failed: what people do with those, they do with it."""
    result = done(work.fail)
    registered: Any = canx_flow.core.registry.get("task:tests.contrib.tasks.work.fail")
    assert registered.retry(result.id)
    result.refresh()
    assert (result.status, result.finished_at) == (TaskResultStatus.READY, None)
    run_until_idle()
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 2)


def test_a_cancelled_task_has_failed(work: ModuleType) -> None:
    """With the reason for which it was cancelled."""
    result = work.add.enqueue(1)
    registered: Any = canx_flow.core.registry.get("task:tests.contrib.tasks.work.add")
    assert registered.cancel(result.id, "not needed any more")
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    [error] = result.errors
    assert error.exception_class is canx_flow.RunCancelled
    assert "not needed any more" in error.traceback


# -- code that is gone -----------------------------------------------------------------------------


def test_a_task_whose_code_is_gone_is_parked(work: ModuleType) -> None:
    """It waits for code that knows it, and does not fail."""
    result = work.add.enqueue(1, two=1)
    WorkflowRun.objects.filter(id=result.id).update(workflow="task:tests.contrib.tasks.work.gone")
    run_until_idle()
    assert canx_flow.get_run(result.id).state == "parked"
    with pytest.raises(ImportError):
        result.refresh()
    WorkflowRun.objects.filter(id=result.id).update(workflow="task:tests.contrib.tasks.work.add")
    run_until_idle()
    result.refresh()
    assert result.return_value == 2


def test_a_backend_that_is_gone_keeps_no_task_back(work: ModuleType, settings: Any) -> None:
    """A task that was given to it is performed as its declaration says."""
    result = work.add.using(backend="retried", queue_name="mail").enqueue(1)
    settings.TASKS = {"default": {"BACKEND": "canx_flow.contrib.tasks.DurableBackend"}}
    run_until_idle()
    assert work.add.get_result(result.id).return_value == 1


def test_a_setting_that_fits_no_more_takes_no_other_along(work: ModuleType, settings: Any) -> None:
    """Without the queue that it was given to, a task has the retries of its backend all the same."""
    result = work.fail.using(backend="retried", queue_name="slow").enqueue()
    settings.TASKS = {**TASKS, "retried": {**TASKS["retried"], "QUEUES": ["default"]}}
    advance(timedelta(hours=1))
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 3)


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Any:
    """What Django's three signals have told: signal, sender, status, attempts."""
    heard: list[Any] = []
    receivers = []
    for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished)):

        def receive(sender: Any, task_result: Any, name: str = name, **_more: Any) -> None:
            heard.append((name, sender, task_result.status.value, task_result.attempts))

        signal.connect(receive)
        receivers.append((signal, receive))
    yield heard
    for signal, receive in receivers:
        signal.disconnect(receive)


@pytest.mark.parametrize("name", ["add", "add_async"])
def test_signals_are_sent_as_django_says(work: ModuleType, told: list[Any], name: str) -> None:
    """Enqueued, started and finished, by the class of the backend, with the result as it stands."""
    done(getattr(work, name), 1)
    assert told == [
        ("enqueued", DurableBackend, "READY", 0),
        ("started", DurableBackend, "RUNNING", 1),
        ("finished", DurableBackend, "SUCCESSFUL", 1),
    ]


def test_each_attempt_is_started_and_the_last_one_finished(work: ModuleType, told: list[Any]) -> None:
    """What is tried again has not finished."""
    work.fail.using(backend="retried").enqueue()
    advance(timedelta(hours=1))
    assert [(name, attempts) for name, _sender, _status, attempts in told] == [
        ("enqueued", 0),
        ("started", 1),
        ("started", 2),
        ("started", 3),
        ("finished", 3),
    ]


def test_a_cancelled_task_is_finished(
    work: ModuleType, told: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    """It will not run; that is told where it was cancelled, after the commit, though no task is enqueued there."""
    result = work.add.enqueue(1)
    signals.run_cancelled.disconnect(dispatch_uid=telling.UID)
    DurableBackend("fresh", {})
    registered: Any = canx_flow.core.registry.get("task:tests.contrib.tasks.work.add")
    with django_capture_on_commit_callbacks(execute=True):
        registered.cancel(result.id)
    assert told[1:] == [("finished", DurableBackend, "FAILED", 0)]


@pytest.mark.parametrize("name", ["add", "add_async"])
def test_the_end_of_a_task_whose_step_is_over_is_told(work: ModuleType, told: list[Any], name: str) -> None:
    """By a worker that has called no task yet: the one that called this died before the end of the run was stored."""
    result = done(getattr(work, name), 1)
    told.clear()
    WorkflowRun.objects.filter(id=result.id).update(state="pending", ready=True, finished_at=None, result=None)
    signals.run_completed.disconnect(dispatch_uid=telling.UID)
    run_until_idle()
    assert told == [("finished", DurableBackend, "SUCCESSFUL", 1)]


@pytest.mark.parametrize("name", ["long", "long_async"])
def test_a_value_that_cannot_be_stored_is_no_success(
    work: ModuleType, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Django's log says that the task has failed, and nothing else."""
    caplog.set_level("INFO", logger=CORE)
    result = done(getattr(work, name), 1_000_001)
    assert (result.status, result.errors[0].exception_class) == (TaskResultStatus.FAILED, PayloadTooLarge)
    states = [record.getMessage().partition("state=")[2] for record in caplog.records]
    assert [state for state in states if state] == ["RUNNING", "FAILED"]


@pytest.mark.parametrize("name", ["add", "add_async"])
@pytest.mark.parametrize("listens", [True, False])
def test_django_s_log_tells_of_a_success_once(
    work: ModuleType, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest, name: str, listens: bool
) -> None:
    """Whether the project listens as well, or the log alone."""
    caplog.set_level("INFO", logger=CORE)
    if listens:
        request.getfixturevalue("told")
    done(getattr(work, name), 1)
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.endswith("state=SUCCESSFUL") for message in messages) == 1


def test_the_engine_tells_of_ends_while_the_project_listens(work: ModuleType) -> None:
    """For the log alone it need not: to tell of every run after its commit takes most of its speed."""

    def listener(**_more: Any) -> None: ...

    task_finished.connect(listener)
    done(work.add, 1)
    assert signals.run_completed.receivers
    task_finished.disconnect(listener)
    done(work.add, 1)
    assert not signals.run_completed.receivers


def test_django_s_log_tells_why_a_task_has_failed(work: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """It asks for the exception that is being handled while the signal is sent."""
    done(work.fail, "no ink")
    [told] = [record for record in caplog.records if record.getMessage().endswith("state=FAILED")]
    assert told.levelname == "ERROR"
    assert isinstance(told.exc_info[1], canx_flow.RunFailed)  # type: ignore[index]
    assert "ValueError: no ink" in str(told.exc_info[1])  # type: ignore[index]


def test_a_receiver_that_fails_breaks_no_task(work: ModuleType) -> None:
    """It is logged."""

    def breaks(**_more: Any) -> None:
        raise ValueError("receiver")

    for signal in (task_started, task_finished):
        signal.connect(breaks)
    try:
        assert done(work.add, 1).return_value == 1
    finally:
        for signal in (task_started, task_finished):
            signal.disconnect(breaks)


# -- tasks of other backends -------------------------------------------------------------------------


def test_a_module_that_is_to_be_loaded_later_is_not_loaded(
    work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `importlib.util.LazyLoader` makes one: it may be dear, and may fail."""
    source = tmp_path / "later.py"
    source.write_text("raise ImportError('too early')")
    spec = importlib.util.spec_from_file_location("later", source)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "later", module)
    spec.loader.exec_module(module)
    assert work.add in list(catalogue.imported())
