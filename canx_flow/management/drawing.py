"""A run's timeline as lines of a terminal: how it stands, what it did and when, what it waits for, what to do next.

Called by `flow show`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime

from django.utils import timezone

from ..core import policies
from ..core.channel import CODE
from ..core.durations import span, when
from ..core.naming import label
from ..core.pretty import counted, pretty
from ..insight import display
from ..insight.advice import advice
from ..insight.display import Shown, ShownError
from ..insight.messages import Message
from ..insight.redaction import reveal_value
from ..insight.rows import INTERRUPTED, Row
from ..insight.timeline import Timeline
from ..insight.traces import own_frames
from ..states import ANSWERS, CANCELLED, NO_WAITS, PAUSED, SUSPENDED, Kind, RecordState
from . import sentences
from .sentences import moment
from .steps import StepTable
from .terminal import Terminal, one_line, widest

_MOST_LINES = 12
#: What ends the run: how its line is called.
_ENDING = {Kind.DEADLINE: "deadline", Kind.EXPIRE: "expires", Kind.CANCEL_ON: "cancel on"}
_ERRORS_SHOWN = 3
_ENTRIES_SHOWN = 10  # of the history


class Drawing:
    """One timeline on one terminal. `details`: with results and payloads; `tracebacks`: below each error."""

    def __init__(
        self, timeline: Timeline, terminal: Terminal, *, details: bool = False, tracebacks: bool = False
    ) -> None:
        self.timeline = timeline
        self.run = timeline.run
        self.now = timeline.now
        self.terminal = terminal
        self.details = details
        self.tracebacks = tracebacks

    def lines(self) -> Iterator[str]:
        """Yield everything, from top to bottom."""
        parts = [self._head, self._facts, self._steps, self._messages, self._history]
        parts += [self._children, self._end, self._next]
        for part in parts:
            lines = list(part())
            yield from lines
            if lines:
                yield ""

    def why(self) -> Iterator[str]:
        """Yield only why it does not move, and what to do about that."""
        yield from self._stands()
        yield from self._next()

    # -- how it stands ---------------------------------------------------------------------------

    def _head(self) -> Iterator[str]:
        yield f"{self.terminal.strong(self.timeline.label)}  {self.run.id}"
        yield ""
        yield from self._stands()

    def _stands(self) -> Iterator[str]:
        state = self.run.state
        told = f"{self.terminal.sign(state)} {state}"
        lines = textwrap.wrap(one_line(sentences.state(self.timeline)), self.terminal.width - 4 - len(told)) or [""]
        yield f"  {self.terminal.colour(told, state)}  {lines[0]}".rstrip()
        for line in lines[1:]:
            yield f"    {' ' * len(told)}{line}"

    # -- facts -----------------------------------------------------------------------------------

    def _facts(self) -> Iterator[str]:
        run = self.run
        yield self._fact("started", f"{moment(run.created_at)}, {when(run.created_at, self.now)}")
        if run.finished_at is not None:
            yield self._fact("ended", f"{moment(run.finished_at)}, {when(run.finished_at, self.now)}")
        room = self.terminal.width - 13
        yield from self._value("arguments", display.arguments(run.arguments, self.timeline.names.arguments, width=room))
        yield self._fact("queue", run.queue + (f", priority {run.priority}" if run.priority else ""))
        for name, value in (("key", run.key), ("subject", self._subject()), ("parent", run.parent_id)):
            if value:
                yield self._fact(name, str(value))
        if run.continued_at is not None:
            since = f"since {moment(run.continued_at)}, {when(run.continued_at, self.now)}"
            yield self._fact("generation", f"{run.generation}, {since}")
        if run.forked_from_id is not None:
            yield self._fact("forked", f"from {run.forked_from_id} at {one_line(run.forked_at)}")
        for fork_id in self.timeline.forks:
            yield self._fact("fork", str(fork_id))
        for line in self._attributes():
            yield self._fact("attribute", line)
        yield from self._optional_facts()

    def _optional_facts(self) -> Iterator[str]:
        run, progress = self.run, self.timeline.progress
        if run.code_changed:
            yield self._fact("code", "changed since the start; it has gone on with the new code")
        if progress is not None:
            total = f" of {progress['total']:,.12g}" if progress.get("total") is not None else ""
            message = f", {progress['message']}" if progress.get("message") else ""
            yield self._fact("progress", f"{progress.get('done', 0):,.12g}{total}{message}")
        singleton = policies.read(run.policies).singleton
        if singleton is not None:
            yield self._fact("singleton", one_line(singleton))
        for wait in self.timeline.waits:
            if wait.kind in NO_WAITS:
                yield self._fact(_ENDING[wait.kind], sentences.wait(self.timeline, wait).removeprefix("deadline "))
        if run.state not in (CANCELLED, PAUSED) and (controlled := sentences.control(self.timeline)):
            yield self._fact("control", controlled)
        if run.recoveries:
            yield self._fact("cut off", sentences.cut_off(self.timeline))

    def _attributes(self) -> Iterator[str]:
        if not self.run.attributes:
            return
        shown = reveal_value(self.run.attributes, self.timeline.names.attributes).value
        if isinstance(shown, dict):
            yield from (f"{name} = {pretty(attribute, 10_000)}" for name, attribute in shown.items())
        else:
            yield str(self.timeline.attributes)

    def _subject(self) -> str:
        return f"{self.run.subject_type} {self.run.subject_id}" if self.run.subject_type else ""

    def _fact(self, name: str, value: str) -> str:
        return (
            f"  {self.terminal.paint(f'{name:<10}', 'HTTP_INFO')} {self.terminal.fit(value, self.terminal.width - 13)}"
        )

    def _value(self, name: str, shown: Shown) -> Iterator[str]:
        """Yield a value over as many lines as it needs."""
        lines = str(shown).splitlines() or [""]
        most = len(lines) if self.details else _MOST_LINES
        yield self._fact(name, lines[0])
        for line in lines[1:most]:
            yield f"{'':13}{line}"
        if len(lines) > most:
            yield f"{'':13}{self.terminal.signs.cut} {counted(len(lines) - most, 'more line')} with -v 2"

    # -- steps -----------------------------------------------------------------------------------

    def _steps(self) -> Iterator[str]:
        rows = [row for row in self.timeline.rows if self.details or row.kind not in ANSWERS]
        if not rows:
            return
        columns = StepTable(self.timeline, rows, self.terminal)
        yield columns.header()
        if self.timeline.left_out:
            yield f"  {self.terminal.signs.cut} {counted(self.timeline.left_out, 'earlier one')} left out"
        for row in rows:
            yield columns.line(row)
            yield from self._below(row)

    def _below(self, row: Row) -> Iterator[str]:
        """Yield the lines below a row."""
        errors = row.errors if self.details else row.errors[-_ERRORS_SHOWN:]
        if len(errors) < len(row.errors):
            yield self._note(f"{counted(len(row.errors) - len(errors), 'earlier error')}, shown with -v 2")
        for error in errors:
            yield from self._error(error)
        if row.errors and row.state == RecordState.COMPLETED and row.began is not None and row.ended is not None:
            yield self._note(f"took {span(row.ended - row.began)} since its first attempt")
        if row.wait is not None and (len(self.timeline.suspended_on) > 1 or self.run.state not in SUSPENDED):
            yield self._note(sentences.wait(self.timeline, row.wait))
        if row.child is not None and row.wait is None:
            yield self._note(f"child {row.child}")
        cut_off = sum(cut.step == row.name for cut in self.timeline.cut_off)
        if row.state == INTERRUPTED or cut_off:
            times = f"cut off {'once' if cut_off == 1 else f'{cut_off:,} times'}: " if cut_off else ""
            yield self._note(f"{times}its worker died in it; whether it had its effect is not known")
        if self.details and row.state == RecordState.COMPLETED and row.stored is not None:
            yield from self._noted("returned ", display.excerpt(row.stored, row.names, width=self.terminal.width - 17))

    def _note(self, text: str, role: str = "") -> str:
        text = self.terminal.fit(text, self.terminal.width - 8)
        return f"      {self.terminal.signs.branch} {self.terminal.paint(text, role) if role else text}"

    def _noted(self, label: str, shown: Shown | None) -> Iterator[str]:
        """Yield a whole value below its row."""
        lines = str(shown).splitlines() or [""]
        yield f"      {self.terminal.signs.branch} {label}{lines[0]}"
        for line in lines[1:]:
            yield f"        {line}"

    def _error(self, error: ShownError) -> Iterator[str]:
        yield self._note(f"{self._at(error.at)} {error.summary}", "ERROR")
        if self.tracebacks:
            for line in own_frames(error.traceback):
                yield f"        {line}".rstrip()

    def _at(self, at: datetime | None) -> str:
        """Write the time of day, with the day unless it was today."""
        if at is None:
            return ""
        local = timezone.localtime(at)
        today = local.date() == timezone.localtime(self.now).date()
        return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"

    # -- events ----------------------------------------------------------------------------------

    def _messages(self) -> Iterator[str]:
        if not self.timeline.messages:
            return
        yield f"  {self.terminal.strong('events')}"
        if self.timeline.unread_left_out:
            left_out = counted(self.timeline.unread_left_out, "earlier unread one")
            yield f"    {self.terminal.signs.cut} {left_out} left out"
        names = [self._named(message) for message in self.timeline.messages]
        width = widest(map(one_line, names), 8, self.terminal.width // 2)
        for name, message in zip(names, self.timeline.messages, strict=True):
            sent = f"{'broadcast' if message.broadcast else 'sent'} {when(message.sent_at, self.now)}"
            read = f"read by {message.consumed_by}" if message.consumed_by else "unread"
            yield "    " + self.terminal.fit(
                f"{self.terminal.column(name, width)}  {sent}, {read}", self.terminal.width - 4
            )
            if self.details:
                width = self.terminal.width - 8
                yield from self._noted("", display.excerpt(message.stored, message.names, width=width))

    def _named(self, message: Message) -> str:
        return f"{message.name} {message.key}" if message.key is not None else message.name

    # -- history ---------------------------------------------------------------------------------

    def _history(self) -> Iterator[str]:
        # What code has sent stands among the events, and that it has failed at its head.
        entries = [entry for entry in self.timeline.history if (entry.verb, entry.channel) != ("send", CODE)]
        if all(entry.verb == "fail" for entry in entries):
            return
        yield f"  {self.terminal.strong('history')}"
        shown = entries if self.details else entries[:_ENTRIES_SHOWN]
        if len(shown) < len(entries):
            yield f"    {self.terminal.signs.cut} earlier entries left out, shown with -v 2"
        for entry in reversed(shown):
            yield "    " + self.terminal.fit(f"{self._at(entry.at)}  {sentences.done(entry)}", self.terminal.width - 4)

    # -- children --------------------------------------------------------------------------------

    def _children(self) -> Iterator[str]:
        if not self.timeline.children:
            return
        yield f"  {self.terminal.strong('children')}"
        if self.timeline.children_left_out:
            yield f"    {self.terminal.signs.cut} earlier ones left out"
        for child in self.timeline.children:
            state = self.terminal.colour(f"{self.terminal.sign(child.state)} {child.state:<9}", child.state)
            yield f"    {child.id}  {state}  {one_line(label(child.workflow, child.version))}"

    # -- the end, and what to do -----------------------------------------------------------------

    def _end(self) -> Iterator[str]:
        result = display.shown(self.run.result, self.timeline.names.result, width=self.terminal.width - 13)
        error = self.timeline.error
        if result is not None:
            yield from self._value("result", result)
        if error is not None and self.tracebacks and error.traceback and not self._shown_above(error):
            yield f"  {self.terminal.strong('error')}"
            for line in error.traceback.splitlines():
                yield f"    {line}".rstrip()

    def _shown_above(self, error: ShownError) -> bool:
        """Tell whether it repeats what stands below the step that ended the run."""
        return error.is_step_s and any(row.name == error.step and row.errors for row in self.timeline.rows)

    def _next(self) -> Iterator[str]:
        for each in advice(self.timeline, tracebacks=self.tracebacks):
            for line in textwrap.wrap(each.text, self.terminal.width - 4):
                yield f"  {line}"
            if each.command:
                yield f"    {self.terminal.strong(f'manage.py {each.command}')}"
