"""`flow` as people and scripts use it: what it prints, what it does, and its exit statuses."""

from __future__ import annotations

import getpass
import io
import json
import re
import shlex
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import Error, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from freezegun import freeze_time

from canx_flow import Context, GiveUp, Retry, workflow
from canx_flow.core import clock, registry
from canx_flow.insight import reading, timeline
from canx_flow.management import finding, given
from canx_flow.management.terminal import Terminal, cells
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.states import COMPLETED, RUNNING, SLEEPING
from canx_flow.store import claims, leases
from canx_flow.testing import advance, run_until_idle

from ..processes import MANAGE, ROOT, environment, manage
from .test_runflowworker import NO_DATABASE

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class DeclinedError(Exception):
    """What `charge` fails with."""


def charge(card: str) -> str:
    """Declines."""
    raise DeclinedError(f"card {card} was declined")


@workflow("flow.order", retry=Retry(max_attempts=3, initial=60, factor=2, jitter=0))
def order(ctx: Context, number: int, what: str = "", *, express: bool = False) -> dict[str, Any]:
    """A step, then what is asked for."""
    found = ctx.step("fetch-order", lambda: {"number": number, "express": express})
    ctx.set_attributes(number=number)
    match what:
        case "sleep":
            ctx.sleep("trial", timedelta(days=30))
        case "wait":
            ctx.wait_for("approval", "approved", timeout=HOUR, default=None)
        case "charge":
            ctx.step("take-payment", charge, "4242")
        case "give up":
            ctx.step("take-payment", _give_up)
    return found


def _give_up() -> None:
    raise GiveUp("no money")


@workflow("flow.order", version="2")
def order_2(ctx: Context, number: int) -> int:
    """Another version."""
    return number


def hide(value: Any, **_names: Any) -> Any:
    """A redactor that hides all but errors' shape."""
    return {**value, "message": "***"} if isinstance(value, dict) and "traceback" in value else "***"


def flow(*words: str, **options: Any) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("flow", *words, stdout=out, stderr=out, **options)
    return out.getvalue()


def flow_at(now: datetime, *words: str) -> str:
    """What it prints at this moment."""
    with freeze_time(now):
        return flow(*words)


def as_json(*words: str) -> Any:
    """What it prints for programs."""
    return json.loads(flow(*words, "--json"))


def refused(*words: str) -> CommandError:
    """The error with which it ends."""
    with pytest.raises(CommandError) as caught:
        flow(*words)
    return caught.value


def started(what: str = "", *, number: int = 7, **options: Any) -> UUID:
    """A run, brought as far as it comes."""
    run_id = order.using(**options).start(number, what)
    run_until_idle()
    return run_id


