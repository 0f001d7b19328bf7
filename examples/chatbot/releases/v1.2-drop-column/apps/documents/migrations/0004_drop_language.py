from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.RemoveField("document", "language"),
    ]
