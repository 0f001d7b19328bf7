"""A database of a chat service that is made by the server itself, the same on every run."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

# Rows of `message` per gigabyte of database; every other table has a fixed share of it. Measured on PostgreSQL 17.
MESSAGES_PER_GIGABYTE = 1_350_000
SENTENCES = 40_000

WORDS = """account address after again amount answer appointment arrives assistant attached available balance because
before between booking broken cancel change chat checkout city code confirm contract could country customer date
delivery department details different discount document email error evening every example explain failed february
filter first follow found friday from given hello help history hour however important information invoice item
january know language later letter list little machine manager message minute missing monday month morning mother
never night nothing number october office online open order other package page paid password payment people perhaps
phone picture please possible price problem process product question quickly reason receipt refund reply report
request return saturday screen second send service several shipment should someone something statement street
subscription summer sunday support system table tariff thank thing thursday ticket today together tomorrow traffic
tuesday understand until update version voucher waiting warehouse wednesday week which window winter without wrong
year yesterday your"""
ENDINGS = ["", "s", "ed", "ing", "er", "ly", "ness", "ful", "able", "less", "ment", "ish"]

TABLES = """
CREATE TABLE account (
    id bigint PRIMARY KEY, email text NOT NULL, name text NOT NULL, plan text NOT NULL,
    balance numeric(12,2) NOT NULL, created_at timestamptz NOT NULL, settings jsonb NOT NULL);
CREATE TABLE conversation (
    id bigint PRIMARY KEY, account_id bigint NOT NULL, title text NOT NULL, started_at timestamptz NOT NULL,
    tags text[] NOT NULL, closed boolean NOT NULL);
