"""What happens to a subscription: each function is an atomic step, so it counts once however often it is tried."""

from __future__ import annotations

from django.db.models import F, QuerySet

from .models import Subscription


def begin_trial(subscription_id: int) -> None:
    """Begin the trial."""
    _kept(subscription_id).update(status=Subscription.Status.TRIAL)


def renew(subscription_id: int) -> None:
    """Store that one more period is paid."""
    _kept(subscription_id).update(status=Subscription.Status.ACTIVE, renewals=F("renewals") + 1)


def _kept(subscription_id: int) -> QuerySet[Subscription]:
    """Return the subscription, unless it was cancelled before the step could change it."""
    return Subscription.objects.filter(pk=subscription_id).exclude(status=Subscription.Status.CANCELLED)
