from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.AddField("document", "experiment", models.CharField(blank=True, max_length=20, null=True)),
    ]
