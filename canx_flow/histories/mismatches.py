"""Where a stored history and today's code part: what `flowreplay` lists. Made by `replaying`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Why = Literal["unknown", "arguments", "decoding", "kind", "new", "missing", "raised", "result"]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One place at which today's code does not fit a history. `step`: the whole key, empty for the run itself.

    `why`: `unknown` (no such workflow or version), `arguments` (they no longer fit the function), `decoding` (a stored
    value is none any more), `kind` (a name was recorded as another kind), `new` (a call that is not on record stands
    before the end of the history), `missing` (a record to which no call comes), `raised` (the body raises what the run
    did not), `result` (the body returns something else). `message` says what happened, and what to do.
    """

    run_id: str
    workflow: str
    why: Why
    step: str
    message: str

    def __str__(self) -> str:
        at = f" {self.step!r}" if self.step else ""
        return f"run {self.run_id} of {self.workflow}: {self.why}{at}: {self.message}"
