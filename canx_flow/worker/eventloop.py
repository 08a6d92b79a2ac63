"""The event loop of async runs, in a thread of its own. What a task does to it ends that task, never the loop.

Made by `slots` for the first async run; one that has broken is replaced by another. A second thread watches whether it
turns: a run that blocks it holds up every other one.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from ..core import clock, current
from ..core.claimed import ClaimedRun
from ..observe import announce, facts
from ..replay.branch import Branch
from .synccode import ToThread
from .threads import StepThreads

_LEFT_SECONDS = 1.0  # for what activations have left to itself, once the worker leaves
_ROUND_SECONDS = 0.5  # between two looks at the loop
_ROUNDS = 2  # without an answer, after which it is blocked
_PYTHON, _PACKAGE = str(Path(threading.__file__).parent), str(Path(__file__).parents[1])


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps the event loop from turning, as far as it can be told: whose code, and where it stands."""

    since: datetime
    run_id: UUID | None
    workflow: str
    step: str | None
    where: str

    def code(self) -> facts.Blocker:
        """Return whose code it is, as facts know it."""
        return facts.Blocker(self.run_id, self.workflow, self.step, self.where)


class EventLoop:
    """Runs activations until it is stopped. `on_broken` is called, in its thread, when it cannot go on."""

    def __init__(
        self, threads: StepThreads, activations: Mapping[UUID, Branch], on_broken: Callable[[BaseException], object]
    ) -> None:
        self._on_broken = on_broken
        self._tasks: dict[asyncio.Task[None], ClaimedRun] = {}
        self._ending = False
        #: It runs nothing any more.
        self.dead = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ToThread(threads))
        self._thread = threading.Thread(target=self._run, name="canx_flow event loop", daemon=True)
        self._watch = _Watch(self._loop, self._thread, self._tasks, activations)
        try:
            self._watch.start()
            self._thread.start()
        except BaseException:
            self._watch.end()
            self._loop.close()
            raise

    @property
    def blocked(self) -> Blocked | None:
        """By what, if it has been blocked for a second."""
        return self._watch.blocked

    def spawn(self, run: ClaimedRun, activate: Callable[[ClaimedRun], Coroutine[Any, Any, None]]) -> None:
        """Activate a run. RuntimeError if this loop is closed."""
        self._loop.call_soon_threadsafe(self._start, run, activate)

    def stop(self) -> None:
        """Cancel what still runs, and end."""
        if not self.dead:
            with suppress(RuntimeError):  # It has broken at this very moment.
                self._loop.call_soon_threadsafe(self._cancel)

    def _start(self, run: ClaimedRun, activate: Callable[[ClaimedRun], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(activate(run))
        self._tasks[task] = run
        task.add_done_callback(self._tasks.pop)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._loop.create_task(self._end())

    async def _end(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            await asyncio.wait(left, timeout=_LEFT_SECONDS)
        self._ending = True
        self._loop.stop()

    def _run(self) -> None:
        try:
            while not self._ending:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - its runs go on in a new one
            announce(facts.LoopBroke(error))
            self._die()
            self._on_broken(error)
        else:
            self._die()

    def _turn(self) -> None:
        """Run until somebody stops it. `SystemExit` in a task is that task's end; asyncio would end all of them."""
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            announce(facts.ExitInTask(type(error).__name__))
        else:
            if not self._ending:
                announce(facts.LoopStopped())

    def _die(self) -> None:
        self.dead = True
        self._watch.end()
        with suppress(Exception):  # It may be in pieces.
            self._loop.close()


class _Watch:
    """Asks the loop for an answer, round after round, and counts those without: a process that was stopped, or whose
    clock was moved, has not been blocked.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: threading.Thread,
        tasks: Mapping[asyncio.Task[None], ClaimedRun],
        activations: Mapping[UUID, Branch],
    ) -> None:
        self._loop, self._thread, self._tasks, self._activations = loop, thread, tasks, activations
        self._ended = threading.Event()
        self._answered = True
        self._rounds = 0
        self.blocked: Blocked | None = None
        self.start = threading.Thread(target=self._run, name="canx_flow loop watch", daemon=True).start

    def end(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_ROUND_SECONDS):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - it is checked again in the next round
                announce(facts.LoopWatchFailed(error))

    def _look(self) -> None:
        if self._answered:
            self._tell_that_it_goes_on()
            self._rounds = 0
            if self._tasks:
                self._answered = False
                self._loop.call_soon_threadsafe(self._answer)
            return
        self._rounds += 1
        if self._rounds >= _ROUNDS and self.blocked is None:
            frame = sys._current_frames().get(self._thread.ident or 0)
            self.blocked = self._by_what(frame)
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            announce(facts.LoopBlocked(self.blocked.code(), stack))

    def _answer(self) -> None:
        self._answered = True

    def _tell_that_it_goes_on(self) -> None:
        blocked, self.blocked = self.blocked, None
        if blocked is not None:
            seconds = (1 + self._rounds) * _ROUND_SECONDS
            announce(facts.LoopUnblocked(blocked.code(), seconds))

    def _by_what(self, frame: FrameType | None) -> Blocked:
        task = asyncio.current_task(self._loop)
        run = self._tasks.get(task) if task is not None else None  # type: ignore[call-overload]
        run_id, step = (run.id, None) if run is not None else _of_context(task)
        root = self._activations.get(run_id) if run_id is not None else None
        if root is None:
            return Blocked(clock.now(), run_id, run.workflow if run is not None else "?", step, _place(frame))
        called = next((call.step.name for call in root.calls()), None)
        return Blocked(clock.now(), run_id, root.run.workflow, step or called, _place(frame))


def _of_context(task: asyncio.Task[Any] | None) -> tuple[UUID | None, str | None]:
    """Find the task whose body or step has made this one; Python tells since 3.12."""
    if task is None or not hasattr(task, "get_context"):
        return None, None
    context = task.get_context()
    step = context.get(current.step)
    return context.get(current.body), step.name if step is not None else None


def _place(frame: FrameType | None) -> str:
    """Say where it stands, in the project's own code if it is there: not in what that has called."""
    innermost = frame
    while frame is not None and _is_foreign(frame.f_code.co_filename):
        frame = frame.f_back
    frame = frame or innermost
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame is not None else "?"


def _is_foreign(file: str) -> bool:
    return file.startswith((_PYTHON, _PACKAGE, "<")) or "site-packages" in file