def stored(run_id: UUID) -> WorkflowRun:
    """Its row."""
    return WorkflowRun.objects.get(id=run_id)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how wide the terminal is."""

    def choose(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))

    choose(80)
    return choose


# -- list ----------------------------------------------------------------------------------------------


def test_list_shows_the_newest_first(wide: Callable[[int], None]) -> None:
    """A line per run: whole id, state, workflow, age."""
    with freeze_time(START) as frozen:
        first = started("sleep")
        frozen.tick(HOUR)
        second = order_2.start(8)
        lines = flow("list").splitlines()
    assert lines[0].split() == ["id", "state", "workflow", "started"]
    assert lines[1].split() == [str(second), "·", "pending", "flow.order@2", "0", "s", "ago"]
    assert lines[2].split() == [str(first), "◦", "sleeping", "flow.order", "1", "h", "ago"]
    assert all(len(line) <= 80 for line in lines)


def test_list_says_more_where_there_is_room(wide: Callable[[int], None]) -> None:
    """What a run waits for, or why it is as it is, and its key; each line fits."""
    started("sleep", key="sub-ada")
    parked = started()
    WorkflowRun.objects.filter(id=parked).update(state="parked", reason="HistoryMismatch: " + "long " * 50)
    wide(120)
    text = flow("list")
    assert text.splitlines()[0].split() == ["id", "state", "workflow", "key", "started"]
    assert re.search(r"  flow\.order  sub-ada  \d s ago  trial: wakes in 30 d", text)
    assert "HistoryMismatch: long long" in text
    assert all(cells(line) <= 120 for line in text.splitlines())


def test_a_run_that_waits_to_run_alone_says_so(wide: Callable[[int], None]) -> None:
    """In the list and where it is shown: else it would seem forgotten beside others that are taken up."""
    run_id = order_2.start(8)
    WorkflowRun.objects.filter(id=run_id).update(recoveries=3)
    wide(120)
    assert "waits to run alone" in flow("list")
    shown = " ".join(flow("show", str(run_id)).split())
    assert "pending no live worker serves queue default; cut off 3 times" in shown
    leases.register(host="web-1", pid=1, workflows=registry.identities())
    shown = " ".join(flow("show", str(run_id)).split())
    assert "pending waits to run alone, for 3 of its workers died: one worker claims nothing else" in shown
    assert "start one worker more: an empty one need not wait for others" in shown


def test_list_says_what_failed(wide: Callable[[int], None], settings: Any) -> None:
    """The step and its error in one line, at any width, for programs too, and through REDACT."""
    failed, parked = started("give up"), started()
    WorkflowRun.objects.filter(id=parked).update(state="parked", reason="HistoryMismatch: " + "long " * 50)
    text = flow("list")
    assert "└ take-payment: canx_flow.exceptions.GiveUp: no money" in text
    assert "└ HistoryMismatch: long" in text
    assert all(cells(line) <= 80 for line in text.splitlines())
    found = {run["id"]: run["failure"] for run in as_json("list")}
    assert found == {str(failed): "take-payment: canx_flow.exceptions.GiveUp: no money", str(parked): None}
    wide(140)
    assert "  take-payment: canx_flow.exceptions.GiveUp" in flow("list")
    settings.CANX_FLOW = {"REDACT": f"{__name__}.hide"}
    assert "no money" not in flow("list") + flow("list", "--json")


def test_list_filters() -> None:
    """By workflow, state, key, queue and age; several values of one are alternatives."""
    with freeze_time(START) as frozen:
        sleeping, done = started("sleep", queue="slow", key="k"), started()
        frozen.tick(HOUR)
        late = started()
        assert as_json("list") != []

        def listed(*filters: str) -> list[str]:
            return flow("list", "--ids", *filters).split()

        assert listed() == [str(late), str(done), str(sleeping)]
        assert listed("--state", "sleeping") == [str(sleeping)]
        assert listed("--state", "sleeping", "--state", "completed") == listed()
        assert listed("--queue", "slow") == listed("--key", "k") == [str(sleeping)]
        assert listed("--since", "30m") == listed("--since", "2026-03-01T12:30") == [str(late)]
        assert listed("--since", "100000w") == listed()
        assert listed("--workflow", "other") == []
        assert listed("--limit", "1") == [str(late)]
        assert as_json("list", "--ids", "--limit", "2") == [str(late), str(done)]
        assert "more than this one" in flow("list", "--limit", "1")
    assert flow("list", "--state", "parked") == "No runs.\n"
    text = flow("list", "--workflow", "other")
    assert text.startswith("No runs of other. Known workflows: ")
    assert flow("list", "--workflow", "flow.order", "--state", "parked") == "No runs of flow.order.\n"


def test_list_for_programs() -> None:
    """Keys that stay, ISO moments, and the wait that is due first."""
    with freeze_time(START):
        run_id = started("sleep", key="k", attributes={"plan": "pro"})
        (found,) = as_json("list")
    assert found == {
        "id": str(run_id), "workflow": "flow.order", "version": "", "state": "sleeping", "reason": "", "failure": None,
        "step": "trial", "attempt": None, "max_attempts": None, "last_error": None,
        "resume_at": (START + timedelta(days=30)).isoformat(), "queue": "default", "priority": 0, "key": "k",
        "subject": None, "parent_id": None, "attributes": {"plan": "pro", "number": 7},
        "created_at": START.isoformat(), "started_at": START.isoformat(), "finished_at": None,
    }  # fmt: skip
    assert as_json("list", "--workflow", "other") == []


def test_list_says_why_a_step_is_tried_again(wide: Callable[[int], None], settings: Any) -> None:
    """Which attempt of how many comes when, and at any width the last error below, for programs too."""
    with freeze_time(START):
        run_id = started("charge")
        advance(timedelta(seconds=60))
        error = "DeclinedError: card 4242 was declined"
        assert f"\n  └ {error}\n" in flow("list")
        (found,) = as_json("list")
        wide(140)
        text = flow("list")
        settings.CANX_FLOW = {"REDACT": f"{__name__}.hide"}
        assert "4242" not in flow("list") + flow("list", "--json")
    assert f"{run_id}  ↻ retrying" in text
    assert "take-payment: attempt 3 of 3 in 2 min\n" in text
    assert f"\n  └ {error}\n" in text
    assert (found["step"], found["attempt"], found["max_attempts"]) == ("take-payment", 3, 3)
    assert found["last_error"] == error


def test_list_of_a_subject() -> None:
    """As `start` takes it; the object may be gone."""
    group = Group.objects.create(name="staff")
    about, _other = started(subject=group), started()
    key = group.pk
    assert flow("list", "--ids", "--subject", f"auth.Group:{key}").split() == [str(about)]
    group.delete()
    assert flow("list", "--ids", "--subject", f"auth.group:{key}").split() == [str(about)]
    for wrong in ("auth.Group", "auth.Nothing:7", "auth.Group:seven"):
        assert refused("list", "--subject", wrong).returncode == 2


def test_list_says_where_no_worker_is() -> None:
    """For runs that are due, once for each queue and workflow; not among what programs read."""
    started("sleep")
    order.start(7), order.start(7), order.using(queue="mail").start(7)
    order.using(delay=HOUR, queue="later").start(7)
    hints = [line for line in flow("list").splitlines() if "worker" in line]
    start = "start one with `manage.py runflowworker"
    assert sorted(hints) == [f"no live worker for queue {queue!r}: {start}`" for queue in ("default", "mail")]
    leases.register(host="web-1", pid=1, name="blue", queues=["default"])
    hints = [line for line in flow("list").splitlines() if "worker" in line]
    unknown = "no live worker for queue 'default' knows workflow 'flow.order' (live: blue, queue default)"
    assert sorted(hints) == [
        f"{unknown}: start one anew with the code that has it",
        f"no live worker for queue 'mail' (live: blue, queue default): {start} --queue mail`",
    ]
    assert as_json("list") != []


def test_list_asks_twice_however_many_there_are() -> None:
    """The runs, without their arguments and results, and their waits."""
    for number in range(5):
        started("sleep", number=number)
    with CaptureQueriesContext(connection) as queries:
        flow("list")
    assert len(queries) == 2
    assert '"arguments"' not in queries[0]["sql"]


# -- show ----------------------------------------------------------------------------------------------


def test_show_draws_a_sleeping_run(wide: Callable[[int], None]) -> None:
    """All that there is to say of it, at 80 columns."""
    with freeze_time(START) as frozen:
        run_id = started("sleep", key="sub-ada", priority=5, attributes={"plan": "pro"})
        frozen.tick(HOUR)
        text = flow("show", str(run_id))
    assert text.splitlines() == [
        f"flow.order  {run_id}",
        "",
        "  ◦ sleeping  trial: wakes in 29 d 23 h (2026-03-31 12:00:00 UTC)",
        "",
        "  started    2026-03-01 12:00:00 UTC, 1 h ago",
        '  arguments  (7, "sleep")',
        "  queue      default, priority 5",
        "  key        sub-ada",
        '  attribute  plan = "pro"',
        "  attribute  number = 7",
        "",
        f"    step         state      took  0 {'─' * 39} 1 h",
        "  ✓ fetch-order  completed  0 ms  █",
        f"  ◦ trial        sleeping    1 h  {'┄' * 45}▸",
        "",
        "  To have it go on now:",
        f"    manage.py flow wake {run_id}",
        "",
    ]
    assert all(cells(line) <= 80 for line in text.splitlines())


def test_show_tells_of_every_attempt(wide: Callable[[int], None]) -> None:
    """Failed attempts with their times and errors; what a retrying run waits for."""
    with freeze_time(START):
        run_id = started("charge")
        advance(timedelta(seconds=60))
        text = flow("show", str(run_id))
        assert "retrying  take-payment: attempt 3 of 3 in 2 min (2026-03-01 12:03:00 UTC)" in text
        assert "take-payment  retrying x2" in text
        assert "└ 12:00:00 DeclinedError: card 4242 was declined" in text
        assert "└ 2026-03-01 12:01:00 DeclinedError" in flow_at(START + timedelta(days=3), "show", str(run_id))
        assert text.count("✗") == 2
        assert "Traceback" not in text


def test_show_says_what_to_do_about_a_failed_run(wide: Callable[[int], None]) -> None:
    """Its error in the head, tracebacks when asked for, and the commands that help."""
    run_id = started("give up")
    text = flow("show", str(run_id))
    assert "✗ failed  take-payment: canx_flow.exceptions.GiveUp: no money" in text
    assert f"manage.py flow retry {run_id}" in text
    assert f"manage.py flow rerun {run_id}" in text
    with_traceback = flow("show", str(run_id), "--traceback")
    assert f"manage.py flow show {run_id} --traceback" in text
    assert with_traceback.count("GiveUp: no money") == text.count("GiveUp: no money") + 1
    assert "--traceback" not in with_traceback
    assert "canx_flow/replay" not in with_traceback
    assert f'{__file__}", line' in with_traceback
    assert "Traceback (most recent call last):" in with_traceback


@pytest.mark.parametrize(
    ("state", "reason", "advice"),
    [
        ("parked", "UnknownWorkflow: no worker knows it", "anew with the code that has"),
        ("parked", "HistoryMismatch: it has changed", "code that can read it"),
        ("parked", "TooManyRecoveries: died 13 times", "what ends its workers"),
        ("paused", "", "until it is resumed"),
    ],
)
def test_show_says_what_to_do_next(state: str, reason: str, advice: str) -> None:
    """Wherever a run waits for somebody to act."""
    run_id = started("sleep")
    WorkflowRun.objects.filter(id=run_id).update(state=state, reason=reason)
    Timer.objects.update(held=True)
    text = flow("show", str(run_id))
    assert advice in " ".join(text.split())
    assert reason in " ".join(text.split())


def test_show_of_what_went_on_after_all(wide: Callable[[int], None]) -> None:
    """A wait that timed out is no failure; a step that was retried says since when it took so long."""
    with freeze_time(START):
        run_id = started("wait")
        advance(2 * HOUR)
        text = flow("show", str(run_id))
        assert "─ approval     timed out" in text
        assert "✗" not in text
        StepRecord.objects.filter(run_id=run_id, name="fetch-order").update(
            started_at=START - HOUR, attempts=2, errors=json.dumps([{"type": "m.E", "message": "no"}])
        )
        assert "took 1 h since its first attempt" in flow("show", str(run_id))


def test_why_says_why_a_run_does_not_move() -> None:
    """And what can be done, and nothing else; for programs with each reason's facts. In English."""
    run_id = order.start(7)
    with translation.override("de"):
        text = flow("why", str(run_id))
    assert [line.strip() for line in text.splitlines()] == [
        "· pending  no live worker serves queue default", "Start a worker:", "manage.py runflowworker"
    ]  # fmt: skip
    found = as_json("why", str(run_id))
    assert found == {
        "id": str(run_id), "workflow": "flow.order", "version": "", "state": "pending", "stuck": False,
        "why": "no live worker serves queue default",
        "reasons": [
            {
                "reason": "unserved", "level": "warn", "words": "no live worker serves queue default",
                "queue": "default", "live": 0,
            }
        ],
    }  # fmt: skip


