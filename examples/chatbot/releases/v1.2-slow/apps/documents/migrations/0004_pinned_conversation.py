from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.AddField("document", "pinned_conversation", models.UUIDField(blank=True, null=True)),
    ]
