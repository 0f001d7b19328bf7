import json
import logging
from urllib.parse import quote

import pytest

from apps.conversations.models import Conversation
from apps.documents.models import Document
from config.logs import JsonFormatter

pytestmark = pytest.mark.django_db
NEW = {"title": "Refunds", "body": "Money goes back.", "author_email": "a@example.com"}


def post(client, fields):
    return client.post("/api/documents", data=json.dumps(fields), content_type="application/json")


def test_create_then_read(client):
    created = post(client, NEW | {"metadata": {"pages": 2}})
    assert created.status_code == 201
    found = client.get(f"/api/documents/{created.json()['id']}").json()
    assert found["title"] == "Refunds"
    assert found["word_count"] == 3
    assert found["metadata"] == {"pages": 2}
    assert found["conversations"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": 5}, "title"),
        ({"author_email": "nobody"}, "author_email"),
        ({"metadata": []}, "metadata"),
        ({"status": "lost"}, "status"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_document_is_refused_by_field(client, change, field):
    response = post(client, NEW | change)
    assert response.status_code == 400
    assert list(response.json()["errors"]) == [field]
    assert not Document.objects.exists()


@pytest.mark.parametrize("body", ["{", "[]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(client, body):
    assert client.post("/api/documents", data=body, content_type="application/json").status_code == 400


def test_a_slug_is_taken_once(client):
    assert post(client, NEW | {"slug": "one"}).status_code == 201
    assert post(client, NEW | {"slug": "one", "title": "Other"}).status_code == 400


def test_pages_cover_all_documents_newest_first(client):
    ids = [post(client, NEW | {"title": f"Number {number}"}).json()["id"] for number in range(5)]
    Document.objects.update(created_at=Document.objects.get(pk=ids[0]).created_at)
    seen, query = [], {"limit": 2}
    while True:
        answer = client.get("/api/documents", query).json()
        seen += [document["id"] for document in answer["documents"]]
        if not answer["next"]:
            break
        query["before"] = answer["next"]
        assert quote(answer["next"], safe=":") == answer["next"]
    assert seen == ids[::-1]


@pytest.mark.parametrize("query", [{"limit": "x"}, {"before": "yesterday"}, {"before": "2025-01-01_x"}])
def test_a_bad_page_is_refused(client, query):
    assert client.get("/api/documents", query).status_code == 400


def test_detail_tells_the_conversations(client):
    document = Document.objects.create(slug="d", **NEW)
    conversation = Conversation.objects.create(document=document, title="About it")
    found = client.get(f"/api/documents/{document.pk}").json()
    assert [entry["id"] for entry in found["conversations"]] == [str(conversation.pk)]


def test_an_unknown_document_is_not_found(client):
    assert client.get("/api/documents/1").status_code == 404


def test_health(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/api/health").json().items() >= {"status": "ok", "database": "ok"}.items()


def test_maintenance_closes_all_but_health_and_opens_again(client, settings, tmp_path):
    env = tmp_path / ".env"
    env.write_text("DATABASE_NAME=chatbot\n")
    settings.MAINTENANCE_FILE = str(env)
    assert client.get("/api/documents").status_code == 200
    env.write_text("DATABASE_NAME=chatbot\nMAINTENANCE_MODE=true\n")
    closed = client.get("/api/documents")
    assert (closed.status_code, closed["Retry-After"]) == (503, "60")
    assert client.get("/health").status_code == client.get("/api/health").status_code == 200
    env.write_text("DATABASE_NAME=chatbot\n")
    assert client.get("/api/documents").status_code == 200


def test_an_error_is_one_line_more_with_its_cause(client, monkeypatch, caplog):
    client.raise_request_exception = False
    monkeypatch.setattr("apps.documents.views.PAGE_MAX", "not a number")
    answer = client.get("/api/documents")
    assert (answer.status_code, answer.json()["request_id"]) == (500, "test")
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [(line["logger"], line["level"], line["status"]) for line in lines] == [
        ("django.request", "ERROR", 500),
        ("chatbot.request", "ERROR", 500),
    ]
    assert lines[0]["exception"] == "TypeError"
    assert {line["request_id"] for line in lines} == {"test"}


def test_each_request_is_a_line_of_the_log(client, caplog):
    with caplog.at_level(logging.INFO, "chatbot.request"):
        client.get("/api/documents/7")
    line = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert line["ts"].endswith("+00:00")
    assert {name: line[name] for name in ("logger", "level", "method", "path", "route", "status", "request_id")} == {
        "logger": "chatbot.request",
        "level": "INFO",
        "method": "GET",
        "path": "/api/documents/7",
        "route": "/api/documents/<int:document_id>",
        "status": 404,
        "request_id": "test",
    }
    assert line["duration_ms"] > 0


def test_documents_of_one_category(client):
    post(client, NEW | {"category": "billing"})
    post(client, NEW)
    found = client.get("/api/documents", {"category": "billing"}).json()["documents"]
    assert [document["category"] for document in found] == ["billing"]