def test_show_says_how_to_send_what_is_waited_for() -> None:
    """The command, with the event's name as a shell takes it."""
    run_id = started("wait")
    text = flow("show", str(run_id))
    assert "waiting  approval: for event approved, since" in text
    assert f"manage.py flow send {run_id} approved JSON" in text
    Timer.objects.update(event="it's approved")
    assert f"flow send {run_id} {shlex.quote('it' + chr(39) + 's approved')} JSON" in flow("show", str(run_id))


def test_show_tells_who_paused_it_and_why() -> None:
    """And for any other control call that it happened."""
    run_id = started("sleep")
    order.pause(run_id, "stock is counted", by="ada")
    assert "paused  by ada now: stock is counted" in flow("show", str(run_id))
    order.resume(run_id, by="ada")
    assert "control    resumed by ada now" in flow("show", str(run_id))


def test_show_of_a_running_run(wide: Callable[[int], None]) -> None:
    """The step that its worker has reported, since when, how far it is; and that a worker is silent."""
    with freeze_time(START) as frozen:
        run_id = order.using(timeout=2 * HOUR).start(7)
        worker = leases.register(host="web-1", pid=1, name="blue")
        claims.claim(connections["default"], worker.id, 1, registry.identities())
        progress = {"done": 3, "total": 10, "message": "packing"}
        said = {"step": "fetch-order", "attempt": 2, "since": START.isoformat(), "timeout": None, "progress": progress}
        leases.beat(worker.id, activity=json.dumps({str(run_id): said}))
        frozen.tick(2)
        text = flow("show", str(run_id))
        assert "▸ running  fetch-order, 2.0 s, attempt 2, worker blue" in text
        assert "progress   3 of 10, packing" in text
        progress.update(done=1_234_567, total=2_000_000.5)
        leases.beat(worker.id, activity=json.dumps({str(run_id): said}))
        assert "progress   1,234,567 of 2,000,000.5, packing" in flow("show", str(run_id))
        assert "▸ fetch-order  running x2" in text
        frozen.tick(600)
        assert "worker blue silent for 10 min" in " ".join(flow("show", str(run_id)).split())
        leases.declare_dead(worker.id)
        text = " ".join(flow("show", str(run_id)).split())
        assert "its worker is gone" in text
        assert "Another worker takes it over. If none is live, start one: manage.py runflowworker" in text


def test_show_of_an_interrupted_step() -> None:
    """An at-most-once step that was cut off says that its effect is not known."""
    run_id = order.start(7)
    StepRecord.objects.create(
        run_id=run_id, seq=1, name="once", kind="step", state="started", attempts=1, started_at=clock.now()
    )
    assert "whether it had its effect is not known" in flow("show", str(run_id))


def test_show_in_detail() -> None:
    """-v 2: what steps returned, what events held, and all errors."""
    run_id = started("wait")
    order.send(run_id, "approved", {"by": "boss"})
    run_until_idle()
    plain, detailed = flow("show", str(run_id)), flow("show", str(run_id), "-v", "2")
    assert "events" in plain
    assert "read by approval" in plain
    assert "boss" not in plain
    assert 'returned {"number": 7, "express": false}' in detailed
    assert detailed.count('{"by": "boss"}') == 2
    assert 'result     {"number": 7, "express": false}' in plain


def test_show_cuts_what_is_long(wide: Callable[[int], None]) -> None:
    """Many lines of arguments, many errors, long names: said, and shown with -v 2."""
    run_id = started()
    WorkflowRun.objects.filter(id=run_id).update(arguments=json.dumps([[["x" * 70] * 30], {}]))
    error = {"type": "m.E", "message": "no", "traceback": "", "at": START.isoformat()}
    StepRecord.objects.create(
        run_id=run_id, seq=2, name="名前" * 60, kind="step", state="failed", attempts=9, started_at=clock.now(),
        errors=json.dumps([error] * 9),
    )  # fmt: skip
    text = flow("show", str(run_id))
    assert "more lines with -v 2" in text
    assert "6 earlier errors, shown with -v 2" in text
    StepRecord.objects.filter(run_id=run_id, seq=2).update(errors=json.dumps([error] * 4))
    assert "1 earlier error, shown with -v 2" in flow("show", str(run_id))
    StepRecord.objects.filter(run_id=run_id, seq=2).update(errors=json.dumps([error] * 9))
    assert all(cells(line) <= 80 for line in text.splitlines() if "xxx" not in line)
    assert flow("show", str(run_id), "-v", "2").count("E: no") == 9


def _large(results: int, characters: int) -> UUID:
    """A run with so many results of so many characters, the last of which is read, too, as an event's payload."""
    run_id = started()
    text = json.dumps("x" * (characters - 2))
    event = Event.objects.create(run_id=run_id, name="big", payload=text, delivered=True, consumed_at=clock.now())
    for seq in range(2, results + 2):
        StepRecord.objects.create(
            run_id=run_id, seq=seq, name=f"s#{seq}", kind="step", state="completed", started_at=clock.now(),
            result=text, event_id=event.id if seq > results else None,
        )  # fmt: skip
    return run_id


class _Sink(io.TextIOBase):
    """Takes what is printed, and counts it only."""

    written = 0

    def write(self, text: str) -> int:
        self.written += len(text)
        return len(text)


@pytest.mark.parametrize(("options", "written"), [((), 0), (("-v", "2"), 21 * 10_000), (("--json",), 21 * 600_000)])
def test_show_has_no_more_in_memory_than_it_shows(options: tuple[str, ...], written: int) -> None:
    """Of large results and payloads their beginnings are read; where they are wanted whole, one after another."""
    run_id = _large(20, 600_000)
    flow("show", str(run_id), *options)  # Whatever is loaded once is loaded.
    sink = _Sink()
    tracemalloc.start()
    try:
        call_command("flow", "show", str(run_id), *options, stdout=sink)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written <= sink.written <= written + 20_000
    assert peak < (8 * 600_000 if written > 10**6 else 2 * 600_000)


def test_show_tells_how_much_it_leaves_out() -> None:
    """As long as it is read whole a value is decoded; of a longer one the beginning is shown as it is stored."""
    text = flow("show", str(_large(1, 20_000)), "-v", "2")
    assert text.count(f'"{"x" * 9_999}… (10,000 more characters)') == 2
    assert "as it is stored" not in text
    large = str(_large(1, 20_001))
    text = flow("show", large, "-v", "2")
    assert text.count(f'"{"x" * 9_999}… (10,001 more characters) (as it is stored)') == 2
    found = as_json("show", large)
    assert found["steps"][1]["result"] == found["events"][0]["payload"] == "x" * 19_999


