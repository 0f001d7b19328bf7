"""The resident: what each statement of a migration does, and what is left of it when it is reversed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.app.residence import MigrationRecord, Residence
from tests.tasks.app.django_projects import Project
from tests.tasks.app.scratch import Scratch, scratch_of

__all__ = ["scratch_of"]

ORDER = """
class Order(models.Model):
    number = models.IntegerField()
    note = models.TextField(blank=True)
"""
WARE = """
class Ware(models.Model):
    preis = models.IntegerField()
    class Meta:
        db_table = "Wäre 'n"
"""
FILL = "INSERT INTO shop_order (number, note) SELECT n, 'note ' || n FROM generate_series(1, 3000) n"
EXCLUSIVE = "AccessExclusiveLock"


@pytest.fixture
def shop(project: Callable[[str], Project], scratch_of: Callable[..., Scratch]) -> Callable[[str], Scratch]:
    """Return a function that makes a shop with a filled table on a Django version."""

    def make(version: str = "5.2") -> Scratch:
        made = project(version)
        made.app("shop", ORDER)
        made.migration(
            "shop",
            "0001_initial",
            """
            migrations.CreateModel("Order", fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
                ("note", models.TextField(blank=True)),
            ]),
            """,
        )
        return scratch_of(made, FILL)

    return make


def pending(
    scratch: Scratch, operations: str, name: str = "0002_next", after: str = "0001_initial", **more: str
) -> None:
    scratch.project.migration("shop", name, operations, after=after, **more)


def migrate(app: Residence) -> MigrationRecord:
    done = app.migrate()
    assert done.error is None, done.error
    return done.migrations[-1]


def modes(record: MigrationRecord) -> dict[str, str]:
    return {lock.relation: lock.mode for lock in record.locks}


@pytest.mark.parametrize("version", ["3.2", "4.2", "5.2"])
def test_locks_rewrites_rows_and_times(shop: Callable[[str], Scratch], version: str) -> None:
    scratch = shop(version)
    pending(scratch, 'migrations.AddField("Order", "paid", models.BooleanField(null=True)),')
    pending(scratch, 'migrations.AlterField("Order", "number", models.BigIntegerField()),', "0003_big", "0002_next")
    pending(
        scratch,
        'migrations.AddIndex("Order", models.Index(fields=["number"], name="by_number")),',
        "0004_index",
        "0003_big",
    )
    pending(
        scratch,
        "migrations.RunPython(fill, migrations.RunPython.noop),",
        "0005_fill",
        "0004_index",
        head="""
        def fill(apps, schema_editor):
            for order in apps.get_model("shop", "Order").objects.all()[:500]:
                order.paid = True
                order.save()
        """,
    )
    pending(
        scratch,
        "migrations.RunSQL(\"UPDATE shop_order SET note = 'x' WHERE id <= 10\", migrations.RunSQL.noop),",
        "0006_sql",
        "0005_fill",
    )
    pending(
        scratch,
        'concurrently.AddIndexConcurrently("Order", models.Index(fields=["note"], name="by_note")),',
        "0007_concurrently",
        "0006_sql",
        head="from django.contrib.postgres import operations as concurrently",
        body="atomic = False",
    )
    before: list[str] = []
    after: list[str] = []
    with scratch.resident() as app:
        assert app.hello.django.startswith(version)
        assert app.hello.driver.startswith("psycopg2 2." if version == "3.2" else "psycopg 3.")
        assert (app.hello.database, app.hello.pooled) == (scratch.name, False)
        assert len(app.plan().pending) == 6
        done = app.migrate(before=before.append, after=lambda record: after.append(record.migration))
    assert done.error is None
    assert before == after == [record.migration for record in done.migrations]
    add, big, index, loop, update, concurrently = done.migrations

    assert add.migration == "shop.0002_next"
    assert modes(add) == {"public.shop_order": EXCLUSIVE}
    assert add.rewrites == ()
    [lock] = add.locks
    assert lock.blocks == "reads and writes"
    assert 0 < lock.held_s <= add.seconds
    assert add.blocking_s == pytest.approx(lock.held_s)
    assert add.statements[0].locks == {"public.shop_order": EXCLUSIVE}

    assert {"public.shop_order", "public.shop_order_pkey"} <= set(big.rewrites)
    assert modes(big)["public.shop_order"] == EXCLUSIVE
    assert all(lock.relation.startswith("public.shop_order") for lock in big.locks)  # its TOAST table is not told apart

    assert modes(index) == {"public.shop_order": "ShareLock"}
    assert index.locks[0].blocks == "writes"
    assert index.rewrites == ()

    assert loop.rows == {"public.shop_order": 500}
    # No table is locked, but every row from its update to the end of the transaction.
    assert loop.blocking_s == pytest.approx(loop.locks[0].held_s)
    [update_one] = [statement for statement in loop.statements if statement.sql.startswith("UPDATE")]
    assert (update_one.count, update_one.rows) == (500, 500)
    assert "%s" in update_one.sql
    assert modes(loop) == {"public.shop_order": "RowExclusiveLock"}

    assert update.rows == {"public.shop_order": 10}

    assert modes(concurrently)["public.shop_order"] == "ShareUpdateExclusiveLock"
    assert concurrently.blocking_s == 0
    assert scratch.ask(
        "select count(*)::int from pg_index join pg_class on oid = indexrelid where relname ~ '^by_'"
    ) == [(2,)]
    assert scratch.ask("select count(*)::int from django_migrations", scratch.project.database) == [(1,)]


def test_a_failed_migration_is_told_and_nothing_comes_after_it(shop: Callable[[str], Scratch]) -> None:
    scratch = shop("5.2")
    pending(scratch, 'migrations.AddField("Order", "paid", models.BooleanField(null=True)),')
    pending(
        scratch,
        "migrations.RunSQL([\"UPDATE shop_order SET note = 'kept back'\", "
        '"ALTER TABLE shop_order ADD CONSTRAINT one UNIQUE (note)"]),',
        "0003_fails",
        "0002_next",
    )
    pending(scratch, "", "0004_never", "0003_fails")
    with scratch.resident() as app:
        done = app.migrate()
        again = app.migrate(events=False)
    assert [(record.migration, bool(record.error)) for record in done.migrations] == [
        ("shop.0002_next", False),
        ("shop.0003_fails", True),
    ]
    failed = done.migrations[-1]
    assert failed.error is not None
    assert failed.error == done.error
    assert failed.error.sqlstate == "23505"
    assert "kept back" not in failed.error.message  # which stands in PostgreSQL's DETAIL
    assert failed.rows == {}
    assert again.error == done.error
    assert [(record.migration, record.statements) for record in again.migrations] == [("shop.0003_fails", ())]


def test_one_migration_is_reversed_or_it_is_said_why_not(shop: Callable[[str], Scratch]) -> None:
    scratch = shop("5.2")
    pending(scratch, 'migrations.AddField("Order", "paid", models.BooleanField(null=True)),')
    pending(
        scratch, "migrations.RunPython(one_way),", "0003_one_way", "0002_next", head="def one_way(apps, editor): pass\n"
    )
    with scratch.resident() as app:
        assert app.migrate(("shop", "0002_next")).error is None
        reversed_ = app.reverse("shop.0002_next")
        assert (reversed_.error, reversed_.irreversible_because) == (None, "")
        assert modes(reversed_) == {"public.shop_order": EXCLUSIVE}
        assert scratch.ask("select name from django_migrations") == [("0001_initial",)]

        assert app.migrate().error is None
        both = app.reverse("shop.0002_next")
        assert both.error is not None
        assert both.error.message == "shop.0002_next would be reversed with it: shop.0003_one_way"
        stuck = app.reverse("shop.0003_one_way")
        assert stuck.irreversible_because == "RunPython shop.migrations.0003_one_way.one_way has no reverse_code"
        unknown = app.reverse("shop.0009_nothing")
        assert unknown.error is not None
        assert unknown.error.type == "Refused"
    assert len(scratch.ask("select name from django_migrations")) == 3


def test_the_only_migration_of_an_app_is_reversed_to_zero(shop: Callable[[str], Scratch]) -> None:
    scratch = shop("5.2")
    with scratch.resident() as app:
        assert app.reverse("shop.0001_initial").error is None
        assert scratch.ask("select to_regclass('shop_order')") == [(None,)]
        assert app.migrate().error is None


def test_names_schemas_and_transactions_of_the_applications_own(
    project: Callable[[str], Project], scratch_of: Callable[..., Scratch]
) -> None:
    """A schema by search_path, quoted and non-ASCII names, noise on standard output, many short transactions."""
    made = project("5.2")
    made.app("laden", WARE)
    settings = made.home / "site_settings.py"
    settings.write_text(
        settings.read_text()
        + 'DATABASES["default"]["OPTIONS"] = {"options": "-c search_path=\\"Läden\\",public", "service": "nowhere"}\n'
        + 'DATABASES["default"]["CONN_MAX_AGE"] = 60\n'
    )
    made.migration(
        "laden",
        "0001_initial",
        """
        migrations.CreateModel("Ware", fields=[
            ("id", models.BigAutoField(primary_key=True, serialize=False)),
            ("preis", models.IntegerField()),
        ], options={"db_table": "Wäre 'n"}),
        """,
    )
    (made.home / "site_settings.py").write_text(settings.read_text().replace(', "service": "nowhere"', ""))
    made.server.execute('CREATE SCHEMA "Läden"', dbname=made.database)
    scratch = scratch_of(made, 'INSERT INTO "Läden"."Wäre \'n" (preis) SELECT n FROM generate_series(1, 900) n')
    settings.write_text(settings.read_text().replace('public"', 'public", "service": "nowhere"'))
    made.migration(
        "laden",
        "0002_loop",
        "migrations.RunPython(fill, migrations.RunPython.noop),",
        after="0001_initial",
        body="atomic = False",
        head="""
        from django.db import transaction

        def fill(apps, schema_editor):
            print("noise" * 50000)
            for ware in apps.get_model("laden", "Ware").objects.all():
                with transaction.atomic():
                    ware.preis += 1
                    ware.save()
        """,
    )
    made.migration(
        "laden",
        "0003_big",
        'migrations.AlterField("Ware", "preis", models.BigIntegerField()),',
        after="0002_loop",
        body="atomic = False",
    )
    name = '"Läden"."Wäre \'n"'
    with scratch.resident() as app:
        done = app.migrate()
    assert done.error is None, done.error
    loop, big = done.migrations
    assert loop.rows == {name: 900}
    assert big.rewrites[0] == name
    assert modes(big)[name] == EXCLUSIVE  # outside a transaction, and yet seen


def test_statements_are_told_without_what_is_taken_from_rows(shop: Callable[[str], Scratch]) -> None:
    scratch = shop("5.2")
    pending(
        scratch,
        "migrations.AddField('Order', 'state', models.CharField(max_length=7, default='new')), "
        "migrations.RunSQL(\"UPDATE shop_order SET note = 'written' WHERE id = 4711\"), migrations.RunPython(fill),",
        head="from django.db import connection\n\n"
        "def fill(apps, schema_editor):\n"
        "    with connection.cursor() as cursor:\n"
        "        cursor.execute('SELECT note, id + 880000 FROM shop_order WHERE id = 7')\n"
        "        note, number = cursor.fetchone()\n"
        "        cursor.execute(f\"UPDATE shop_order SET note = 'it''s {note}' WHERE id + 880000 = {number}\")\n"
        '        cursor.execute(f"COMMENT ON TABLE shop_order IS $q$as {note}$q$")\n',
    )
    with scratch.resident() as app:
        told = [statement.sql for statement in migrate(app).statements]
    assert "UPDATE shop_order SET note = 'written' WHERE id = 4711" in told
    assert any("varchar(7) DEFAULT 'new'" in text for text in told)
    assert any(text.startswith("UPDATE shop_order SET note = '***' WHERE") for text in told)
    assert "COMMENT ON TABLE shop_order IS '***'" in told
    assert not any("note 7" in text or "880007" in text for text in told)


LOOPS = {
    "parameters": "cursor.execute('UPDATE shop_order SET number = number + 1 WHERE id = %s', [n])",
    "literals": "cursor.execute(f\"UPDATE shop_order SET note = 'private {n}' WHERE id = {n}\")",
    "transactions": (
        "with transaction.atomic():\n"
        "            cursor.execute('UPDATE shop_order SET number = number + 1 WHERE id = %s', [n])"
    ),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_over_rows_is_recorded_briefly_and_stays_fast(shop: Callable[[str], Scratch], loop: str) -> None:
    scratch = shop("5.2")
    pending(
        scratch,
        "migrations.RunPython(fill, migrations.RunPython.noop),",
        body="atomic = False" if loop == "transactions" else "",
        head="from django.db import connection, transaction\n\n"
        "def fill(apps, schema_editor):\n"
        "    with connection.cursor() as cursor:\n"
        f"        for n in range(1, 3001):\n            {LOOPS[loop]}\n".replace(
            "\n            with", "\n          with"
        ),
    )
    with scratch.resident() as app:
        recorded = app.migrate()
        app.reverse("shop.0002_next")
        bare = app.migrate(events=False)
    [record] = recorded.migrations
    assert record.rows == {"public.shop_order": 3000}
    assert sum(statement.count for statement in record.statements) == 3000
    assert len(record.statements) <= 201
    assert "private 2999" not in str(record)
    assert recorded.seconds < 3 * bare.seconds + 0.5
