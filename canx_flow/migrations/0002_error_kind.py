"""What is stored beside a run's error, so that runs which failed alike are found by an index."""

import canx_flow.core.columns
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('canx_flow', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='workflowrun',
            name='error_type',
            field=canx_flow.core.columns.NameField(editable=False, max_length=200, null=True),
        ),
        migrations.AddField(
            model_name='workflowrun',
            name='error_print',
            field=models.CharField(editable=False, max_length=16, null=True),
        ),
        migrations.AddIndex(
            model_name='workflowrun',
            index=canx_flow.core.columns.PartialIndex(fields=['error_type', 'id'], name='canx_run_error', where=models.Q(('error_type__isnull', False))),
        ),
        migrations.AddIndex(
            model_name='workflowrun',
            index=canx_flow.core.columns.PartialIndex(fields=['error_print', 'id'], name='canx_run_error_print', where=models.Q(('error_print__isnull', False))),
        ),
    ]
