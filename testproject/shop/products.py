"""What the shop sells."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Product:
    """`slug` is its name in forms and in the name of its icon; `stock` is how many one order may have."""

    slug: str
    name: str
    about: str
    price: Decimal
    stock: int = 99

    @property
    def icon(self) -> str:
        return f"shop/icons/{self.slug}.html"


PRODUCTS = [
    Product("tea", "Green tea", "Sencha, first flush, 100 g", Decimal("12.50")),
    Product("cups", "Two cups", "Stoneware, no two alike", Decimal("28.00")),
    Product("teapot", "Teapot", "Cast iron, holds 0.8 l", Decimal("64.00")),
    Product("cabinet", "Tea cabinet", "Walnut, 48 drawers, made for you", Decimal("940.00"), stock=2),
]