def test_show_has_redact_look_at_large_values_whole(settings: Any) -> None:
    """What is hidden may be anywhere in it."""
    run_id = str(_large(2, 30_000))
    settings.CANX_FLOW = {"REDACT": f"{__name__}.tell_length"}
    assert flow("show", run_id, "-v", "2").count("29,998 characters") == 3
    assert [step["result"] for step in as_json("show", run_id)["steps"][1:]] == ["29,998 characters"] * 2


def tell_length(value: Any, **_names: Any) -> Any:
    """For REDACT: shows how long a text is. Called once for each name."""
    return f"{len(value):,} characters" if isinstance(value, str) and len(value) > 100 else value


def test_show_says_that_a_long_history_is_cut() -> None:
    """Its last thousand rows are drawn."""
    run_id = started()
    StepRecord.objects.bulk_create(
        StepRecord(run_id=run_id, seq=seq, name=f"s#{seq}", kind="step", state="completed", started_at=clock.now())
        for seq in range(2, 1203)
    )
    assert "202 earlier ones left out" in flow("show", str(run_id))


def test_show_obeys_redact(settings: Any) -> None:
    """Nothing that it hides is shown, drawn or for programs."""
    run_id = started("charge")
    advance(HOUR)
    settings.CANX_FLOW = {"REDACT": f"{__name__}.hide"}
    for text in (flow("show", str(run_id), "-v", "2", "--traceback"), flow("show", str(run_id), "--json")):
        assert "4242" not in text
        assert "***" in text


def test_show_leaves_out_old_unread_events() -> None:
    """A run may be sent any number that it never reads: the last are loaded, and how many are not is said."""
    run_id = started("wait")
    for number in range(5):
        order.send(run_id, f"other-{number}", number)
    with CaptureQueriesContext(connection) as captured:
        shown = timeline.load(run_id, most=3)
    assert [message.name for message in shown.messages] == ["other-2", "other-3", "other-4"]
    assert shown.unread_left_out == 2
    assert any("payload" in query["sql"] and "LIMIT 3" in query["sql"] for query in captured)
    Event.objects.bulk_create(
        Event(run_id=run_id, name="many", payload="1", delivered=True) for _ in range(timeline.MOST_ROWS)
    )
    assert "… 5 earlier unread ones left out" in flow("show", str(run_id))
    assert as_json("show", str(run_id))["events_left_out"] == 5


def test_show_for_programs() -> None:
    """Everything, with keys that stay."""
    with freeze_time(START):
        run_id = started("charge", key="k")
        advance(HOUR)
        order.send(run_id, "late", [1])
        found = as_json("show", str(run_id))
    assert set(found) == {
        "id", "workflow", "version", "state", "reason", "failure", "step", "resume_at", "queue", "priority", "key",
        "subject", "parent_id", "attributes", "created_at", "started_at", "finished_at", "generation", "continued_at",
        "code_changed", "forked_from", "forked_at", "forks", "deadline_at", "worker", "attempt", "recoveries",
        "cut_off", "progress", "arguments", "result", "error", "control", "waits", "steps", "steps_left_out", "events",
        "events_left_out", "history", "children", "children_left_out", "blocks_event_loop_at", "max_attempts",
        "last_error", "ending", "undo_left", "why",
    }  # fmt: skip
    assert found["arguments"] == [[7, "charge"], {}]
    assert (found["error"]["type"], found["error"]["step"]) == ("canx_flow.exceptions.StepFailed", "take-payment")
    fetched, charged = found["steps"]
    assert set(fetched) == {
        "name", "kind", "state", "attempts", "started_at", "finished_at", "result", "errors", "child_id",
    }  # fmt: skip
    assert fetched["result"] == {"number": 7, "express": False}
    assert [error["at"] for error in charged["errors"]][:1] == [START.isoformat()]
    (event,) = found["events"]
    assert (event["name"], event["payload"], event["consumed_by"]) == ("late", [1], None)


def test_show_falls_back_to_ascii(wide: Callable[[int], None]) -> None:
    """Where the encoding of the output has no better signs; what it cannot show of a text is escaped."""
    run_id = started("charge", key="café")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    call_command("flow", "show", str(run_id), stdout=out)
    out.flush()
    text = raw.getvalue().decode("ascii")
    assert "~ retrying" in text
    assert "caf\\xe9" in text
    assert "`" in text


def test_colours_are_for_terminals() -> None:
    """None in what is piped or captured, unless they are forced."""
    run_id = started("charge")
    assert "\x1b[" not in flow("show", str(run_id))
    assert "\x1b[" in flow("show", str(run_id), force_color=True)
    assert "\x1b[" in flow("show", str(run_id), "--force-color")


def test_no_stored_text_commands_the_terminal() -> None:
    """Escape sequences in arguments, errors and reasons are written out."""
    run_id = order.start(7, "\x1b[2J")
    order.cancel(run_id, "because\x1b]0;title\x07")
    assert "\x1b" not in flow("show", str(run_id), "-v", "2")
    assert "\x1b" not in flow("list")


# -- which run -----------------------------------------------------------------------------------------


def test_a_run_is_named_by_the_beginning_of_its_id() -> None:
    """With dashes or without, in capitals too, as long as only one begins so."""
    run_id, _other = started(), started()
    WorkflowRun.objects.filter(id=_other).delete()
    for text in (str(run_id), run_id.hex, str(run_id)[:20], run_id.hex[:12].upper()):
        assert given.run_id(text) == run_id


def test_a_beginning_that_several_have_is_refused() -> None:
    """They are listed; too short ones, unknown ones and what is no id are refused as well."""
    first, second = started(), started("sleep")
    common = next(first.hex[:length] for length in range(32, 0, -1) if second.hex.startswith(first.hex[:length]))
    error = refused("show", common)
    assert str(first) in str(error)
    assert str(second) in str(error)
    assert refused("show", "012").returncode == 2
    assert refused("show", "order-7").returncode == 2
    assert refused("show", "ffffffff").returncode == 1
    unknown = refused("show", str(uuid4()))
    assert (unknown.returncode, "flow list" in str(unknown)) == (1, True)


def test_the_end_of_an_id_will_do() -> None:
    """As the admin shows it: alone, or behind the beginning; of what several have they are named."""
    first, second = (UUID(f"01a20aa3-0000-7000-8000-0000000{end}") for end in ("1beef", "2beef"))
    for run_id in (first, second):
        WorkflowRun.objects.create(id=run_id, workflow="flow.order", arguments="[[7], {}]")
    for text in ("1beef", "1BEEF", "…1beef", "01a20aa3…1beef", "01a20aa3...1beef", "8000-00000001beef", str(first)[3:]):
        assert as_json("show", text)["id"] == str(first), text
    error = refused("show", "beef")
    assert str(error).startswith("Several runs end with beef: give more of the id.")
    assert str(first) in str(error)
    assert str(second) in str(error)
    assert error.returncode == 1
    assert str(refused("show", "01a20aa3…beef")).startswith("Several runs fit 01a20aa3…beef")
    assert refused("show", "eef").returncode == refused("show", "…eef").returncode == 2
    assert "begins or ends with 3beef" in str(refused("show", "3beef"))
    assert "Several runs end with beef" in str(refused("cancel", "beef"))
    assert str(first) in flow("cancel", "1beef")


# -- start ---------------------------------------------------------------------------------------------


