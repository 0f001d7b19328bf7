from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.AlterField("document", "summary", models.TextField()),
    ]
