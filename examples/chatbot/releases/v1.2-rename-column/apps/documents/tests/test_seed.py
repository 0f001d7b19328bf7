import pytest
from django.core.management import CommandError, call_command

from apps.conversations.models import Conversation, Message
from apps.documents.models import Document

pytestmark = pytest.mark.django_db(transaction=True)  # COPY leaves pending triggers that forbid TRUNCATE


def test_the_same_seed_gives_the_same_rows():
    call_command("seed_database", "--size", "small", "--clear")
    first = list(Document.objects.order_by("id").values())
    conversations = set(Conversation.objects.values_list())
    call_command("seed_database", "--size", "small", "--clear")
    assert list(Document.objects.order_by("id").values()) == first
    assert set(Conversation.objects.values_list()) == conversations
    assert (len(first), len(conversations), Message.objects.count()) == (1000, 100, 400)


def test_seeding_adds_to_what_is_there_and_leaves_the_sequence_right():
    call_command("seed_database")
    call_command("seed_database")
    assert Document.objects.count() == 2000
    new = Document.objects.create(title="New", slug="new", body="New.", author_email="a@example.com")
    assert new.pk == 2001


def test_production_is_not_cleared_by_accident(settings):
    settings.ENVIRONMENT = "production"
    call_command("seed_database")
    with pytest.raises(CommandError, match="--no-input"):
        call_command("seed_database", "--clear")
    assert Document.objects.count() == 1000
    call_command("seed_database", "--clear", "--no-input")
    assert Document.objects.count() == 1000
