"""The app. It has no models, only an `admin` module, templates and a style sheet."""

from __future__ import annotations

from django.apps import AppConfig


class CanxFlowUnfoldConfig(AppConfig):
    name = "canx_flow.contrib.unfold"
    label = "canx_flow_unfold"
    verbose_name = "canx_flow (unfold)"
