import json
from datetime import datetime

from django.core.exceptions import ValidationError
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.crypto import get_random_string
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_safe

from apps.documents.models import Document

PAGE = 20
PAGE_MAX = 100
PREVIEWED = 10  # as many as a screen shows
CONVERSATIONS_SHOWN = 10
WRITABLE = ("title", "slug", "body", "summary", "language", "category", "status", "owner_email", "metadata")


def as_json(document: Document) -> dict[str, object]:
    return {
        "id": document.pk,
        "title": document.title,
        "slug": document.slug,
        "summary": document.summary,
        "language": document.language,
        "category": document.category,
        "status": document.status,
        "owner_email": document.owner_email,
        "metadata": document.metadata,
        "word_count": document.word_count,
        "created_at": document.created_at.isoformat(),
    }


@require_http_methods(["GET", "HEAD", "POST"])
def document_list(request: HttpRequest) -> JsonResponse:
    try:
        return create(request) if request.method == "POST" else page(request)
    except ValidationError as error:
        return JsonResponse({"errors": error.message_dict}, status=400)


def page(request: HttpRequest) -> JsonResponse:
    """Newest first, by a cursor: the table is never counted nor skipped over."""
    documents = Document.objects.defer("body").order_by("-created_at", "-id")
    if category := request.GET.get("category"):
        documents = documents.filter(category=category)
    try:
        limit = min(max(int(request.GET.get("limit", PAGE)), 1), PAGE_MAX)
        if before := request.GET.get("before"):
            moment, _, last_id = before.rpartition("_")
            moment, last_id = datetime.fromisoformat(moment), int(last_id)
            documents = documents.filter(created_at__lte=moment).exclude(created_at=moment, id__gte=last_id)
    except ValueError:
        raise ValidationError({"limit, before": "must be a number, and the cursor that an earlier page gave"}) from None
    found = list(documents[: limit + 1])
    shown, more = found[:limit], len(found) > limit
    return JsonResponse(
        {
            "documents": [
                as_json(document) | ({"latest": latest(document)} if place < PREVIEWED else {})
                for place, document in enumerate(shown)
            ],
            "next": cursor(shown[-1]) if more else None,
        }
    )


def cursor(last: Document) -> str:
    """Where the next page begins; Z for +00:00, so that it stands in a URL as it is."""
    return f"{last.created_at.isoformat().replace('+00:00', 'Z')}_{last.pk}"


def latest(document: Document) -> str | None:
    if document.pinned_conversation:
        return str(document.pinned_conversation)
    conversation = document.conversations.order_by("-created_at").first()
    return str(conversation.pk) if conversation else None


def create(request: HttpRequest) -> JsonResponse:
    try:
        fields = json.loads(request.body)
    except ValueError:
        raise ValidationError({"body": "is not JSON"}) from None
    if not isinstance(fields, dict):
        raise ValidationError({"body": "must be a JSON object"})
    if unknown := sorted(fields.keys() - set(WRITABLE)):
        raise ValidationError(dict.fromkeys(unknown, "unknown field"))
    wrong = {
        name: f"must be {'an object' if name == 'metadata' else 'a string'}"
        for name, value in fields.items()
        if not isinstance(value, dict if name == "metadata" else str)
    }
    if wrong:
        raise ValidationError(wrong)
    document = Document(**fields)
    document.slug = document.slug or f"{slugify(document.title)[:200]}-{get_random_string(8).lower()}"
    document.word_count = len(document.body.split())
    document.full_clean()
    document.save()
    return JsonResponse(as_json(document), status=201)


@require_safe
def document_detail(request: HttpRequest, document_id: int) -> JsonResponse:
    document = get_object_or_404(Document, pk=document_id)
    conversations = document.conversations.order_by("-created_at")[:CONVERSATIONS_SHOWN]
    return JsonResponse(
        as_json(document)
        | {
            "body": document.body,
            "conversations": [
                {
                    "id": str(conversation.id),
                    "title": conversation.title,
                    "created_at": conversation.created_at.isoformat(),
                }
                for conversation in conversations
            ],
        }
    )
