import canx_flow.core.columns
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('canx_flow', '0003_permissions'),
    ]

    operations = [
        migrations.CreateModel(
            name='RunHistory',
            fields=[
                ('id', canx_flow.core.columns.RowIdField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('actor', models.CharField(max_length=8)),
                ('by', canx_flow.core.columns.NameField(blank=True, default='', max_length=255)),
                ('channel', models.CharField(blank=True, default='', max_length=16)),
                ('verb', models.CharField(max_length=32)),
                ('state', models.CharField(blank=True, default='', max_length=16)),
                ('reason', models.TextField(blank=True, default='')),
                ('detail', models.TextField(blank=True, default='')),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='history', to='canx_flow.workflowrun')),
            ],
            options={
                'verbose_name': 'history of a run',
                'verbose_name_plural': 'history of runs',
                'default_permissions': (),
                'indexes': [models.Index(fields=['run', 'id'], name='canx_history_run')],
            },
        ),
    ]