def test_start_takes_json_and_plain_words() -> None:
    """7 is a number, ada is text, and so is a date or "7" in quotes; what it made of them is shown."""
    text = flow("start", "flow.order", "7", "ada", "--kwargs", '{"express": true}')
    run = WorkflowRun.objects.get()
    line, hint = text.splitlines()
    assert line == f'{run.id}  started flow.order(7, "ada", express=true)'
    assert hint == "no live worker for queue 'default': start one with `manage.py runflowworker`"
    assert "no live worker serves queue" in flow("show", str(run.id))
    leases.register(host="web-1", pid=1, workflows=registry.identities())
    assert "live worker" not in flow("show", str(run.id)) + flow("start", "flow.order", "7") + flow("list")
    assert json.loads(run.arguments) == [[7, "ada"], {"express": True}]
    words = ['"7"', "2026-11-24", "null", "[1, 2]", "-5", "NaN", "it's", ""]
    assert [given.value(word) for word in words] == ["7", "2026-11-24", None, [1, 2], -5, "NaN", "it's", ""]


@pytest.mark.parametrize("broken", ['{"a": }', "[1,", '"open'])
def test_start_refuses_broken_json(broken: str) -> None:
    """What begins like JSON and is none was not meant as text."""
    assert refused("start", "flow.order", broken).returncode == 2
    assert not WorkflowRun.objects.exists()


def test_start_with_options() -> None:
    """All that `using` takes."""
    group = Group.objects.create(name="staff")
    with freeze_time(START):
        found = as_json(
            "start", "flow.order", "7", "--key", "k", "--queue", "slow", "--priority", "9", "--delay", "1.5h",
            "--timeout", "30d", "--subject", f"auth.Group:{group.pk}", "--attributes", '{"plan": "pro"}',
        )  # fmt: skip
    run = stored(UUID(found["id"]))
    assert found == {"id": str(run.id), "workflow": "flow.order", "version": "", "state": "sleeping", "new": True}
    assert (run.key, run.queue, run.priority, run.timeout) == ("k", "slow", 9, 30 * 86400)
    assert (run.attributes, run.subject) == ({"plan": "pro"}, group)
    assert Timer.objects.get().due_at == START + 1.5 * HOUR


def test_start_at_a_moment(settings: Any) -> None:
    """Without an offset it is in the project's time zone."""
    settings.TIME_ZONE = "Europe/Berlin"
    with freeze_time(START):
        flow("start", "flow.order", "7", "--run-at", "2026-03-02T08:00")
        flow("start", "flow.order", "7", "--run-at", "2026-03-02T08:00+00:00")
    dues = [timer.due_at for timer in Timer.objects.order_by("id")]
    assert dues == [datetime(2026, 3, 2, 7, tzinfo=UTC), datetime(2026, 3, 2, 8, tzinfo=UTC)]


_TWICE = (
    "--run-at: 2027-10-31T02:30 comes twice in Europe/Berlin; the first is taken, 2027-10-31T02:30:00+02:00. "
    "The second is 2027-10-31T02:30:00+01:00."
)


@pytest.mark.once
@pytest.mark.parametrize(
    ("given", "said", "due"),
    [
        (
            "2027-10-31T02:30",
            _TWICE,
            datetime(2027, 10, 31, 0, 30, tzinfo=UTC),
        ),
        (
            "2027-03-28T02:30",
            "--run-at: 2027-03-28T02:30 never comes in Europe/Berlin; 2027-03-28T03:30:00+02:00 is taken.",
            datetime(2027, 3, 28, 1, 30, tzinfo=UTC),
        ),
        ("2027-10-31T02:30+01:00", "", datetime(2027, 10, 31, 1, 30, tzinfo=UTC)),
        ("2027-10-31T03:00", "", datetime(2027, 10, 31, 2, tzinfo=UTC)),
    ],
)
def test_a_moment_that_the_clocks_show_twice_or_never(settings: Any, given: str, said: str, due: datetime) -> None:
    """Which one was taken is said beside what a program reads; nothing where there is no doubt."""
    settings.TIME_ZONE = "Europe/Berlin"
    out, beside = io.StringIO(), io.StringIO()
    call_command("flow", "start", "flow.order", "7", "--run-at", given, "--json", stdout=out, stderr=beside)
    assert json.loads(out.getvalue())["state"] == "sleeping"
    assert Timer.objects.get().due_at == due
    assert beside.getvalue().strip() == said
    beside = io.StringIO()
    call_command("flow", "list", "--since", given, "--json", stdout=io.StringIO(), stderr=beside)
    assert beside.getvalue().strip() == said.replace("--run-at", "--since")


def test_start_with_a_key_that_is_taken() -> None:
    """The run that has it, and that it is not new; --reject fails instead."""
    first = as_json("start", "flow.order", "7", "--key", "k")
    assert as_json("start", "flow.order", "8", "--key", "k") == {**first, "new": False}
    assert "started before" in flow("start", "flow.order", "8", "--key", "k")
    error = refused("start", "flow.order", "8", "--key", "k", "--reject")
    assert (error.returncode, first["id"] in str(error)) == (1, True)
    assert WorkflowRun.objects.count() == 1


def test_start_of_a_version() -> None:
    """`name@version`; a bare name is the unversioned one."""
    assert as_json("start", "flow.order@2", "7")["version"] == "2"
    assert as_json("start", "flow.order", "7")["version"] == ""
    unknown = refused("start", "flow.order@9", "7")
    assert (unknown.returncode, "flow versions" in str(unknown)) == (1, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["flow.order"], "missing a required argument: 'number'"),
        (["flow.order", "7", "a", "b"], "too many positional arguments"),
        (["flow.order", "7", "--kwargs", '{"slow": 1}'], "unexpected keyword argument 'slow'"),
        (["flow.order", "7", "--kwargs", "[1]"], "--kwargs"),
        (["flow.order", "7", "--attributes", "7"], "--attributes"),
        (["flow.order", "7", "--priority", "1000"], "Priority"),
        (["flow.order", "7", "--queue", ""], "Queue"),
        (["flow.order", "7", "--key", " x"], "Key"),
        (["flow.order", "7", "--delay", "soon"], "--delay"),
        (["flow.order", "7", "--delay", "9" * 30 + "w"], "--delay"),
        (["flow.order", "7", "--delay", "5000000w"], "year 9998"),
        (["flow.order", "7", "--delay", "1", "--run-at", "2030-01-01"], "exclude each other"),
        (["flow.order", "7", "--run-at", "tomorrow"], "--run-at"),
        (["flow.order", "7", "--timeout", "0"], "Timeout"),
        (["flow.order", "7", "--subject", "group"], "--subject"),
        (["flow.order", "7", "--subject", "auth.Nothing:1"], "--subject"),
        (["flow.order", "7", "--subject", "auth.Group:1000"], "--subject"),
    ],
)
def test_start_refuses_what_cannot_be_meant(words: list[str], named: str) -> None:
    """Exit status 2, and the argument's name; no run is left."""
    error = refused("start", *words)
    assert (error.returncode, named in str(error)) == (2, True), error
    assert not WorkflowRun.objects.exists()


def test_start_of_what_is_too_large(settings: Any) -> None:
    """One line, exit status 1."""
    settings.CANX_FLOW = {"MAX_PAYLOAD_BYTES": 10}
    error = refused("start", "flow.order", "7", "a long word")
    assert (error.returncode, "MAX_PAYLOAD_BYTES" in str(error)) == (1, True)


# -- control -------------------------------------------------------------------------------------------


