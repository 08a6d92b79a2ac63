"""A payment provider, pretended: it notes what it is asked, and does what a page's `behave` says."""

calls = []
#: What the next calls do, in turn: an exception is raised, anything else returned.
behaviour = []


class CardDeclined(Exception):  # noqa: N818 - reads well in a policy
    """The provider has said no, and will say no again."""


class TooBusy(Exception):  # noqa: N818 - as above
    """The provider asks to come back in `seconds`."""

    def __init__(self, seconds):
        super().__init__(seconds)
        self.seconds = seconds


def behave(*outcomes):
    """Let the next calls end so."""
    behaviour[:] = outcomes


def charge(customer, amount=0, idempotency_key=None):
    """Take the money, and return the receipt."""
    return _called("charge", customer, amount, idempotency_key)


def renew(customer):
    """Take the money again."""
    return _called("renew", customer)


def _called(name, *arguments):
    calls.append((name, *arguments))
    outcome = behaviour.pop(0) if behaviour else f"receipt-{len(calls)}"
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
