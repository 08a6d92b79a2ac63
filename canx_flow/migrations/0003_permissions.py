"""A permission for each thing that people may do to runs, and one to see what comes from their code."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    """Permissions of `WorkflowRun`; no table changes."""

    dependencies: ClassVar = [("canx_flow", "0002_error_kind")]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="workflowrun",
            options={
                "default_permissions": ("view",),
                "permissions": [
                    ("view_payloads", "Can view values, errors, attributes, progress and events of workflow runs"),
                    ("start_run", "Can start workflow run"),
                    ("cancel_run", "Can cancel workflow run"),
                    ("retry_run", "Can retry workflow run"),
                    ("rerun_run", "Can rerun workflow run"),
                    ("fork_run", "Can fork workflow run"),
                    ("pause_run", "Can pause workflow run"),
                    ("resume_run", "Can resume workflow run"),
                    ("wake_run", "Can wake workflow run"),
                    ("send_event", "Can send event"),
                ],
                "verbose_name": "workflow run",
                "verbose_name_plural": "workflow runs",
            },
        ),
    ]
