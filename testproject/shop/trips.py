"""What a trip is made of, each booked with another company: no transaction holds them together."""

from __future__ import annotations

from decimal import Decimal

from canx_flow import GiveUp

from . import payments
from .models import Trip
from .payments import Receipt


class NoCarError(GiveUp):
    """No car can be had there, however often one asks."""


def book_flight(customer: str, destination: str) -> Receipt:
    return payments.charge(customer, f"flight to {destination}", Decimal("310.00"))


def book_hotel(customer: str, destination: str) -> Receipt:
    return payments.charge(customer, f"hotel in {destination}", Decimal("240.00"))


def book_car(customer: str, destination: str) -> Receipt:
    if destination == Trip.Destination.VENICE:
        raise NoCarError(f"no car can be had in {destination}")
    return payments.charge(customer, f"car in {destination}", Decimal("90.00"))


def cancel(booking: Receipt) -> None:
    """Cancel any of the three: the undo is given what the booking returned."""
    payments.refund(booking)


def take_on(trip_id: int) -> int:
    """Look whether the trip is there; return its number, for the undo."""
    return Trip.objects.get(pk=trip_id).pk


def call_off(trip_id: int) -> None:
    """Write down that there will be no trip: the undo of `take_on`."""
    Trip.objects.filter(pk=trip_id).update(status=Trip.Status.CANCELLED)


def confirm(trip_id: int) -> None:
    """Write down that everything is booked."""
    Trip.objects.filter(pk=trip_id).update(status=Trip.Status.BOOKED)
