import time
from collections.abc import Iterable, Sequence
from itertools import islice

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, models, transaction
from django.db.models import Max

from apps.conversations.models import Conversation, Message
from apps.documents import seed
from apps.documents.models import Document

SIZES = {"small": 1_000, "medium": 50_000, "large": 1_000_000}
ROWS_PER_WRITE = 2_000


class Command(BaseCommand):
    help = "Fill the database with documents, conversations and messages; the same seed gives the same rows."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--size", choices=SIZES, default="small")
        parser.add_argument("--clear", action="store_true", help="empty the tables first")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--no-input", action="store_true", help="confirm --clear under production settings")

    def handle(self, *, size: str, clear: bool, seed: int, no_input: bool, **_: object) -> None:
        if clear and settings.ENVIRONMENT == "production" and not no_input:
            raise CommandError("--clear would delete every document of production; add --no-input if that is meant.")
        started = time.perf_counter()
        with transaction.atomic(), connection.cursor() as cursor:
            if clear:
                tables = ", ".join(quoted(model) for model in (Message, Conversation, Document))
                cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY")
            fill(SIZES[size], seed)
            for model in (Document, Message):
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT max(id) FROM {quoted(model)}))",
                    [model._meta.db_table],
                )
        with connection.cursor() as cursor:
            for model in (Document, Conversation, Message):
                cursor.execute(f"ANALYZE {quoted(model)}")
        self.stdout.write(f"{SIZES[size]} documents in {time.perf_counter() - started:.1f} s")


def fill(count: int, number: int) -> None:
    first_id = (Document.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    conversations = list(seed.conversations(first_id, count, number))
    copy(Document, seed.DOCUMENT_COLUMNS, seed.documents(first_id, count, number))
    copy(Conversation, seed.CONVERSATION_COLUMNS, conversations)
    copy(Message, seed.MESSAGE_COLUMNS, seed.messages(conversations, number))


def copy(model: type[models.Model], columns: Sequence[str], rows: Iterable[seed.Row]) -> None:
    names = ", ".join(connection.ops.quote_name(column) for column in columns)
    lines = ("\t".join(row) + "\n" for row in rows)
    with connection.cursor() as cursor, cursor.copy(f"COPY {quoted(model)} ({names}) FROM STDIN") as out:
        while block := "".join(islice(lines, ROWS_PER_WRITE)):
            out.write(block)


def quoted(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
