from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("documents", "0002_document_category")]

    operations = [
        AddIndexConcurrently(
            "document", models.Index(fields=["category", "-created_at"], name="documents_category_idx")
        ),
    ]
