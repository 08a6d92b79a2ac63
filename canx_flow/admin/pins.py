"""What one action on everything that matches was asked for, so that it is done to that alone, request by request.

A pin holds the newest id that was there when the page asked, and the moment: a run that was started since, or that has
ended since, is none of those that were counted. It travels with the pages, signed, and counts what has been done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from ..core import clock

_SALT = "canx_flow.admin.pins"
_MAX_AGE = 24 * 3600
#: Runs that a report links to, of each outcome.
SAMPLES = 20


@dataclass(frozen=True, slots=True)
class Pin:
    """`upto`: the newest run that is meant; `after`: the last one that was looked at; `counts`: what became of them."""

    verb: str
    user: str
    asked: str
    upto: str
    after: str = ""
    #: To how many runs the verb applied when that was confirmed.
    total: int = 0
    reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    risky: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    #: How many of those counted were left alone from the beginning.
    left: int = 0
    samples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many of the total have been looked at."""
        return sum(self.counts.values()) - self.left

    def limit(self, runs: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of these runs that were there."""
        ended_before = Q(finished_at=None) | Q(finished_at__lte=datetime.fromisoformat(self.asked))
        return runs.filter(ended_before, id__lte=UUID(self.upto))

    def rest(self, runs: QuerySet[Any]) -> QuerySet[Any]:
        """Return those that have not been looked at."""
        found = self.limit(runs)
        return found.filter(id__gt=UUID(self.after)) if self.after else found

    def confirmed(self, reason: str, options: dict[str, Any], risky: bool, total: int, left: dict[str, int]) -> Pin:
        """Return the pin with what was confirmed; `left`: the counts of those that are left alone."""
        number = sum(left.values())
        return replace(self, reason=reason, options=options, risky=risky, total=total, counts=left, left=number)

    def then(self, after: UUID, done: Counter[str], samples: dict[str, list[str]]) -> Pin:
        """Return the pin after one more batch, of which `after` was the last run."""
        codes = self.samples.keys() | samples.keys()
        kept = {code: [*self.samples.get(code, []), *samples.get(code, [])][:SAMPLES] for code in codes}
        return replace(self, after=str(after), counts=dict(Counter(self.counts) + done), samples=kept)


def make(verb: str, runs: QuerySet[Any], request: HttpRequest) -> Pin | None:
    """Pin what is there now; `None` if there is no run."""
    asked = clock.now()
    newest = runs.order_by("-id").values_list("id", flat=True).first()
    if newest is None:
        return None
    return Pin(verb, str(request.user.pk), asked.isoformat(), str(newest))


def written(pin: Pin) -> str:
    """Return the pin as signed text, for a form or an address."""
    return signing.dumps(asdict(pin), salt=_SALT, compress=True)


def read(text: str, verb: str, request: HttpRequest) -> Pin | None:
    """Return the pin that this user was given for this verb; `None` for any other text."""
    pin = opened(text, request)
    return pin if pin is not None and pin.verb == verb else None


def opened(text: str, request: HttpRequest) -> Pin | None:
    """Return the pin that this user was given; `None` for any other text."""
    try:
        pin = Pin(**signing.loads(text, salt=_SALT, max_age=_MAX_AGE))
    except (signing.BadSignature, TypeError):
        return None
    return pin if pin.user == str(request.user.pk) else None
