"""What the warehouse does for an order: sets its things aside, packs them, hands each parcel to the carrier."""

from __future__ import annotations

from canx_flow import GiveUp, current_step

from .models import Order, OrderLine, Parcel
from .products import PRODUCTS

#: Of each product by name, how many one order may have. The shelves are filled up again after each.
STOCK = {product.name: product.stock for product in PRODUCTS}


class SoldOutError(GiveUp):
    """There is not as much as was ordered, so no other attempt is made."""


def reserve(order_id: int) -> int:
    """Set aside what was ordered: an atomic step, so its write and its result are stored together."""
    for line in OrderLine.objects.filter(order=order_id):
        if line.quantity > STOCK[line.product]:
            raise SoldOutError(f"{line} ordered, {STOCK[line.product]} there")
    Order.objects.filter(pk=order_id).update(reserved=True)
    return order_id


def release(order_id: int) -> None:
    """Put it back: the undo of `reserve`, which is given what that returned."""
    Order.objects.filter(pk=order_id).update(reserved=False)


def pack(order_id: int, content: str) -> int:
    """Pack a parcel and return its number; packed again after a crash, it is the same parcel."""
    key = current_step().idempotency_key
    parcel, _new = Parcel.objects.get_or_create(key=key, defaults={"order_id": order_id, "content": content})
    return parcel.pk


def unpack(parcel: int) -> None:
    """Undo `pack`."""
    Parcel.objects.filter(pk=parcel).delete()


def hand_over(parcel: int) -> None:
    """Have the carrier take the parcel."""
    Parcel.objects.filter(pk=parcel).update(sent=True)
