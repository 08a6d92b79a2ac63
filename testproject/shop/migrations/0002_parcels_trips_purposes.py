"""Parcels and reserved things of orders, trips, and what a payment was for."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="order",
            name="reserved",
            field=models.BooleanField(default=False, help_text="Whether its things are set aside."),
        ),
        migrations.AlterField(
            model_name="order",
            name="status",
            field=models.CharField(
                choices=[
                    ("placed", "Placed"),
                    ("confirmed", "Confirmed"),
                    ("rejected", "Rejected"),
                    ("shipped", "Shipped"),
                    ("cancelled", "Cancelled"),
                ],
                default="placed",
                max_length=16,
            ),
        ),
        migrations.AddField(
            model_name="payment",
            name="purpose",
            field=models.CharField(default="", max_length=100),
        ),
        migrations.AlterField(
            model_name="payment",
            name="requests",
            field=models.PositiveIntegerField(default=0, help_text="How often the shop asked for this one entry."),
        ),
        migrations.CreateModel(
            name="Parcel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=64, unique=True, verbose_name="idempotency key")),
                ("content", models.CharField(max_length=150)),
                ("sent", models.BooleanField(default=False)),
                (
                    "order",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="parcels", to="shop.order"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Trip",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=100)),
                (
                    "destination",
                    models.CharField(
                        choices=[
                            ("Kyoto", "Kyoto"),
                            ("London", "London"),
                            ("Venice", "Venice, where no car can be had"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("new", "New"), ("booked", "Booked"), ("cancelled", "Cancelled")],
                        default="new",
                        max_length=16,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
