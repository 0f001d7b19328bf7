from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("documents", "0001_initial")]

    operations = [
        migrations.AddField("document", "category", models.CharField(blank=True, max_length=50, null=True)),
    ]
