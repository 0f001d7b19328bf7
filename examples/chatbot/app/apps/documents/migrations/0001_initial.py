import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Document",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=200)),
                ("slug", models.SlugField(max_length=220, unique=True)),
                ("body", models.TextField()),
                ("summary", models.TextField(blank=True, null=True)),
                ("language", models.CharField(default="en", max_length=8)),
                (
                    "status",
                    models.CharField(
                        choices=[("draft", "Draft"), ("published", "Published"), ("archived", "Archived")],
                        default="draft",
                        max_length=16,
                    ),
                ),
                ("owner_email", models.EmailField(max_length=254)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                ("word_count", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["-created_at", "-id"], name="documents_newest_idx"),
                    models.Index(fields=["status", "-created_at"], name="documents_status_idx"),
                ],
            },
        ),
    ]
