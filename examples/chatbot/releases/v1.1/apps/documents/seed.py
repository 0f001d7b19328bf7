"""Rows of the seeded database: a pure function of their number and the seed."""

import random
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

Row = tuple[str, ...]  # values in PostgreSQL's text COPY format
NULL = r"\N"
DOCUMENTS_PER_CONVERSATION = 10
MESSAGES_PER_CONVERSATION = 4
NEWEST = datetime(2025, 9, 30, tzinfo=UTC)
STEP = timedelta(seconds=40)

DOCUMENT_COLUMNS = (
    "id title slug body summary language category status owner_email metadata word_count created_at updated_at".split()
)
CONVERSATION_COLUMNS = "id document_id title created_at".split()
MESSAGE_COLUMNS = "conversation_id position role content tokens extra created_at".split()

SUBJECTS = "billing refunds onboarding invoices passwords shipping exports webhooks contracts holidays".split()
KINDS = [
    "Guide to",
    "Questions about",
    "Policy for",
    "How to handle",
    "History of",
    "Notes on",
    "Errors in",
    "Plan for",
]
WORDS = (
    "the customer asks where an order stays when its payment was taken twice and support answers with a reference "
    "that finance can find in the ledger of the month before any refund leaves the account of the shop"
).split()
LANGUAGES = ["en"] * 6 + ["es"] * 2 + ["de", "fr"]
STATUSES = ["published"] * 7 + ["draft"] * 2 + ["archived"]


def documents(first_id: int, count: int, seed: int) -> Iterator[Row]:
    rng = random.Random(f"documents {seed} {first_id}")
    titles = [
        (subject, f"{kind} {subject}", f"{kind} {subject}".lower().replace(" ", "-"))
        for kind in KINDS
        for subject in SUBJECTS
    ]
    paragraphs = [" ".join(rng.choices(WORDS, k=rng.randint(15, 35))) for _ in range(500)]
    for number in range(count):
        document_id = first_id + number
        subject, title, slug = rng.choice(titles)
        opening, rest = rng.choice(paragraphs), rng.choice(paragraphs)
        body = f"{opening}\\n\\n{rest}"
        summary = opening[:80] if number % 3 else NULL
        moment = str(NEWEST - STEP * (count - number))
        yield (
            str(document_id),
            title,
            f"{slug}-{document_id}",
            body,
            summary,
            rng.choice(LANGUAGES),
            subject if number % 2 else NULL,
            rng.choice(STATUSES),
            f"owner{number % 997}@example.com",
            f'{{"source": "import", "pages": {number % 40 + 1}, "tags": ["{subject}"]}}',
            str(opening.count(" ") + rest.count(" ") + 2),
            moment,
            moment,
        )


def conversations(first_id: int, count: int, seed: int) -> Iterator[Row]:
    """One for every tenth of the documents [first_id, first_id + count)."""
    rng = random.Random(f"conversations {seed} {first_id}")
    for number in range(0, count, DOCUMENTS_PER_CONVERSATION):
        document_id = str(first_id + number) if number % 90 else NULL
        moment = str(NEWEST - STEP * (count - number) + timedelta(hours=1))
        yield str(uuid.UUID(int=rng.getrandbits(128), version=4)), document_id, f"About {rng.choice(SUBJECTS)}", moment


def messages(conversation_rows: Iterable[Row], seed: int) -> Iterator[Row]:
    rng = random.Random(f"messages {seed}")
    contents = [" ".join(rng.choices(WORDS, k=rng.randint(8, 30))) for _ in range(500)]
    for conversation_id, _, _, moment in conversation_rows:
        for position in range(MESSAGES_PER_CONVERSATION):
            content = rng.choice(contents)
            role = "assistant" if position % 2 else "user"
            yield conversation_id, str(position), role, content, str(len(content) // 4), '{"model": "small"}', moment