CREATE TABLE message (
    id bigint PRIMARY KEY, conversation_id bigint NOT NULL, role text NOT NULL, body text NOT NULL,
    tokens integer NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE event (
    id bigint PRIMARY KEY, account_id bigint NOT NULL, kind text NOT NULL, at timestamptz NOT NULL,
    payload jsonb NOT NULL);
CREATE TABLE measurement (
    series integer NOT NULL, at timestamptz NOT NULL, value double precision NOT NULL, weight numeric(10,4) NOT NULL);
"""

# Pseudo-random numbers come from hashes of the row's number: the same rows every time, on any server of this major.
ROWS = (
    """
INSERT INTO account SELECT i, 'customer' || i || '@example.org', initcap(w.words[1 + i % 150]) || ' ' ||
    initcap(w.words[1 + i / 150 % 150]), (ARRAY['free', 'basic', 'team'])[1 + (hashint8(i) & 1023) % 3],
    (hashint8(i + 1) & 16777215) / 100.0, timestamptz '2024-01-01 UTC' + i * interval '7 minutes',
    jsonb_build_object('theme', (ARRAY['dark', 'light'])[1 + i % 2], 'language', w.words[1 + i % 90],
        'notify', i % 3 = 0, 'limit', hashint8(i) & 4095)
    FROM generate_series(1::bigint, {messages} / 20) i, vocabulary w""",
    """
INSERT INTO conversation SELECT i, 1 + (hashint8(i) & 2147483647) % ({messages} / 20), s.text,
    timestamptz '2024-01-01 UTC' + i * interval '2 minutes', ARRAY[w.words[1 + i % 140], w.words[1 + i % 90]],
    i % 5 = 0
    FROM generate_series(1::bigint, {messages} / 6) i, vocabulary w, sentence s
    WHERE s.id = (hashint8(i + 3) & 2147483647) % {sentences}""",
    """
INSERT INTO message SELECT i, 1 + i / 6, (ARRAY['user', 'assistant'])[1 + i % 2],
    concat_ws(' ', a.text, b.text, CASE WHEN i % 3 > 0 THEN c.text END, CASE WHEN i % 5 > 3 THEN a.text || d.text END),
    hashint8(i) & 511, timestamptz '2024-01-01 UTC' + i * interval '19.3 seconds'
    FROM generate_series(1::bigint, {messages}) i, sentence a, sentence b, sentence c, sentence d
    WHERE a.id = (hashint8(i) & 2147483647) % {sentences} AND b.id = (hashint8(i + 5) & 2147483647) % {sentences}
    AND c.id = (hashint8(i + 7) & 2147483647) % {sentences} AND d.id = (hashint8(i + 11) & 2147483647) % {sentences}""",
    """
INSERT INTO event SELECT i, 1 + (hashint8(i) & 2147483647) % ({messages} / 20), w.words[1 + (hashint8(i) & 1023) % 20],
    timestamptz '2024-01-01 UTC' + i * interval '29 seconds',
    jsonb_build_object('path', '/' || w.words[1 + (hashint8(i) & 4095) % 150] || '/' || (hashint8(i + 2) & 65535),
        'status', (ARRAY[200, 201, 204, 302, 404])[1 + (hashint8(i + 2) & 255) % 5], 'ms', hashint8(i + 4) & 2047,
        'agent', s.text, 'session', md5(i::text))
    FROM generate_series(1::bigint, {messages} / 2) i, vocabulary w, sentence s
    WHERE s.id = (hashint8(i / 9) & 2147483647) % {sentences}""",
    """
INSERT INTO measurement SELECT i % 500, timestamptz '2024-01-01 UTC' + i / 500 * interval '1 minute',
    sin(i / 86400.0) * 40 + (hashint8(i) & 4095) / 256.0, (hashint8(i + 9) & 1048575) / 1000.0
    FROM generate_series(1::bigint, {messages}) i""",
)

INDEXES = """
CREATE UNIQUE INDEX account_email ON account (email);
CREATE INDEX conversation_account ON conversation (account_id, started_at);
ALTER TABLE conversation ADD FOREIGN KEY (account_id) REFERENCES account;
CREATE INDEX message_conversation ON message (conversation_id, created_at);
CREATE INDEX event_account ON event (account_id, at);
CREATE INDEX event_status ON event ((payload ->> 'status'));
CREATE UNIQUE INDEX measurement_series ON measurement (series, at);
"""


def fill(connection: psycopg.Connection[Any], gigabytes: float) -> int:
    """Make the tables in an empty database.

    Args:
        connection: To the database, in autocommit, as a role that may create tables there.
        gigabytes: Size on the server's disk that the database reaches at least, in 10^9 bytes, indexes included.

    Returns:
        The size in bytes.

    Raises:
        RuntimeError: The database turned out smaller, so MESSAGES_PER_GIGABYTE does not hold for this server.
    """
    _make_vocabulary(connection)
    connection.execute(TABLES)
    counts = {"messages": sql.Literal(int(gigabytes * MESSAGES_PER_GIGABYTE)), "sentences": sql.Literal(SENTENCES)}
    for rows in ROWS:
        connection.execute(sql.SQL(rows).format(**counts))
    for index in filter(str.strip, INDEXES.split(";")):
        connection.execute(index.encode())
    connection.execute("DROP TABLE vocabulary, sentence")
    # Hint bits and statistics are written now, not by whichever way happens to read the tables first.
    connection.execute("VACUUM (FREEZE, ANALYZE)")
    if (size := size_bytes(connection)) < gigabytes * 1e9:
        raise RuntimeError(f"the database has {size / 1e9:.2f} GB instead of {gigabytes}: raise MESSAGES_PER_GIGABYTE")
    return size


def grow(connection: psycopg.Connection[Any], gigabytes: float) -> int:
    """Add copies of the messages, as a table without an index, until the database has a size.

    Args:
        connection: To a database that `fill` made, in autocommit.
        gigabytes: Size on the server's disk that the database reaches at least, in 10^9 bytes.

    Returns:
        The size in bytes.
    """
    connection.execute("CREATE TABLE archive AS SELECT 0 AS generation, * FROM message")
    generation = 0
    while (size := size_bytes(connection)) < gigabytes * 1e9:
        generation += 1
        connection.execute("INSERT INTO archive SELECT %s, * FROM message", [generation])
    connection.execute("VACUUM (FREEZE, ANALYZE) archive")
    return size


def size_bytes(connection: psycopg.Connection[Any]) -> int:
    """The size of the connection's database on the server's disk."""
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row
    return int(row[0])


def rows(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """How many rows each table of the connection's database has."""
    found = connection.execute(
        "SELECT c.relname, (xpath('/row/n/text()', query_to_xml(format("
        "'SELECT count(*) AS n FROM %I.%I', n.nspname, c.relname), false, true, '')))[1]::text::bigint"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND n.nspname = 'public'"
    )
    return dict(found.fetchall())


def _make_vocabulary(connection: psycopg.Connection[Any]) -> None:
    """Sentences of 5 to 16 words, from which the texts are put together; some words come more often than others."""
    words = WORDS.split()
    connection.execute(
        "CREATE UNLOGGED TABLE vocabulary AS SELECT %s::text[] AS words, %s::text[] AS endings", [words, ENDINGS]
    )
    connection.execute(
        sql.SQL(
            "CREATE UNLOGGED TABLE sentence AS SELECT s AS id, (SELECT string_agg("
            "w.words[1 + r.n % {words}] || w.endings[1 + r.n / {words}], ' ')"
            " FROM generate_series(1, 5 + (hashint8(s) & 1023) % 12) k, LATERAL (SELECT"
            " floor({forms} * power((hashint8(s * 16::bigint + k) & 16777215) / 16777216.0, 2))::int) r (n))"
            " || '.' AS text"
            " FROM generate_series(0, {sentences} - 1) s, vocabulary w"
        ).format(
            words=sql.Literal(len(words)),
            forms=sql.Literal(len(words) * len(ENDINGS)),
            sentences=sql.Literal(SENTENCES),
        )
    )
    connection.execute("ANALYZE sentence")
