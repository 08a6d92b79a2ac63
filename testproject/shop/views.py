"""The shop's pages: they start runs (`subscribe`, `book_trip`; `place_order` through the receiver), show where those
stand (`order_page`, `subscription_page`, `trip_page`), send them an event (`approval`) and cancel them
(`cancel_subscription`).
Only the manager has an account; everybody sees every order, which a real shop would not want.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db import transaction
from django.db.models import F, Model
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from canx_flow import InvalidState, RunNotFound, get_run
from canx_flow.models import WorkflowRun
from canx_flow.states import Kind

from .forms import OrderForm, SubscriptionForm, TripForm
from .models import Order, Subscription, Trip
from .workflows import order_processing, subscription, trip_booking

#: What a page shows of a run's records: not what only the engine reads, such as which branch was first.
SHOWN = [Kind.STEP, Kind.SLEEP, Kind.WAIT, Kind.CALL, Kind.UNDO]
#: What is still open comes last: what is left to be undone, for one.
ENDED_FIRST = F("finished_at").asc(nulls_last=True)


@require_safe
def front(request: HttpRequest) -> HttpResponse:
    return _front(request)


@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    form = OrderForm(request.POST)
    if form.is_valid():
        return redirect(form.place())
    return _front(request, order_form=form)


@require_POST
def subscribe(request: HttpRequest) -> HttpResponse:
    form = SubscriptionForm(request.POST)
    if not form.is_valid():
        return _front(request, subscription_form=form)
    with transaction.atomic():  # Both are stored, or neither.
        subscriber = form.save()
        subscription.using(subject=subscriber).start(subscriber.pk, subscriber.user)
    return redirect(subscriber)


@require_POST
def book_trip(request: HttpRequest) -> HttpResponse:
    form = TripForm(request.POST)
    if not form.is_valid():
        return _front(request, trip_form=form)
    with transaction.atomic():
        trip = form.save()
        trip_booking.using(subject=trip).start(trip.pk, trip.customer, trip.destination)
    return redirect(trip)


@require_safe
def order_page(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "shop/order.html", _with_run(_order(pk)))


@require_safe
@never_cache
def order_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Draw the part of the order's page that changes: fetched every second until the run has ended."""
    return render(request, "shop/run.html", _with_run(_order(pk)))


@require_safe
def subscription_page(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "shop/subscription.html", _with_run(get_object_or_404(Subscription, pk=pk)))


@require_safe
@never_cache
def subscription_run(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "shop/run.html", _with_run(get_object_or_404(Subscription, pk=pk)))


@require_safe
def trip_page(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "shop/trip.html", _with_run(get_object_or_404(Trip, pk=pk)))


@require_safe
@never_cache
def trip_run(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "shop/run.html", _with_run(get_object_or_404(Trip, pk=pk)))


@login_required
@permission_required("shop.approve_order", raise_exception=True)
def approval(request: HttpRequest, pk: int) -> HttpResponse:
    """Draw the manager's page, and tell the waiting run what was decided."""
    order = _order(pk, requires_approval=True)
    answer = request.POST.get("answer")
    if answer not in ("approved", "rejected"):
        return render(request, "shop/approval.html", {"order": order})
    if _send_answer(order, answer):
        messages.success(request, f"{order} is {answer}.")
    else:
        messages.warning(request, f"{order} was decided before.")
    return redirect(order)


@require_POST
def cancel_subscription(request: HttpRequest, pk: int) -> HttpResponse:
    with transaction.atomic():
        subscriber = get_object_or_404(Subscription.objects.select_for_update(), pk=pk)
        if subscriber.status != Subscription.Status.CANCELLED and _cancel(_run(subscriber)):
            subscriber.status = Subscription.Status.CANCELLED
            subscriber.save(update_fields=["status"])
            messages.success(request, f"{subscriber} is cancelled.")
        else:
            messages.warning(request, f"{subscriber} has ended before.")
    return redirect(subscriber)


def _front(request: HttpRequest, **forms: BaseForm) -> HttpResponse:
    """Draw the first page; `forms`: the one that was filled in wrongly, if any."""
    context = {
        "order_form": OrderForm(),
        "subscription_form": SubscriptionForm(),
        "trip_form": TripForm(),
        "orders": Order.objects.order_by("-pk")[:6],
        "subscriptions": Subscription.objects.order_by("-pk")[:6],
        "trips": Trip.objects.order_by("-pk")[:6],
    }
    return render(request, "shop/front.html", {**context, **forms})


def _order(pk: int, **conditions: Any) -> Order:
    return get_object_or_404(Order.objects.prefetch_related("lines"), pk=pk, **conditions)


def _run(subject: Model) -> WorkflowRun | None:
    """Return the run that was started last for this order, subscription or trip."""
    return WorkflowRun.objects.for_subject(subject).last()


def _with_run(subject: Model) -> dict[str, Any]:
    """Return what a page shows: the order, subscription or trip, how its run stands, and what that has done."""
    run = _run(subject)
    try:
        status = get_run(run.id) if run is not None else None
    except RunNotFound:  # In this very moment.
        status = None
    if run is None or status is None:  # Deleted with the runs of last year.
        return {"subject": subject}
    return {
        "subject": subject,
        "run": status,
        "records": run.records.filter(kind__in=SHOWN).order_by(ENDED_FIRST, "seq"),
    }


def _cancel(run: WorkflowRun | None) -> bool:
    """Cancel the run of a subscription; `False` if it had ended, or was ending, before."""
    try:
        return run is None or subscription.cancel(run.id, "by the subscriber")
    except RunNotFound:
        return True


def _send_answer(order: Order, answer: str) -> bool:
    """Tell the order's run; `False` if it was told before or has ended. Two managers, two clicks: the first counts."""
    run = _run(order)
    try:
        return run is not None and order_processing.send(run.id, "approval", answer, dedup_id="approval")
    except (InvalidState, RunNotFound):
        return False
