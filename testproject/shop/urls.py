"""The shop's pages."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "shop"
urlpatterns = [
    path("", views.front, name="front"),
    path("orders/", views.place_order, name="place-order"),
    path("orders/<int:pk>/", views.order_page, name="order"),
    path("orders/<int:pk>/run/", views.order_run, name="order-run"),
    path("orders/<int:pk>/approval/", views.approval, name="approval"),
    path("subscriptions/", views.subscribe, name="subscribe"),
    path("subscriptions/<int:pk>/", views.subscription_page, name="subscription"),
    path("subscriptions/<int:pk>/run/", views.subscription_run, name="subscription-run"),
    path("trips/", views.book_trip, name="book-trip"),
    path("trips/<int:pk>/", views.trip_page, name="trip"),
    path("trips/<int:pk>/run/", views.trip_run, name="trip-run"),
    path("subscriptions/<int:pk>/cancel/", views.cancel_subscription, name="cancel-subscription"),
]
