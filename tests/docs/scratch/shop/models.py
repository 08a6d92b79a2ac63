"""The one model that most pages need."""

from django.db import models


class Order(models.Model):
    """What the shop sells."""

    customer = models.EmailField()
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    state = models.CharField(max_length=20, default="new")

    def __str__(self) -> str:
        return f"order {self.pk}"
