"""How a fact is logged: what handlers of the project do stays theirs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import canx_flow
from canx_flow.observe import announce, facts
from canx_flow.worker.heartbeat import Heartbeat

from ..waiting import wait_until

pytestmark = pytest.mark.once


class _Raising(logging.Handler):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


@pytest.fixture(params=[ValueError("no such table: lines"), SystemExit(1)], ids=["error", "exit"])
def raising(request: pytest.FixtureRequest) -> Iterator[_Raising]:
    """A handler that raises whatever is logged by the engine."""
    handler = _Raising(request.param)
    logging.getLogger("canx_flow").addHandler(handler)
    yield handler
    logging.getLogger("canx_flow").removeHandler(handler)


def test_a_handler_that_raises_is_not_felt(raising: _Raising, capsys: pytest.CaptureFixture[str]) -> None:
    """The caller goes on, and the line is told on standard error instead."""
    announce(facts.PoolTooSmall("2 runs wait"))
    announce(facts.ThreadRestarted("heartbeat"))
    said = capsys.readouterr().err
    assert "WARNING canx_flow.worker 2 runs wait" in said
    assert "ERROR canx_flow.worker This worker's heartbeat thread had died" in said


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_raises_does_not_end_the_heartbeat(raising: _Raising, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heart that stops for a log line loses every run."""
    from canx_flow.store import leases

    beats: list[int] = []
    real = leases.beat

    def away(*arguments: object, **keywords: object) -> bool:
        beats.append(1)
        if len(beats) < 3:
            raise ValueError("to be logged")
        return real(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(leases, "beat", away)
    beating = Heartbeat(leases.register(host="here", pid=1).id)
    beating.start()
    try:
        assert wait_until(beating.is_fresh)
    finally:
        beating.stop()


def test_a_line_says_where_it_was_announced(caplog: pytest.LogCaptureFixture) -> None:
    """The module and line of the caller of `announce`, not of what writes the line."""
    announce(facts.ThreadRestarted("heartbeat"))
    [record] = caplog.records
    assert (record.pathname, record.funcName) == (__file__, "test_a_line_says_where_it_was_announced")


def test_only_observe_logs() -> None:
    """Every other module announces facts; a workflow's own `ctx.log` is the project's."""
    folder = Path(canx_flow.__file__).parent
    logs = re.compile(r"logging\.getLogger\((?!f\"canx_flow\.workflow\.)|\blogger\.")
    found = {str(file.relative_to(folder)) for file in folder.rglob("*.py") if logs.search(file.read_text())}
    assert found == {"observe/lines.py"}


def test_a_traceback_that_no_file_takes_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """A handler's stream would refuse half a surrogate pair, and with it the whole line."""
    try:
        raise ValueError("half \ud800")
    except ValueError as error:
        announce(facts.SlotBroke(error))
    assert "ValueError: half \\ud800" in caplog.text
    assert caplog.text.encode("utf-8")
