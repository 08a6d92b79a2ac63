import canx_flow.core.columns
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('canx_flow', '0004_runhistory'),
    ]

    # Not made concurrently: no version was released before this one, so no project's table has rows that it would lock.
    operations = [
        migrations.AddIndex(
            model_name='steprecord',
            index=canx_flow.core.columns.SparseIndex(fields=['run'], name='canx_step_failures', where=models.Q(('errors__isnull', False))),
        ),
    ]
