"""The shop's forms: an order of some of the products, a subscription, a trip."""

from __future__ import annotations

from typing import Any

from django import forms

from . import orders
from .models import Order, Subscription, Trip
from .products import PRODUCTS, Product


class OrderForm(forms.ModelForm):
    class Meta:
        model = Order
        fields = ["customer", "email"]
        labels = {"customer": "Your name"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for product in PRODUCTS:
            self.fields[product.slug] = forms.IntegerField(
                label=product.name, min_value=0, max_value=99, initial=0, required=False
            )

    def products(self) -> list[tuple[Product, forms.BoundField]]:
        """Yield each product with the field for how many of it."""
        return [(product, self[product.slug]) for product in PRODUCTS]

    def clean(self) -> None:
        super().clean()
        if not self.errors and not self._lines():
            raise forms.ValidationError("Choose something first.")

    def place(self) -> Order:
        return orders.place(self.cleaned_data["customer"], self.cleaned_data["email"], self._lines())

    def _lines(self) -> list[tuple[Product, int]]:
        return [(product, quantity) for product in PRODUCTS if (quantity := self.cleaned_data[product.slug])]


class SubscriptionForm(forms.ModelForm):
    prefix = "subscription"

    class Meta:
        model = Subscription
        fields = ["user", "email"]
        labels = {"user": "Your name"}


class TripForm(forms.ModelForm):
    prefix = "trip"

    class Meta:
        model = Trip
        fields = ["customer", "destination"]
        labels = {"customer": "Your name"}
