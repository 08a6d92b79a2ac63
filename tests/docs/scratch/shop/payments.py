"""A payment provider, pretended: it notes what it is asked, and does what a page's `behave` says."""

from decimal import Decimal
from typing import Any

calls: list[tuple[Any, ...]] = []
#: What the next calls do, in turn: an exception is raised, a receipt returned.
behaviour: list[str | BaseException] = []


class CardDeclined(Exception):  # noqa: N818 - reads well in a policy
    """The provider has said no, and will say no again."""


class TooBusy(Exception):  # noqa: N818 - as above
    """The provider asks to come back in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def behave(*outcomes: str | BaseException) -> None:
    """Let the next calls end so."""
    behaviour[:] = outcomes


def charge(customer: str, amount: Decimal | float = 0, idempotency_key: str | None = None) -> str:
    """Take the money, and return the receipt."""
    return _called("charge", customer, amount, idempotency_key)


def renew(customer: str) -> str:
    """Take the money again."""
    return _called("renew", customer)


def _called(name: str, *arguments: Any) -> str:
    calls.append((name, *arguments))
    outcome = behaviour.pop(0) if behaviour else f"receipt-{len(calls)}"
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
