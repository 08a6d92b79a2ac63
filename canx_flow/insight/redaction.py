"""What people may see of the values of runs: `REDACT` is asked for each, under the same names wherever it is shown.

It is called as `REDACT(value, workflow=…, step=…, event=…, kind=…)`. The names belong to the value, not to the page:

| kind | value | workflow | step | event |
|---|---|---|---|---|
| `arguments` | `[[positional, …], {keyword: …}]` | the run's | | |
| `result` | what the workflow returned; of a call or spawn, what the child returned | that run's | | |
| `result` | what a step returned, or the default of a wait that timed out | the run's | its whole name | |
| `event` | what was sent, also where it is a wait's result | of the run it was sent to, if to one | | its name |
| `error` | `{"type": …, "message": …, "traceback": …}` | the run's | the step's that failed | |
| `attributes`, `progress` | what the body has published | the run's | | |

An error that ended a run is asked for once for each step that has led to it. Nothing here raises. Where `REDACT` is
set, a value that it could not be called with is not shown at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.utils.translation import gettext as _

from .. import conf
from ..core import codec
from ..core.pretty import printable
from ..exceptions import NotDecodable

Kind = Literal["arguments", "result", "event", "error", "attributes", "progress"]

#: Stands for a value that is hidden, in files and for programs; `display` writes it in the reader's language.
HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Names:
    """What `REDACT` is told of a value. `known` is False where its names are lost, with a row that was pruned."""

    kind: Kind
    workflow: str | None = None
    step: str | None = None
    event: str | None = None
    known: bool = True
    #: For users who may see no values at all: `REDACT` is not asked, everything is hidden.
    concealed: bool = False


CONCEALED = Names("result", concealed=True)
UNKNOWN = Names("result", known=False)


@dataclass(frozen=True, slots=True)
class Revealed:
    """A value as people may have it; with a `note`, `value` is not the stored one, but what stands for it."""

    value: Any
    note: str = ""


class Raw(str):
    """Text that is shown as it is."""

    __slots__ = ()


def reveal(text: str, *names: Names) -> Revealed:
    """Return the value of a stored text, after `REDACT`."""
    if _concealed(names):
        return Revealed(Raw(HIDDEN))
    try:
        redact = conf.redactor()
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, nothing is shown without it
        return _unusable(exc)
    try:
        value = codec.loads(text)
    except NotDecodable as exc:
        if redact is not None:
            return Revealed(HIDDEN, _("it no longer decodes, so REDACT could not look at it"))
        return Revealed(Raw(text), _("as stored; {error}").format(error=printable(str(exc))))
    return Revealed(value) if redact is None else _redacted(redact, value, names)


def reveal_value(value: Any, *names: Names) -> Revealed:
    """Return a value that is no stored text, such as attributes, after `REDACT`."""
    if _concealed(names):
        return Revealed(Raw(HIDDEN))
    try:
        redact = conf.redactor()
    except Exception as exc:  # noqa: BLE001 - as in `reveal`
        return _unusable(exc)
    return Revealed(value) if redact is None else _redacted(redact, value, names)


def _unusable(exc: Exception) -> Revealed:
    return Revealed(HIDDEN, _("REDACT cannot be used: {error}").format(error=type(exc).__name__))


def _concealed(names: Sequence[Names]) -> bool:
    return any(name.concealed for name in names)


def _redacted(redact: conf.Redactor, value: Any, names: Sequence[Names]) -> Revealed:
    if not names or not all(name.known for name in names):
        said = _("its event or child is no longer kept, so REDACT could not be told its names")
        return Revealed(HIDDEN, said)
    try:
        for name in dict.fromkeys(names):
            value = redact(value, workflow=name.workflow, step=name.step, event=name.event, kind=name.kind)
    except Exception as exc:  # noqa: BLE001 - the project's function; its message may hold the value
        return Revealed(HIDDEN, _("REDACT raised {error}").format(error=type(exc).__name__))
    return Revealed(value)