def test_control_calls_say_who_and_why() -> None:
    """The terminal's user and the reason are stored with the run."""
    run_id = started("sleep")
    assert flow("pause", str(run_id), "--reason", "a look") == f"{run_id}  paused\n"
    run = stored(run_id)
    assert (run.state, run.control_by, run.control_reason) == ("paused", f"terminal:{getpass.getuser()}", "a look")
    assert flow("resume", str(run_id)) == f"{run_id}  goes on: it is pending\n"
    run_until_idle()
    assert "woken" in flow("wake", str(run_id))
    run_until_idle()
    assert stored(run_id).state == "completed"


def test_cancel_of_several_runs() -> None:
    """A line each; one that cannot be cancelled keeps no other from it, and the exit status says so."""
    first, done, last = started("sleep"), started(), started("sleep")
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 3 runs") as caught:
        call_command("flow", "cancel", str(first), str(done), str(last), stdout=out)
    assert caught.value.returncode == 1
    assert out.getvalue().splitlines() == [
        f"{first}  cancelled",
        f"{done}  not cancelled: it is completed",
        f"{last}  cancelled",
    ]
    assert flow("cancel", str(first)) == f"{first}  cancelled\n"


def test_cancel_of_a_running_run() -> None:
    """It is stopping, as its worker has to end it."""
    run_id = order.start(7)
    worker = leases.register(host="h", pid=1)
    claims.claim(connections["default"], worker.id, 1, registry.identities())
    assert "stopping: cancelled as soon as" in flow("cancel", str(run_id))
    assert as_json("cancel", str(run_id)) == [
        {"id": str(run_id), "done": True, "state": "stopping",
         "message": "stopping: cancelled as soon as its step in flight has ended"},
    ]  # fmt: skip


def test_cancel_of_a_run_that_can_be_undone() -> None:
    """A worker has to undo it first, unless it is told not to; a parked one says how it is ended."""
    undone, left, stuck = book.start(), book.start(), book.start()
    run_until_idle()
    assert "stopping: cancelled as soon as what it did is undone" in flow("cancel", str(undone))
    assert "will be cancelled, once what it has done is undone" in " ".join(flow("show", str(undone)).split())
    assert flow("cancel", str(left), "--no-undo") == f"{left}  cancelled\n"
    book.cancel(stuck)
    WorkflowRun.objects.filter(id=stuck).update(version="gone")
    run_until_idle()
    assert stored(undone).state == "cancelled"
    assert "parked, and cancelled once it can be undone" in flow("cancel", str(stuck))
    assert f"cancel {stuck} --no-undo" in flow("show", str(stuck))
    assert as_json("show", str(stuck))["ending"] == "cancelled"


def test_show_says_that_what_was_undone_does_not_go_on() -> None:
    """It can only be started anew; an undo that has failed can be tried again."""
    undone, stuck = book_in_vain.start("book"), book_in_vain.start("nothing")
    run_until_idle()
    text = " ".join(flow("show", str(undone)).split())
    assert "What it did is undone, so it cannot go on." in text
    assert f"flow fork {undone} --from STEP" in text
    forked = as_json("fork", str(undone), "--from", "book")  # As it says.
    assert forked["forked_from"] == str(undone)
    assert f"flow rerun {undone}" in text
    assert "flow retry" not in text
    text = " ".join(flow("show", str(stuck)).split())
    assert "have that tried again, and nothing else" in text
    assert f"flow retry {stuck}" in text


@workflow("flow.book-in-vain", retry=Retry(max_attempts=1))
def book_in_vain(ctx: Context, what: str) -> None:
    """Can be undone if it is a book, and fails."""
    ctx.step("book", str, what, compensate={"book": 1}.__getitem__)
    raise ValueError("sold out")


@workflow("flow.book")
def book(ctx: Context) -> None:
    """A step that can be undone, and a sleep."""
    ctx.step("book", str, compensate=str)
    ctx.sleep("nap", 3600)


def test_retry_and_rerun() -> None:
    """A failed run goes on; any run starts anew, under an id that is told."""
    run_id = started("give up")
    assert flow("retry", str(run_id)) == f"{run_id}  goes on\n"
    assert stored(run_id).state == "pending"
    (anew,) = as_json("rerun", str(run_id))
    assert anew["done"]
    assert stored(UUID(anew["new_id"])).arguments == stored(run_id).arguments
    error = refused("retry", str(run_id))
    assert "only a failed or parked run is retried" in str(error)
    assert error.returncode == 1


def test_c093_fork() -> None:
    """C093: what came before the step is kept, the queue is as it is told, and both runs say so."""
    run_id = started("sleep", key="k")
    run_until_idle()
    line = flow("fork", str(run_id), "--from", "trial", "--queue", "slow", "--reason", "too long")
    new_id = UUID(line.split()[0])
    assert line == f"{new_id}  forked from {run_id} at trial\n"
    new = stored(new_id)
    assert (new.queue, new.arguments, new.key) == ("slow", stored(run_id).arguments, None)
    assert (new.control_reason, new.control_by) == ("too long", f"terminal:{getpass.getuser()}")
    assert [record.name for record in new.records.all()] == ["fetch-order"]
    assert f"forked     from {run_id} at trial" in flow("show", str(new_id))
    assert f"fork       {new_id}" in flow("show", str(run_id))
    assert (as_json("show", str(new_id))["forked_from"], as_json("show", str(run_id))["forks"]) == (
        str(run_id), [str(new_id)],
    )  # fmt: skip


def test_fork_with_other_arguments() -> None:
    """A list in place of the run's own, and keywords beside; for programs, the new run."""
    run_id = started("sleep")
    run_until_idle()
    given = ("--arguments", "[9]", "--kwargs", '{"express": true}', "--version", "")
    found = as_json("fork", str(run_id), "--from", "fetch-order", *given)
    assert (found["forked_from"], found["forked_at"], found["state"]) == (str(run_id), "fetch-order", "pending")
    run_until_idle()
    new = stored(UUID(found["id"]))
    assert new.arguments == '[[9],{"express":true}]'
    assert new.attributes == {"number": 9}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--from", "fetch-ordre"), "there are 'fetch-order'"),
        (("--from", "trial", "--arguments", "7"), "--arguments must be a JSON list"),
        (("--from", "trial", "--kwargs", "[7]"), "--kwargs must be a JSON object"),
        (("--from", "trial", "--arguments", '["a", "b", "c", "d"]'), "do not fit"),
        (("--from", "trial", "--version", "9"), "knows no workflow"),
        (("--from", ""), "rom_step must not be empty"),
        ((), "--from"),
    ],
)
def test_what_cannot_be_forked_is_wrong_arguments(given: tuple[str, ...], said: str) -> None:
    """One line that says what is wrong, and exit status 2; nothing is stored."""
    run_id = started("sleep")
    run_until_idle()
    error = refused("fork", str(run_id), *given)
    assert said in str(error)
    assert error.returncode == (2 if given else 1)
    assert WorkflowRun.objects.count() == 1


def test_show_says_how_often_a_run_has_continued_as_new() -> None:
    """And since when it does what it shows."""

    @workflow("flow.generations")
    def generations(ctx: Context, number: int = 0) -> None:
        ctx.step("work", lambda: number)
        if number < 3:
            ctx.continue_as_new(number + 1)

    with freeze_time(START):
        run_id = generations.start()
        run_until_idle()
        assert "generation 3, since 2026-03-01" in flow("show", str(run_id))
    found = as_json("show", str(run_id))
    assert (found["generation"], found["continued_at"], len(found["steps"])) == (3, START.isoformat(), 1)


