"""The tables of orders, their lines, subscriptions and payments."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=100)),
                ("email", models.EmailField(max_length=254, verbose_name="e-mail")),
                ("total", models.DecimalField(decimal_places=2, max_digits=10)),
                ("requires_approval", models.BooleanField()),
                (
                    "status",
                    models.CharField(
                        choices=[("placed", "Placed"), ("confirmed", "Confirmed"), ("rejected", "Rejected")],
                        default="placed",
                        max_length=16,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "permissions": [("approve_order", "Can approve or reject an order")],
            },
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=64, unique=True, verbose_name="idempotency key")),
                ("customer", models.CharField(max_length=100)),
                ("amount", models.DecimalField(decimal_places=2, max_digits=10)),
                (
                    "requests",
                    models.PositiveIntegerField(default=0, help_text="How often the shop asked for this one charge."),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Subscription",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user", models.CharField(max_length=100)),
                ("email", models.EmailField(max_length=254, verbose_name="e-mail")),
                (
                    "status",
                    models.CharField(
                        choices=[("new", "New"), ("trial", "Trial"), ("active", "Active"), ("cancelled", "Cancelled")],
                        default="new",
                        max_length=16,
                    ),
                ),
                ("renewals", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="OrderLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("product", models.CharField(max_length=100)),
                ("quantity", models.PositiveSmallIntegerField()),
                ("price", models.DecimalField(decimal_places=2, max_digits=10)),
                (
                    "order",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="lines", to="shop.order"
                    ),
                ),
            ],
        ),
    ]
