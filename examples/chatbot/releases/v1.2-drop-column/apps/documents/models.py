from django.db import models
from django.utils import timezone


class Document(models.Model):
    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        ARCHIVED = "archived"

    title = models.CharField(max_length=200)
    slug = models.SlugField(max_length=220, unique=True)
    body = models.TextField()
    summary = models.TextField(null=True, blank=True)
    category = models.CharField(max_length=50, null=True, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    owner_email = models.EmailField()
    metadata = models.JSONField(default=dict, blank=True)
    word_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="documents_newest_idx"),
            models.Index(fields=["status", "-created_at"], name="documents_status_idx"),
            models.Index(fields=["category", "-created_at"], name="documents_category_idx"),
        ]

    def __str__(self) -> str:
        return self.title
