"""What the tests of steps share: policies, values and errors."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from django.db import models

from canx_flow import Retry
from canx_flow.testing import run_until_idle

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


HOUR = timedelta(hours=1)


SOON = Retry(initial=1, factor=1, jitter=0)


ONCE = Retry(max_attempts=1)


class Crash(KeyboardInterrupt):
    """Ends an inline worker in the middle of what it does, as a kill would."""


class TransientError(Exception):
    """What is worth another try."""


class CardDeclined(Exception):  # noqa: N818 - reads as users would name it
    """What is not."""


class Color(enum.Enum):
    """A value whose class must be found again."""

    RED = "red"


class Topic(models.TextChoices):
    """Names as Django's choices."""

    PAID = "paid", "Paid"


class PlainTopic(str, enum.Enum):  # noqa: UP042 - StrEnum formats otherwise
    """Names as many projects write them."""

    PAID = "paid"


@dataclass(frozen=True)
class Address:
    """A value with fields."""

    street: str
    tags: tuple[str, ...] = ()


def crash() -> None:
    """Run what is ready until the worker dies of it."""
    with pytest.raises(Crash):
        run_until_idle()
