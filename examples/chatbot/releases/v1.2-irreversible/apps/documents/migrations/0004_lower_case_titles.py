from django.db import migrations
from django.db.models.functions import Lower


def lower_case_titles(apps, schema_editor):
    apps.get_model("documents", "Document").objects.update(title=Lower("title"))


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.RunPython(lower_case_titles),
    ]
