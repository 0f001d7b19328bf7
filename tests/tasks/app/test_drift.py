"""Whether the database is what the applied migrations say: what is missing is told, what is on purpose is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, LiteralString

import pytest

from tasks.app.probing import understood
from tasks.app.problems import problems_of
from tasks.release.plan import Plan
from tests.tasks.app.django_projects import Project

Make = Callable[..., Project]

KEY = '("id", models.BigAutoField(primary_key=True)), '
NAMED = KEY + '("name", models.CharField(max_length=50)), ("code", models.CharField(max_length=9, null=True)),'
VERSIONS = pytest.mark.parametrize("version", ["3.2", "4.2", "5.2"])


def create(model: str, fields: str = NAMED, options: str = "{}") -> str:
    return f'migrations.CreateModel("{model}", [{fields}], options={options}),\n'


def add(model: str, name: str, field: str = "models.IntegerField(null=True)") -> str:
    return f'migrations.AddField("{model}", "{name}", {field}),\n'


def planned(shop: Project, *statements: LiteralString) -> Plan:
    shop.server.execute(*statements, dbname=shop.database)
    return understood(shop.probe())


def told(plan: Plan) -> set[tuple[str, str, str]]:
    """The differences as (rule, migration, subject)."""
    return {
        (problem.rule, problem.migration, problem.subject)
        for problem in plan.problems
        if problem.rule != "unmigrated-changes"  # these projects have migrations and no models
    }


@VERSIONS
def test_what_somebody_changed_by_hand(project: Make, version: str) -> None:
    shop = project(version)
    shop.app("shop", "")
    shop.migration("shop", "0001_initial", create("Order") + create("Item") + create("Basket") + create("Gone"))
    shop.migration(
        "shop",
        "0002_more",
        add("order", "size") + add("order", "tall", "models.TextField(unique=True)"),
        after="0001_initial",
    )
    shop.migration("shop", "0003_one", add("item", "size"), after="0002_more")
    shop.migration("shop", "0004_join", add("item", "orders", 'models.ManyToManyField("shop.Order")'), after="0003_one")
    shop.migration(
        "shop",
        "0005_change",
        'migrations.AlterField("basket", "name", models.CharField(max_length=70)),\n'
        'migrations.RenameField("basket", "code", "sign"),\n'
        'migrations.AlterUniqueTogether("basket", {("name", "sign")}),\n',
        after="0004_join",
    )
    shop.manage("migrate", "-v0")
    assert told(planned(shop)) == set()
    shop.migration("shop", "0006_pending", add("order", "later"), after="0005_change")
    plan = planned(
        shop,
        "DROP TABLE shop_gone",
        "DROP TABLE shop_item_orders",
        "ALTER TABLE shop_item DROP COLUMN size",
        "ALTER TABLE shop_order DROP COLUMN size",
        "ALTER TABLE shop_order DROP COLUMN name",
        "ALTER TABLE shop_order DROP CONSTRAINT shop_order_tall_key",
        "ALTER TABLE shop_order ALTER COLUMN tall DROP NOT NULL",
        "ALTER TABLE shop_item ALTER COLUMN name TYPE varchar(40)",
        "ALTER TABLE shop_item ADD COLUMN extra integer NOT NULL",
        "ALTER TABLE shop_item ADD COLUMN harmless integer NOT NULL DEFAULT 1",
        "ALTER TABLE shop_basket ALTER COLUMN name TYPE text",
        "ALTER TABLE shop_basket ALTER COLUMN sign SET NOT NULL",
        "DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE shop_basket DROP CONSTRAINT ' || conname FROM pg_constraint"
        " WHERE conrelid = 'shop_basket'::regclass AND contype = 'u'); END $$",
    )
    assert [migration.label for migration in plan.pending] == ["shop.0006_pending"]
    assert told(plan) == {
        ("drift", "shop.0001_initial", "shop_gone"),
        ("fake-applied", "shop.0004_join", "shop_item_orders"),
        ("fake-applied", "shop.0003_one", "shop_item.size"),
        ("drift", "shop.0002_more", "shop_order.size"),
        ("drift", "shop.0001_initial", "shop_order.name"),
        ("drift", "shop.0002_more", "shop_order.tall"),
        ("drift", "shop.0001_initial", "shop_item.name"),
        ("drift", "", "shop_item.extra"),
        ("drift", "shop.0005_change", "shop_basket.name"),
        ("drift", "shop.0005_change", "shop_basket.sign"),
        ("drift", "shop.0001_initial", "shop_basket.name, sign"),
    }
    severities = {problem.subject: problem.severity for problem in plan.problems if problem.rule == "drift"}
    assert severities["shop_order.name"] == "blocked"  # a pending migration works on that table
    assert severities["shop_gone"] == "unknown"
    assert severities["shop_item.name"] == "medium"
    [typed] = [problem for problem in plan.problems if problem.subject == "shop_item.name"]
    assert "shop_item.name is character varying(40)" in typed.message
    assert "character varying(50)" in typed.message
    assert typed.file == "shop/migrations/0001_initial.py"
    assert sum(problem.subject == "shop_order.tall" for problem in plan.problems) == 2  # its NULLs, its duplicates


@VERSIONS
def test_what_is_on_purpose_is_not_told(project: Make, version: str) -> None:
    shop = project(version)
    shop.apps = [f"django.contrib.{name}" for name in ("contenttypes", "auth", "sessions")]
    shop.app("shop", "")
    shop.server.execute(
        "CREATE EXTENSION citext",
        "CREATE DOMAIN word AS text NOT NULL",
        'CREATE SCHEMA "Other"',
        "CREATE TABLE shop_part (id bigint, name varchar(50) NOT NULL, code varchar(9), PRIMARY KEY (id, name))"
        " PARTITION BY LIST (name)",
        "CREATE VIEW shop_view AS SELECT id, name, code FROM shop_part",
        dbname=shop.database,
    )
    everything = KEY + ", ".join(
        f'("f{number}", models.{field})'
        for number, field in enumerate(
            [
                "BooleanField(default=True)", "DecimalField(max_digits=10, decimal_places=2)", "FloatField()",
                "DateField()", "DateTimeField(auto_now=True)", "TimeField()", "DurationField()", "UUIDField()",
                "JSONField(default=dict)", "BinaryField()", "GenericIPAddressField()", "SlugField(unique=True)",
                "EmailField(blank=True)", "FileField()", "PositiveSmallIntegerField()", "TextField(null=True)",
                'ForeignKey("auth.User", models.CASCADE)', 'OneToOneField("auth.Group", models.CASCADE)',
                'ManyToManyField("auth.User", related_name="+")',
            ]
        )
    )  # fmt: skip
    arrays = KEY + '("tags", ArrayField(ArrayField(models.CharField(max_length=5), size=3)))'
    shop.migration(
        "shop",
        "0001_initial",
        create("All", everything)
        + create("Arrays", arrays)
        + create("Unmanaged", options='{"managed": False}')
        + create("Quoted", options='{"db_table": \'"Other"."Table Ü"\'}')
        + create("Soft") + create("Sign") + create("Big") + create("Kept")
        + 'migrations.CreateModel("Child", [("soft_ptr", models.OneToOneField("shop.Soft", models.CASCADE, '
        'parent_link=True, primary_key=True, auto_created=True, serialize=False))], bases=("shop.soft",)),\n'
        + 'migrations.CreateModel("Proxy", [], options={"proxy": True}, bases=("shop.soft",)),\n'
        + "migrations.SeparateDatabaseAndState(state_operations=["
        + create("Part") + create("View") + "]),",
        head="from django.contrib.postgres.fields import ArrayField",
        body='dependencies += [("auth", "__first__")]',
    )  # fmt: skip
    shop.migration(
        "shop",
        "0002_sql",
        """
        migrations.RunSQL("ALTER TABLE shop_soft ALTER COLUMN name TYPE citext, ALTER COLUMN code TYPE word"),
        migrations.RunSQL("ALTER TABLE shop_big ALTER COLUMN name TYPE text, ALTER COLUMN code SET NOT NULL"),
        migrations.RunSQL("ALTER TABLE shop_sign ALTER name DROP NOT NULL, ADD CHECK (name IS NOT NULL)"),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("kept", "name")]),
        migrations.RunSQL("ALTER TABLE shop_kept ALTER COLUMN name DROP NOT NULL"),
        migrations.RenameModel("Big", "Huge"),
        migrations.AlterField("Sign", "id", models.AutoField(primary_key=True)),
        """,
        after="0001_initial",
    )
    shop.manage("migrate", "-v0")
    plan = planned(shop)
    assert plan.pending == ()
    assert told(plan) == set()


@VERSIONS
def test_a_model_is_on_its_way_to_another_app(project: Make, version: str) -> None:
    shop, state = project(version), "migrations.SeparateDatabaseAndState(state_operations=[{}]),"
    shop.app("shop", "")
    shop.app("post", "")
    shop.migration("shop", "0001_initial", create("Letter") + create("Stamp") + create("Box"))
    shop.migration(
        "post",
        "0001_initial",
        state.format(create("Letter", options='{"db_table": "shop_letter"}'))
        + state.format(create("Stamp", options='{"db_table": "shop_stamp"}')),
        body='dependencies += [("shop", "0001_initial")]',
    )
    shop.migration(
        "post",
        "0002_own_names",
        'migrations.AlterModelTable("letter", None),\n'
        'migrations.SeparateDatabaseAndState(database_operations=[migrations.AlterModelTable("stamp", "post_stamp")],'
        ' state_operations=[migrations.AlterModelTable("stamp", "post_stamp")]),',
        after="0001_initial",
    )
    shop.manage("migrate", "-v0")
    shop.migration(
        "shop",
        "0002_moved",
        state.format(", ".join(f'migrations.DeleteModel("{model}")' for model in ("Letter", "Stamp", "Box"))),
        after="0001_initial",
    )
    assert told(planned(shop)) == set()
    plan = planned(shop, "DROP TABLE shop_box")
    assert told(plan) == {("drift", "shop.0001_initial", "shop_box")}
    # The pending migration only takes it out of the models: it does not fail.
    assert [problem.severity for problem in plan.problems if problem.rule == "drift"] == ["unknown"]


def test_a_router_says_whose_tables_are_where(project: Make) -> None:
    shop = project("5.2")
    shop.app("shop", "")
    shop.write(
        "routers.py",
        "class Elsewhere:\n    def allow_migrate(self, db, app_label, **hints):\n        return app_label != 'shop'\n",
    )
    shop.routers = ["routers.Elsewhere"]
    shop.settings()
    shop.migration("shop", "0001_initial", create("Item"))
    shop.manage("migrate", "-v0")
    assert told(planned(shop)) == set()


def test_what_pending_migrations_make_and_is_there(project: Make) -> None:
    shop = project("5.2")
    shop.app("shop", "")
    shop.migration("shop", "0001_initial", create("Item"))
    shop.manage("migrate", "-v0")
    shop.migration("shop", "0002_size", add("item", "size") + add("item", "fine"), after="0001_initial")
    shop.migration("shop", "0003_order", create("Order"), after="0002_size")
    shop.migration("shop", "0004_again", 'migrations.DeleteModel("Order"),\n' + create("Order"), after="0003_order")
    shop.migration(
        "shop", "0005_sql", 'migrations.RunSQL("DROP TABLE shop_old"),\n' + create("Old"), after="0004_again"
    )
    shop.migration(
        "shop",
        "0006_state",
        "migrations.SeparateDatabaseAndState(state_operations=[" + create("Ready") + "]),",
        after="0005_sql",
    )
    shop.migration(
        "shop", "0007_code", "migrations.RunPython(fill),", after="0006_state", head="def fill(apps, editor): pass"
    )
    shop.migration("shop", "0008_name", 'migrations.RenameField("item", "code", "sign"),', after="0007_code")
    shop.migration(
        "shop",
        "0009_drops",
        "migrations.RunPython(drop),",
        after="0008_name",
        head="def drop(apps, editor): editor.execute('DROP TABLE shop_last')",
    )
    shop.migration("shop", "0010_last", create("Last"), after="0009_drops")
    plan = planned(
        shop,
        "ALTER TABLE shop_item ADD COLUMN size integer, ADD COLUMN sign integer",
        "CREATE TABLE shop_order ()",
        "CREATE TABLE shop_old ()",
        "CREATE TABLE shop_ready ()",
        "CREATE TABLE shop_last ()",
    )
    assert told(plan) == {
        ("already-exists", "shop.0002_size", "shop_item.size"),
        ("already-exists", "shop.0003_order", "shop_order"),
        ("already-exists", "shop.0008_name", "shop_item.sign"),
    }
    [size] = [problem for problem in plan.problems if problem.subject == "shop_item.size"]
    assert (size.severity, size.file, size.line) == ("blocked", "shop/migrations/0002_size.py", 8)


def test_a_unique_index_that_is_invalid(project: Make) -> None:
    shop = project("5.2")
    shop.app("shop", "")
    shop.migration("shop", "0001_initial", create("Item") + add("item", "sign", "models.IntegerField(unique=True)"))
    shop.manage("migrate", "-v0")
    plan = planned(
        shop,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop_item_sign_key'::regclass",
    )
    [problem] = [problem for problem in plan.problems if problem.rule == "drift"]
    assert "shop_item (sign) has an INVALID index" in problem.message


def test_what_cannot_be_compared_is_unknown() -> None:
    answer: dict[str, Any] = {
        "broken": [],
        "consistent": None,
        "conflicts": [],
        "squashes": [],
        "unmigrated": [],
        "plan": [],
        "drift": None,
        "drift_because": "OperationalError: canceled",
    }
    [problem] = problems_of(answer)
    assert (problem.rule, problem.severity) == ("drift", "unknown")
    assert "OperationalError: canceled" in problem.message
