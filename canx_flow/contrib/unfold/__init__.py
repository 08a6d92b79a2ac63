"""canx_flow's admin in a project whose admin is django-unfold's. An app: a project lists it after `canx_flow`.

    INSTALLED_APPS = ["unfold", "django.contrib.admin", …, "canx_flow", "canx_flow.contrib.unfold"]

It registers runs, workers, events and schedules anew, on unfold's `ModelAdmin`, with templates and a style sheet that
fit unfold's pages. `admin` has the classes for admins and sites of a project's own.
"""
