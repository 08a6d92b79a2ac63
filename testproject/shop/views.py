"""The shop's pages: they start runs (`subscribe`; `place_order` through the receiver), show where those stand
(`order_page`, `subscription_page`), send them an event (`approval`) and cancel them (`cancel_subscription`).
Only the manager has an account; everybody sees every order, which a real shop would not want.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from canx_flow import InvalidState, RunNotFound, get_run
from canx_flow.models import WorkflowRun

from .forms import OrderForm, SubscriptionForm
from .models import Order, Subscription
from .workflows import order_processing, subscription


@require_safe
def front(request: HttpRequest) -> HttpResponse:
    return _front(request, OrderForm(), SubscriptionForm())


@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    form = OrderForm(request.POST)
    if form.is_valid():
        return redirect(form.place())
    return _front(request, form, SubscriptionForm())


@require_POST
def subscribe(request: HttpRequest) -> HttpResponse:
    form = SubscriptionForm(request.POST)
    if not form.is_valid():
        return _front(request, OrderForm(), form)
    with transaction.atomic():  # Both are stored, or neither.
        subscriber = form.save()
        subscription.using(subject=subscriber).start(subscriber.pk, subscriber.user)
    return redirect(subscriber)


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


def _front(request: HttpRequest, order_form: OrderForm, subscription_form: SubscriptionForm) -> HttpResponse:
    context = {
        "order_form": order_form,
        "subscription_form": subscription_form,
        "orders": Order.objects.order_by("-pk")[:6],
        "subscriptions": Subscription.objects.order_by("-pk")[:6],
    }
    return render(request, "shop/front.html", context)


def _order(pk: int, **conditions: Any) -> Order:
    return get_object_or_404(Order.objects.prefetch_related("lines"), pk=pk, **conditions)


def _run(subject: Model) -> WorkflowRun | None:
    """Return the run that was started last for this order or subscription."""
    return WorkflowRun.objects.for_subject(subject).last()


def _with_run(subject: Model) -> dict[str, Any]:
    """Return what a page shows: the order or subscription, where its run stands, and what that has done so far."""
    run = _run(subject)
    try:
        status = get_run(run.id) if run is not None else None
    except RunNotFound:  # In this very moment.
        status = None
    if run is None or status is None:  # Deleted with the runs of last year.
        return {"subject": subject}
    return {"subject": subject, "run": status, "records": run.records.order_by("seq")}


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