@pytest.mark.parametrize(
    ("action", "said"),
    [("cancel", "not cancelled: it is completed"), ("pause", "not paused"), ("resume", "not resumed"),
     ("wake", "no open timer"), ("retry", "only a failed or parked run")],
)  # fmt: skip
def test_what_is_not_done_is_an_error(action: str, said: str) -> None:
    """One line that says how the run stands; exit status 1. For programs, the outcome all the same."""
    run_id = started()
    assert said in str(refused(action, str(run_id)))
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("flow", action, str(run_id), "--json", stdout=out)
    (outcome,) = json.loads(out.getvalue())
    assert outcome["done"] is False


def test_ids_that_are_none_are_outcomes_too() -> None:
    """Among several, the others are acted on."""
    run_id = started("sleep")
    out = io.StringIO()
    with pytest.raises(CommandError, match="2 of 3"):
        call_command("flow", "cancel", "nonsense", str(uuid4()), str(run_id), stdout=out)
    assert "'nonsense' is no run id" in out.getvalue()
    assert "There is no run" in out.getvalue()
    assert stored(run_id).state == "cancelled"


# -- send ----------------------------------------------------------------------------------------------


def test_send_to_a_run() -> None:
    """An event with its payload; with a dedup id once."""
    run_id = started("wait")
    assert flow("send", str(run_id), "approved", '{"ok": true}') == f"{run_id}  'approved' sent\n"
    assert as_json("send", str(run_id), "other", "--dedup-id", "d")["stored"] is True
    assert as_json("send", str(run_id), "other", "--dedup-id", "d") == {
        "event": "other", "run": str(run_id), "stored": False,
    }  # fmt: skip
    assert "sent before with this dedup id" in flow("send", str(run_id), "other", "--dedup-id", "d")
    payloads = Event.objects.order_by("id").values_list("name", "payload", "run_id")
    assert list(payloads) == [("approved", '{"ok":true}', run_id), ("other", "null", run_id)]
    run_until_idle()
    assert stored(run_id).state == "completed"


def test_send_to_all() -> None:
    """A broadcast has a key, and no run."""
    assert flow("send", "--broadcast", "approved", "yes", "--key", "order-7") == "'approved' broadcast\n"
    event = Event.objects.get()
    assert (event.run_id, event.name, event.key, event.payload) == (None, "approved", "order-7", '"yes"')


@pytest.mark.parametrize(
    "words",
    [
        ["approved"],
        ["--broadcast", "a", "b", "c"],
        ["{run}", "a", "b", "c"],
        ["{run}", "a", "--key", "k"],
        ["{run}", ""],
    ],
)
def test_send_refuses_what_cannot_be_meant(words: list[str]) -> None:
    """Exit status 2, and nothing is sent."""
    run_id = started("wait")
    assert refused("send", *(word.replace("{run}", str(run_id)) for word in words)).returncode == 2
    assert not Event.objects.exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["send"], "RUN and EVENT are missing"),
        (["send", "01a20aa3"], "EVENT is missing"),
        (["send", "--broadcast"], "EVENT is missing"),
        (["list", "--since", "yesterday"], "or 1h, 2d"),
        (["list", "--since", "9999-12-31T23:59:59-12:00"], "or 1h, 2d"),
        (["list", "--limit", "99999999999999999999"], "--limit must be from 1 to 1,000,000"),
        (["list", "--limit", "-5"], "--limit must be from 1 to 1,000,000"),
        (["list", "--workflow", "caf\udce9"], "not text in this terminal's encoding"),
        (["list", "--key", "caf\udce9"], "not text in this terminal's encoding"),
        (["list", "--since", "9" * 5000], "--since is too long"),
        (["start", "flow.order", "caf\udce9"], "not text in this terminal's encoding"),
        (["start", "flow.order", "9" * 5000], "is no JSON"),
        (["start", "flow.order", "[" + "9" * 5000 + "]"], "is no JSON"),
        (["start", "flow.order", "[" * 100_000], "nested too deep"),
        (["start", "flow.order", "7", "--kwargs", '{"a":' * 100_000], "nested too deep"),
        (["start", "flow.order", "7", "--attributes", '{"a":' * 100_000], "nested too deep"),
        (["start", "flow.order", "7", "--priority", "9" * 4000], "Priority must be between"),
        (["start", "flow.order", "7", "--delay", "9" * 400], "--delay is too long"),
        (["start", "flow.order", "7", "--timeout", "9" * 12], "timeout"),
        (["start", "flow.order", "7", "--subject", "auth.Group:" + "9" * 5000], "there is no auth.Group"),
        (["send", "--broadcast", "news", "[" * 100_000], "nested too deep"),
        (["cancel", "01a20aa3", "--reason", "caf\udce9"], "not text in this terminal's encoding"),
        ([], "give an ACTION: list, show, why, export, versions, "),
    ],
)
def test_what_is_missing_is_named(words: list[str], said: str) -> None:
    """And nothing else."""
    assert said in str(refused(*words))


def test_send_to_a_run_that_has_ended() -> None:
    """It reads no more events: exit status 1."""
    error = refused("send", str(started()), "approved")
    assert (error.returncode, "reads no more events" in str(error)) == (1, True)


# -- versions ------------------------------------------------------------------------------------------


def test_versions_lists_workflows_and_their_runs() -> None:
    """Where each is defined, and how its runs stand; one with runs that this process does not know, too."""
    started("sleep")
    started()
    WorkflowRun.objects.create(workflow="flow.gone", version="3", state=RUNNING, owner_id=uuid4())
    found = {(entry["workflow"], entry["version"]): entry for entry in as_json("versions")}
    known, gone = found["flow.order", ""], found["flow.gone", "3"]
    assert (known["registered"], known["runs"]) == (True, {"sleeping": 1, "completed": 1})
    assert known["defined_at"] == f"{__name__}.order"
    assert known["source"].endswith(tuple("0123456789"))
    assert (gone["registered"], gone["runs"], gone["defined_at"]) == (False, {"running": 1}, "")
    assert found["flow.order", "2"]["runs"] == {}
    lines = flow("versions").splitlines()
    at = lines.index("flow.order")
    assert lines[at + 1 : at + 3] == [f"  {__name__}.order", "  1 sleeping, 1 completed"]
    assert lines[lines.index("flow.gone@3") + 1] == "  not registered here"


def test_versions_says_where_it_has_not_counted_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow whose runs are older than all that are counted of their state is not told to have none."""
    monkeypatch.setattr(finding, "MOST_COUNTED", 2)
    for version in ("", "2", "2", "2"):
        WorkflowRun.objects.create(workflow="flow.order", version=version, state=SLEEPING, ready=False)
    found = {(entry["workflow"], entry["version"]): entry for entry in as_json("versions")}
    assert found["flow.order", "2"]["runs"] == {"sleeping": 2}
    assert found["flow.order", ""]["not_all_counted"] == ["sleeping"]
    lines = flow("versions").splitlines()
    said = {line: lines[at + 2] for at, line in enumerate(lines) if line.startswith("flow.order")}
    assert said["flow.order@2"] == "  2 or more sleeping"
    assert said["flow.order"] == "  none among the newest 2 that are sleeping"


def test_versions_says_no_runs_only_where_it_has_counted_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be older ones that are completed: none of them goes on, and the code may go all the same."""
    monkeypatch.setattr(finding, "MOST_COUNTED", 2)

    def said() -> str:
        lines = flow("versions").splitlines()
        return lines[lines.index("flow.order") + 2]

    assert said() == "  no runs"
    for version in ("", "2", "2"):
        WorkflowRun.objects.create(workflow="flow.order", version=version, state=COMPLETED, ready=False)
    assert said() == "  none that may go on"


