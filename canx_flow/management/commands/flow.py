"""`manage.py flow`: what may be asked of runs and done with them, from a terminal or a script.

Options become calls of `client`; `drawing`, `listing` and `facts` say what came of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from canx_flow import client, conf
from canx_flow.core import channel, clock, registry
from canx_flow.core.options import StartOptions
from canx_flow.core.pretty import as_call
from canx_flow.exceptions import AlreadyStarted, CanxFlowError
from canx_flow.histories import exporting
from canx_flow.insight import reading, serving, timeline
from canx_flow.insight.speech import in_english
from canx_flow.management import arguments, controls, facts, finding, given, limits, listing, queues, scheduling
from canx_flow.management.drawing import Drawing
from canx_flow.management.refusals import plainly, said
from canx_flow.management.terminal import Terminal

#: What a list needs of a run: the rest may be megabytes. An error is 60 kB at most, of failed runs alone.
_LISTED = (*facts.LISTED, "ready", "recoveries", "has_undo")
_MOST_LISTED = 1_000_000
_MOST_HINTS = 5


class Command(BaseCommand):
    help = "List, show, start and control workflow runs. Exit codes: 0 done, 1 not (all) done, 2 wrong arguments."
    # They may ask databases, of which one may be away; what is wrong with CANX_FLOW is said anyway.
    requires_system_checks = []
    missing_args_message = f"give an ACTION: {', '.join(arguments.ACTIONS)}"

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add(parser)

    # -- doing it --------------------------------------------------------------------------------

    def handle(self, *_args: Any, **given_options: Any) -> None:
        given.check_texts(given_options)
        colours = True if given_options.get("force_color") else None
        self.terminal = Terminal(self.stdout, self.style, colours=colours)
        with plainly(), _closed_pipe(), channel.via(channel.TERMINAL), in_english():
            if given_options["action"] in controls.CALLS:
                self._control(given_options)
            else:
                getattr(self, f"_{given_options['action']}")(given_options)

    def _list(self, options: dict[str, Any]) -> None:
        given.within("--limit", options["limit"], 1, _MOST_LISTED)
        runs = client.runs().only(*(("id",) if options["ids"] else _LISTED))
        wanted = _wanted(options)
        if change := given.clock_change(options["since"], "--since"):
            self.stderr.write(change)
        found = finding.newest(runs, wanted, options["limit"] + 1)
        more, found = len(found) > options["limit"], found[: options["limit"]]
        if options["ids"]:
            ids = [str(run.id) for run in found]
            for line in [facts.text(ids)] if options["json"] else ids:
                self.terminal.say(line)
            return
        waits = reading.first_waits(_alias(), [run.id for run in found])
        failing = reading.failing(_alias(), waits)
        if options["json"]:
            runs_found = [facts.of_run(run, waits.get(run.id), failing.get(run.id)) for run in found]
            self.terminal.say(facts.text(runs_found))
        elif not found:
            self.terminal.say(listing.none_of(options["workflow"] or ()))
        else:
            for line in listing.runs(self.terminal, found, waits, failing, clock.now()):
                self.terminal.say(line)
            if more:
                these = f"these {len(found)}" if len(found) > 1 else "this one"
                self.terminal.say(f"There are more than {these}: see --limit, or filter.")
            for hint in serving.unserved_runs(found)[:_MOST_HINTS]:
                self.stderr.write(hint)

    def _show(self, options: dict[str, Any]) -> None:
        details = options["verbosity"] > 1
        results = details or options["json"]
        shown = timeline.load(given.run_id(options["run"]), results=results, characters=facts.READ if results else 1)
        if options["json"]:
            for line in facts.lines(facts.of_timeline(shown)):
                self.terminal.say(line)
            return
        for line in Drawing(shown, self.terminal, details=details, tracebacks=options["traceback"]).lines():
            self.terminal.say(line)

    def _why(self, options: dict[str, Any]) -> None:
        shown = timeline.load(given.run_id(options["run"]), characters=1)
        if options["json"]:
            self.terminal.say(facts.text(facts.of_why(shown)))
            return
        for line in Drawing(shown, self.terminal).why():
            self.terminal.say(line)

    def _export(self, options: dict[str, Any]) -> None:
        run_id, output = given.run_id(options["run"]), options["output"]
        text = exporting.written(exporting.export(run_id))
        if output is None:
            self.terminal.say(text.rstrip("\n"))
            return
        try:
            Path(output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error}") from error
        told = f"{run_id}  exported to {output}"
        self.terminal.say(facts.text({"id": str(run_id), "output": output}) if options["json"] else told)

    def _versions(self, options: dict[str, Any]) -> None:
        found = listing.versions(_alias())
        if options["json"]:
            self.terminal.say(facts.text(found))
            return
        for line in listing.version_lines(self.terminal, found) if found else ["No workflows."]:
            self.terminal.say(line)

    def _limits(self, options: dict[str, Any]) -> None:
        for line in limits.listed(self.terminal, json=options["json"]):
            self.terminal.say(line)

    def _schedules(self, options: dict[str, Any]) -> None:
        for line in scheduling.listed(self.terminal, json=options["json"]):
            self.terminal.say(line)

    def _schedule(self, options: dict[str, Any]) -> None:
        with _refused_options():
            for line in scheduling.act(self.terminal, options):
                self.terminal.say(line)

    def _queues(self, options: dict[str, Any]) -> None:
        for line in queues.listed(self.terminal, json=options["json"]):
            self.terminal.say(line)

    def _queue(self, options: dict[str, Any]) -> None:
        with _refused_options():
            for line in queues.act(options):
                self.terminal.say(line)

    def _start(self, options: dict[str, Any]) -> None:
        workflow = registry.resolve(options["workflow"])
        values = [given.value(text) for text in options["argument"]]
        keywords = given.json_object(options["kwargs"], "--kwargs")
        call = f"{workflow.label}{as_call([values, keywords], 10_000)}"
        try:
            with _refused_options():
                chosen = StartOptions(**_start_options(options), on_conflict="reject")
                run_id = client.start(workflow, tuple(values), keywords, chosen)
        except AlreadyStarted as taken:
            if options["reject"]:
                raise
            self._say_started(options, UUID(str(taken.run_id)), "was started before with this key", new=False)
            return
        self._say_started(options, run_id, f"started {call}", new=True)
        if change := given.clock_change(options["run_at"], "--run-at"):
            self.stderr.write(change)
        queue = options["queue"] or workflow.queue
        hint = "" if options["json"] else serving.unserved(queue, workflow.name, workflow.version)
        if hint:  # Not among what a script reads.
            self.stderr.write(hint)

    def _say_started(self, options: dict[str, Any], run_id: UUID, told: str, *, new: bool) -> None:
        if options["json"]:
            status = client.get_run(run_id)
            self.terminal.say(facts.text({
                "id": str(run_id), "workflow": status.workflow, "version": status.version, "state": status.state,
                "new": new,
            }))  # fmt: skip
        else:
            self.terminal.say(f"{run_id}  {told}")

    def _fork(self, options: dict[str, Any]) -> None:
        run_id = given.run_id(options["run"])
        with _refused_options():
            new_id = client.fork(
                run_id, options["from_step"], options["reason"], arguments=_arguments(options),
                version=options["version"], queue=options["queue"], by=given.who(),
            )  # fmt: skip
        if options["json"]:
            new = facts.of_run(client.runs().get(id=new_id), None)
            self.terminal.say(facts.text({**new, "forked_from": str(run_id), "forked_at": options["from_step"]}))
        else:
            self.terminal.say(f"{new_id}  forked from {run_id} at {options['from_step']}")

    def _send(self, options: dict[str, Any]) -> None:
        words, broadcast = options["word"], options["broadcast"]
        least = 1 if broadcast else 2
        if len(words) < least:
            missing = ("RUN", "EVENT")[len(words) - least :]
            given.refuse(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        if len(words) > least + 1:
            given.refuse("give --broadcast EVENT [PAYLOAD]" if broadcast else "give RUN EVENT [PAYLOAD]")
        if options["key"] is not None and not broadcast:
            given.refuse("--key belongs to --broadcast: an event to one run reaches any wait for it")
        payload = given.value(words[least]) if len(words) > least else None
        event, dedup_id = words[least - 1], options["dedup_id"]
        with _refused_options():
            if broadcast:
                run_id, stored = None, client.send_event(event, payload, key=options["key"], dedup_id=dedup_id)
            else:
                run_id = given.run_id(words[0])
                stored = client.send(run_id, event, payload, dedup_id=dedup_id, by=given.who())
        if options["json"]:
            self.terminal.say(facts.text({"event": event, "run": run_id and str(run_id), "stored": stored}))
        else:
            whom = f"{run_id}  " if run_id else ""
            told = f"{event!r} {'broadcast' if broadcast else 'sent'}"
            self.terminal.say(f"{whom}{told if stored else f'{event!r} was sent before with this dedup id'}")

    def _control(self, options: dict[str, Any]) -> None:
        """Act on every run that was named; one that cannot be acted on does not keep the others from it."""
        more = {"undo": False} if options.get("no_undo") else {}
        outcomes = controls.act(options["action"], options["run"], reason=options["reason"], **more)
        if options["json"]:
            self.terminal.say(facts.text([controls.as_facts(outcome) for outcome in outcomes]))
        failed = [outcome for outcome in outcomes if not outcome.done]
        if len(outcomes) == 1 and failed:
            raise CommandError(_once_named(failed[0]))
        if not options["json"]:
            for outcome in outcomes:
                line = f"{outcome.run}  {outcome.said}"
                self.terminal.say(line if outcome.done else self.terminal.paint(line, "ERROR"))
        if failed:
            raise CommandError(f"Not done for {len(failed)} of {len(outcomes)} runs.")


# -- between the options and the calls -------------------------------------------------------------


def _alias() -> str:
    return conf.get().database


def _once_named(outcome: controls.Outcome) -> str:
    return outcome.said if outcome.run in outcome.said else f"{outcome.run}: {outcome.said}"


def _wanted(options: dict[str, Any]) -> finding.Wanted:
    subject = options["subject"]
    return finding.Wanted(
        workflows=options["workflow"] or (), states=options["state"] or (), queues=options["queue"] or (),
        key=options["key"], since=given.since(options["since"], "--since"),
        subject=None if subject is None else given.subject_reference(subject, "--subject"),
    )  # fmt: skip


def _arguments(options: dict[str, Any]) -> Any:
    """Return what a fork is called with in place of the run's own arguments; `None` if nothing was given."""
    if options["arguments"] is None and options["kwargs"] is None:
        return None
    positional = given.json_list(options["arguments"], "--arguments")
    return tuple(positional), given.json_object(options["kwargs"], "--kwargs")


def _start_options(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": options["key"],
        "queue": options["queue"],
        "partition": options["partition"],
        "priority": options["priority"],
        "delay": given.duration(options["delay"], "--delay"),
        "run_at": given.moment(options["run_at"], "--run-at"),
        "timeout": given.duration(options["timeout"], "--timeout"),
        "subject": given.subject(options["subject"], "--subject"),
        "attributes": given.json_object(options["attributes"], "--attributes") or None,
    }


@contextmanager
def _refused_options() -> Iterator[None]:
    """Turn what `using` and `send` refuse of the command line into a CommandError."""
    try:
        yield
    except (TypeError, ValueError) as exc:
        if isinstance(exc, CanxFlowError):
            raise
        given.refuse(said(exc))


@contextmanager
def _closed_pipe() -> Iterator[None]:
    """End quietly when the reader of the output stops reading, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
