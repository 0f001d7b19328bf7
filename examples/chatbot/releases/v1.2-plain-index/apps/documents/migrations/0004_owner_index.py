from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.AddIndex(
            "document", models.Index(fields=["owner_email", "-created_at"], name="documents_owner_idx")
        ),
    ]