@pytest.mark.once
def test_versions_says_where_a_workflow_is_that_is_no_function() -> None:
    """An object that can be called and a partial, by what they call."""

    class Called:
        """Called as a workflow is."""

        def __call__(self, ctx: Context) -> None:
            """Do nothing."""

    for number, function in enumerate((Called(), partial(Called()), dict)):
        workflow("flow.shape", function, version=str(number))
    try:
        found = {entry["version"]: entry for entry in as_json("versions") if entry["workflow"] == "flow.shape"}
    finally:
        for version in ("0", "1", "2"):
            registry.forget("flow.shape", version)
    assert found["0"]["defined_at"] == found["1"]["defined_at"] == f"{__name__}.{Called.__call__.__qualname__}"
    assert found["0"]["source"].startswith(__file__)
    assert (found["2"]["defined_at"], found["2"]["source"]) == ("<class 'dict'>", "")


# -- as a process --------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("words", [["nonsense"], [], ["list", "--state", "asleep"], ["show"], ["show", "-v", "9", "x"]])
def test_wrong_words_are_refused(words: list[str]) -> None:
    """By the parser, before anything is asked."""
    with pytest.raises(CommandError, match="Error: "):
        flow(*words)


@pytest.mark.once
@pytest.mark.parametrize("words", [["nonsense"], ["list", "--limit", "0"], ["start", "tests.two-steps"]])
def test_wrong_arguments_exit_with_2(words: list[str]) -> None:
    """Of argparse and of ours, without a traceback."""
    ended = manage("flow", *words)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.django_db(transaction=True)
def test_from_start_to_end_in_processes(wide: Callable[[int], None]) -> None:
    """Started, listed, shown and cancelled by four processes; a second cancel of another state exits with 1."""
    start = manage("flow", "start", "tests.held", "it", "--json", "--no-color")
    assert start.returncode == 0, start.stderr
    run_id = json.loads(start.stdout)["id"]
    assert manage("flow", "list", "--ids").stdout.split() == [run_id]
    assert "no live worker serves queue default" in manage("flow", "show", run_id).stdout
    assert manage("flow", "cancel", run_id).returncode == 0
    not_retried = manage("flow", "retry", run_id)
    assert (not_retried.returncode, not_retried.stdout) == (1, "")
    assert not_retried.stderr.count(run_id) == 1
    assert len(not_retried.stderr.splitlines()) == 1


def test_a_database_that_is_away_is_one_line(tier: str) -> None:
    """Exit status 1."""
    ended = manage("flow", "list", DATABASE_URL=NO_DATABASE[tier])
    assert ended.returncode == 1
    assert "is away" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.once
def test_missing_tables_are_one_line(tmp_path: Any) -> None:
    """What to do about it; exit status 1."""
    ended = manage("flow", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    assert ended.returncode == 1
    assert "migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.once
def test_wrong_settings_are_one_line() -> None:
    """Exit status 1, naming the setting."""
    ended = manage("flow", "list", CANX_FLOW='{"LEASE_SECOND": 3}')
    assert ended.returncode == 1
    assert "LEASE_SECOND" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.once
def test_nothing_that_does_not_exist_is_offered() -> None:
    """The help names the actions there are, and none that is only planned."""
    text = manage("flow", "--help").stdout
    for action in (
        "list", "show", "why", "export", "versions", "limits", "schedules", "schedule", "start", "fork", "cancel",
        "retry", "rerun", "pause", "resume", "wake", "send",
    ):  # fmt: skip
        assert f"    {action} " in text
    assert "delegate" not in text


@pytest.mark.once
def test_a_pipe_that_is_closed_is_no_error() -> None:
    """Whoever reads may stop, as `head` does."""
    command = f"{sys.executable} {MANAGE} flow versions --json | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command], env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.strip() == "0"
    assert ended.stderr == ""


@pytest.mark.once
def test_widths_are_counted_in_cells() -> None:
    """East Asian signs take two, joined marks none; what is cut says so."""

    class Out:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return False

        def write(self, _line: str) -> None:
            """Nowhere."""

    terminal = Terminal(Out(), None, width=80)  # type: ignore[arg-type]
    assert cells("名前") == 4
    assert cells("e\u0301") == 1
    assert terminal.fit("名前名前", 5) == "名前…"
    assert terminal.fit("two\nlines", 20) == "two lines"
    assert terminal.column("名", 4) == "名  "


def test_a_defect_leaves_the_callers_transaction_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called inside one, a command that fails must not close the connection under it."""
    run_id = order.start(7)
    monkeypatch.setattr(reading, "first_waits", _ask_for_what_is_not_there)
    with pytest.raises(Error), transaction.atomic():
        flow("list")
    assert WorkflowRun.objects.filter(id=run_id).exists()


def _ask_for_what_is_not_there(*_: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing_of_this_name FROM canx_flow_event")


# -- queues ----------------------------------------------------------------------------------------


def test_queues_lists_limits_and_what_is_paused() -> None:
    """For people and for programs."""
    order.using(queue="mail").start(7)
    flow("queue", "limits", "mail", "concurrency=5", "rate=100/m", "aging=none")
    flow("queue", "pause", "mail", "--reason", "the provider is down")
    flow("queue", "pause", "flow.order", "--workflow")
    text = flow("queues")
    assert "mail\n  1 due, 0 running, 0 live workers\n  paused" in text
    assert ": the provider is down\n" in text
    assert "  aging none (operator), concurrency 5 (operator), rate 100/m (operator)\n" in text
    assert "workflow flow.order is paused" in text
    found = json.loads(flow("queues", "--json"))
    (mail,) = [queue for queue in found["queues"] if queue["queue"] == "mail"]
    assert mail["paused"] is True
    assert mail["limits"] == {"aging": None, "concurrency": 5, "rate": "100/m"}
    assert [row["workflow"] for row in found["workflows"]] == ["flow.order"]


def test_a_queue_is_paused_resumed_and_limited() -> None:
    """What came of it is said; a limit goes back to the settings'."""
    assert flow("queue", "pause", "mail") == "queue mail is paused\n"
    assert flow("queue", "resume", "mail") == "queue mail is resumed\n"
    assert flow("queue", "resume", "mail") == "queue mail was not paused\n"
    assert flow("queue", "limits", "mail", "concurrency=5", "partition_rate=7/s") == (
        "queue mail: concurrency 5, partition_rate 7/s\n"
    )
    assert flow("queue", "limits", "mail") == "queue mail: concurrency 5, partition_rate 7/s\n"
    assert flow("queue", "limits", "mail", "concurrency=settings", "partition_rate=none") == "queue mail: no limits\n"
    assert json.loads(flow("queue", "limits", "mail", "per_worker=2", "--json"))["limits"]["per_worker"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["limits", "mail", "concurrency"], "concurrency is no OPTION=VALUE"),
        (["limits", "mail", "concurrency=0"], "Concurrency must be between 1 and"),
        (["limits", "mail", "speed=5"], "A queue has no option 'speed'"),
        (["pause", "mail", "rate=5/s"], "rate=5/s belongs to limits"),
        (["limits", "mail", "--workflow"], "limits are a queue's"),
    ],
)
def test_a_bad_call_about_a_queue_says_what_is_wrong(words: list[str], said: str) -> None:
    """With the option's name."""
    with pytest.raises(CommandError, match=said):
        flow("queue", *words)
