"""The probe is started by real management commands of real Django projects on a real server."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import socket
import stat
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.tasks.app.django_projects import PROBE, Project
from tests.tasks.backup.relay import Relay

Make = Callable[..., Project]
Answer = dict[str, Any]

ITEM = """
    migrations.CreateModel("Item", [
        ("id", models.BigAutoField(primary_key=True, serialize=False)),
        ("name", models.CharField(max_length=50)),
        ("size", models.IntegerField()),
    ]),
"""
MODEL = """
class Item(models.Model):
    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=50)
    size = models.IntegerField()
"""
PYTHON = """
def fill(apps, schema_editor):
    open("python-ran", "w").close()

def empty(apps, schema_editor):
    open("python-ran", "w").close()
"""
VERSIONS = pytest.mark.parametrize("version", ["oldest", "3.2", "4.2", "5.2", "newest"])


@pytest.fixture
def shop(project: Make) -> Project:
    """A project whose first migration is applied."""
    return migrated(project("5.2"))


def migrated(made: Project) -> Project:
    made.app("shop", MODEL)
    made.migration("shop", "0001_initial", ITEM)
    made.manage("migrate", "-v0")
    return made


def entry(answer: Answer, name: str) -> Answer:
    assert answer["error"] is None
    found: Answer = next(step for step in answer["plan"] if step["name"] == name)
    return found


def forward(step: Answer) -> str:
    return "\n".join(step["sql"]["forward"]["statements"])


def only(step: Answer, kind: str) -> Answer:
    found: list[Answer] = [op for op in step["operations"] if op["kind"] == kind]
    assert len(found) == 1
    return found[0]


def test_the_files_are_python_3_6() -> None:
    files = [PROBE, *PROBE.parent.glob("probe_*.py")]
    assert len(files) == 6
    for file in files:
        ast.parse(file.read_text(), feature_version=(3, 6))


# -- what is reached -------------------------------------------------------------------------------------------------


def test_identity_is_what_the_connection_reached(shop: Project) -> None:
    answer = shop.probe("identity")
    found = answer["identity"]
    assert answer["error"] is None
    assert "plan" not in answer
    assert (found["database"], found["user"]) == (shop.database, "postgres")
    assert (found["host"], found["port"], found["server_port"]) == (
        "127.0.0.1",
        str(shop.server.port),
        shop.server.port,
    )
    assert (found["lock_timeout_ms"], found["statement_timeout_ms"]) == (1500, 0)
    assert found["application_name"] == "shop web"
    assert int(found["system_identifier"]) > 0


def test_the_schema_of_the_history_is_that_of_the_session(project: Make) -> None:
    shop = project("5.2")
    shop.server.execute('CREATE SCHEMA "Own"', dbname=shop.database)
    shop.server.execute(f'ALTER DATABASE "{shop.database}" SET search_path = "Own"')
    assert shop.probe("identity")["identity"]["migrations_schema"] is None
    migrated(shop)
    assert shop.probe("identity")["identity"]["migrations_schema"] == "Own"


class Pooler(Relay):
    """Tells its clients another backend's number, as PgBouncer does."""

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                other.sendall(re.sub(rb"(?s)K\0\0\0\x0c....", b"K\0\0\0\x0c\0\0\0\x07", content))
            other.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("version", ["3.2", "5.2"])  # psycopg2 and psycopg 3
def test_a_pooler_in_between_is_noticed(project: Make, version: str) -> None:
    shop = project(version)
    assert shop.probe("identity")["identity"]["pooled"] is False
    pooler = Pooler(shop.server.port)
    settings = shop.home / "site_settings.py"
    settings.write_text(settings.read_text().replace(f'"PORT": {shop.server.port}', f'"PORT": {pooler.port}'))
    try:
        assert shop.probe("identity")["identity"]["pooled"] is True
    finally:
        pooler.refuse()
        pooler.cut()


@VERSIONS
def test_it_tells_where_the_code_came_from(project: Make, version: str) -> None:
    shop = project(version)
    shop.app("shop", MODEL)
    assert shop.probe("identity")["code"] == {
        "site_settings": str(shop.home / "site_settings.py"),
        "shop": str(shop.home / "shop"),
    }


def test_a_refused_connection_is_an_answer_without_the_password(shop: Project) -> None:
    settings = shop.home / "site_settings.py"
    settings.write_text(
        settings.read_text().replace("'USER'", '"USER"').replace('"USER": "postgres"', '"USER": "nobody"')
    )
    error = shop.probe("identity")["error"]
    assert error["type"] == "OperationalError"
    assert "nobody" in error["message"]
    assert error["where"]


@pytest.mark.parametrize("form", ["manage.py", "module", "own program", "variables in front"])
def test_every_form_of_management_command(shop: Project, form: str) -> None:
    shop.write("shopadmin/__init__.py", "")
    shop.write("shopadmin/__main__.py", (shop.home / "manage.py").read_text())
    program = shop.write(
        "shopctl", f"#!{shop.python}\nimport sys; sys.path.insert(0, '.')\n" + (shop.home / "manage.py").read_text()
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    prefix = {
        "manage.py": [str(shop.python), "manage.py"],
        "module": [str(shop.python), "-m", "shopadmin"],
        "own program": [str(program)],
        "variables in front": ["env", "FOO=bar", str(shop.python), "manage.py"],
    }[form]
    assert shop.probe("identity", prefix=prefix)["identity"]["database"] == shop.database


# -- the plan --------------------------------------------------------------------------------------------------------


@VERSIONS
def test_operations_of_a_release(project: Make, version: str) -> None:
    shop = migrated(project(version))
    shop.migration(
        "shop",
        "0002_change",
        """
        migrations.AddField("item", "key", models.UUIDField(default=uuid.uuid4, unique=True)),
        migrations.AddField("item", "note", models.CharField(max_length=9, default="x"), preserve_default=False),
        migrations.AlterField("item", "name", models.CharField(max_length=80, null=True)),
        migrations.RenameField("item", "size", "weight"),
        migrations.AddIndex("item", models.Index(fields=["-weight"], name="by_weight")),
        migrations.AddConstraint("item", models.UniqueConstraint(fields=["name", "weight"], name="once")),
        migrations.AddConstraint("item", models.UniqueConstraint(
            fields=["name"], condition=models.Q(weight__gt=3), name="once_if_heavy")),
        migrations.AddField("item", "parent", models.ForeignKey("shop.Item", models.CASCADE, null=True)),
        migrations.RemoveField("item", "note"),
        migrations.RunSQL("UPDATE shop_item SET name = ''", reverse_sql=migrations.RunSQL.noop),
        """,
        after="0001_initial",
        head="import uuid\n",
    )
    step = entry(shop.probe("plan"), "0002_change")
    facts = {op["kind"]: op for op in reversed(step["operations"])}

    key = facts["AddField"]["fields"][0]["new"]
    assert (facts["AddField"]["table"], facts["AddField"]["column"]) == ("shop_item", "key")
    assert (key["type"], key["null"], key["unique"], key["default"]) == ("uuid", False, True, "callable")
    assert key["default_callable"] == "uuid.uuid4"
    assert step["operations"][1]["fields"][0]["new"]["default"] == "constant"
    name = facts["AlterField"]["fields"][0]
    assert (name["old"]["type"], name["new"]["type"], name["new"]["null"]) == ("varchar(50)", "varchar(80)", True)
    assert (facts["RenameField"]["old_name"], facts["RenameField"]["new_name"]) == ("size", "weight")
    assert facts["AddIndex"]["index"]["columns"] == ["weight"]
    assert not facts["AddIndex"]["index"]["concurrent"]
    assert facts["AddConstraint"]["constraint"]["columns"] == ["name", "weight"]
    heavy = step["operations"][6]["constraint"]
    assert (heavy["unique"], heavy["condition"]) == (True, True)
    assert heavy["sql"].startswith('CREATE UNIQUE INDEX "once_if_heavy"')
    parent = step["operations"][7]["fields"][0]["new"]
    assert parent["references"] == {"table": "shop_item", "column": "id", "constraint": True}
    assert parent["type"] == "bigint"
    assert facts["RemoveField"]["fields"][0]["old"]["type"] == "varchar(9)"
    assert facts["RunSQL"]["sql"] == ["UPDATE shop_item SET name = ''"]

    assert step["reversible"]
    assert not step["from_dependency"]
    assert step["file"] == "shop/migrations/0002_change.py"
    assert 'RENAME COLUMN "size" TO "weight"' in forward(step)
    assert 'ADD COLUMN "parent_id" bigint NULL CONSTRAINT' in forward(step)
    assert any('DROP COLUMN "key"' in sql for sql in step["sql"]["backward"]["statements"])


@VERSIONS
def test_the_sql_is_what_sqlmigrate_prints(project: Make, version: str) -> None:
    shop = migrated(project(version))
    shop.migration(
        "shop",
        "0002_more",
        """
        migrations.CreateModel("Box", [
            ("id", models.BigAutoField(primary_key=True)),
            ("item", models.ForeignKey("shop.Item", models.CASCADE, related_name="+")),
            ("others", models.ManyToManyField("shop.Item")),
        ], options={"unique_together": {("id", "item")}}),
        migrations.AlterField("item", "id", models.AutoField(primary_key=True)),
        migrations.RenameModel("Item", "Thing"),
        """,
        after="0001_initial",
    )
    step = entry(shop.probe("plan"), "0002_more")
    printed = shop.manage("sqlmigrate", "shop", "0002").stdout.splitlines()
    expected = [line for line in printed if line.startswith(("CREATE", "ALTER", "DROP", "SELECT", "SET"))]
    assert [sql for sql in step["sql"]["forward"]["statements"] if not sql.startswith("--")] == expected


@VERSIONS
def test_python_is_named_and_never_run(project: Make, version: str) -> None:
    shop = migrated(project(version))
    shop.migration(
        "shop",
        "0002_fill",
        """
        migrations.AddField("item", "colour", models.IntegerField(null=True)),
        migrations.RunPython(fill, empty, elidable=True),
        migrations.SeparateDatabaseAndState(database_operations=[migrations.RunPython(fill, empty)]),
        Checked(database_operations=[migrations.RunPython(fill, empty)]),
        """,
        after="0001_initial",
        head=PYTHON
        + """
class Checked(migrations.SeparateDatabaseAndState):
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        super().database_forwards(app_label, schema_editor, from_state, to_state)
""",
    )
    shop.migration("shop", "0003_gone", "migrations.RunPython(fill),", after="0002_fill", head=PYTHON)
    answer = shop.probe("plan")
    step = entry(answer, "0002_fill")
    python = step["operations"][1]
    assert python["code"] == {
        "name": "shop.migrations.0002_fill.fill",
        "file": "shop/migrations/0002_fill.py",
        "line": 3,
    }
    assert python["reverse_code"]["name"].endswith(".empty")
    assert (python["reversible"], python["elidable"]) == (True, True)
    assert step["reversible"]
    assert step["sql"]["forward"]["partial"]
    assert step["sql"]["forward"]["because"] == ["RunPython shop.migrations.0002_fill.fill is not SQL"] * 3
    assert 'ADD COLUMN "colour"' in forward(step)

    gone = entry(answer, "0003_gone")
    assert not gone["reversible"]
    assert gone["irreversible_because"] == "RunPython shop.migrations.0003_gone.fill has no reverse_code"
    assert gone["sql"]["backward"]["statements"] is None
    assert not (shop.home / "python-ran").exists()


def test_one_migration_that_cannot_be_rendered_does_not_hide_the_others(shop: Project) -> None:
    shop.migration(
        "shop",
        "0002_index",
        'AddIndexConcurrently("item", models.Index(fields=["name"], name="a")),',
        after="0001_initial",
        head="from django.contrib.postgres.operations import AddIndexConcurrently\n",
    )
    shop.migration("shop", "0003_missing", 'migrations.RemoveField("item", "never_there"),', after="0002_index")
    shop.migration(
        "shop",
        "0004_right",
        'AddIndexConcurrently("item", models.Index(fields=["name"], name="b")),',
        after="0003_missing",
        head="from django.contrib.postgres.operations import AddIndexConcurrently\n",
        body="atomic = False\n",
    )
    answer = shop.probe("plan")
    index = entry(answer, "0002_index")
    assert index["sql"]["forward"]["statements"] is None
    assert index["sql"]["forward"]["because"][0].startswith("NotSupportedError: ")
    assert only(index, "AddIndexConcurrently")["index"]["concurrent"]
    missing = entry(answer, "0003_missing")
    assert missing["sql"]["forward"]["statements"] is None
    assert "never_there" in missing["sql"]["forward"]["because"][0]
    right = entry(answer, "0004_right")
    assert not right["atomic"]
    assert forward(right).startswith('CREATE INDEX CONCURRENTLY "b"')


def test_an_operation_that_writes_is_stopped_and_unknown(shop: Project) -> None:
    shop.migration(
        "shop",
        "0002_writes",
        "Writes(),",
        after="0001_initial",
        body="atomic = False\n",
        head="""
class Writes(migrations.operations.base.Operation):
    def state_forwards(self, app_label, state): pass
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        from_state.apps.get_model("shop", "Item").objects.create(name="x", size=1)
""",
    )
    shop.migration(
        "shop", "0003_adds", 'migrations.AddField("item", "a", models.IntegerField(null=True)),', after="0002_writes"
    )
    answer = shop.probe("plan")
    step = entry(answer, "0002_writes")
    assert "read-only transaction" in step["sql"]["forward"]["because"][0]
    assert step["irreversible_because"] == "Writes is not reversible"
    assert 'ADD COLUMN "a"' in forward(entry(answer, "0003_adds"))


def test_what_is_held_by_other_operations_is_listed(shop: Project) -> None:
    shop.migration(
        "shop",
        "0002_split",
        """
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField("item", "size")],
            database_operations=[migrations.AlterField("item", "size", models.IntegerField(null=True))],
        ),
        migrations.RunSQL("SELECT 1", state_operations=[migrations.AddField("item", "seen", models.JSONField())]),
        """,
        after="0001_initial",
    )
    step = entry(shop.probe("plan"), "0002_split")
    told = [(op["position"], op["kind"], op["state_only"], op["database_only"]) for op in step["operations"]]
    assert told == [
        ("0", "SeparateDatabaseAndState", False, False),
        ("0.database.0", "AlterField", False, True),
        ("0.state.0", "RemoveField", True, False),
        ("1", "RunSQL", False, False),
        ("1.state.0", "AddField", True, False),
    ]
    assert forward(step) == 'ALTER TABLE "shop_item" ALTER COLUMN "size" DROP NOT NULL;\nSELECT 1;'
    assert step["irreversible_because"] == "RunSQL has no reverse_sql"


def test_constraints_of_tables_that_are_not_there_yet_are_not_guessed_silently(project: Make) -> None:
    shop = project("5.2")
    shop.app("shop", MODEL)
    shop.migration("shop", "0001_initial", ITEM)
    shop.migration(
        "shop",
        "0002_key",
        'migrations.AddField("item", "up", models.ForeignKey("shop.Item", models.CASCADE, null=True)),',
        after="0001_initial",
    )
    shop.migration("shop", "0003_back", 'migrations.RemoveField("item", "up"),', after="0002_key")
    step = entry(shop.probe("plan"), "0003_back")
    assert step["sql"]["forward"]["partial"]
    assert "shop_item" in step["sql"]["forward"]["because"][0]


@VERSIONS
def test_a_constraint_that_is_made_and_dropped_before_it_is_there(project: Make, version: str) -> None:
    shop = project(version)
    shop.app("shop", MODEL)
    shop.migration("shop", "0001_initial", ITEM)
    together = 'migrations.AlterUniqueTogether("item", {}),'
    shop.migration("shop", "0002_unique", together.format('{("name", "size")}'), after="0001_initial")
    shop.migration("shop", "0003_not", together.format("set()"), after="0002_unique")
    step = entry(shop.probe("plan"), "0003_not")
    assert step["sql"]["forward"]["partial"]
    assert "the constraints of shop_item are not known" in step["sql"]["forward"]["because"][0]
    shop.manage("migrate", "shop", "0002", "-v0")
    known = entry(shop.probe("plan"), "0003_not")
    assert not known["sql"]["forward"]["partial"]
    assert forward(step) == forward(known)
    name = forward(known).rpartition("DROP CONSTRAINT ")[2]
    shop.server.execute(f"ALTER TABLE shop_item DROP CONSTRAINT {name}", dbname=shop.database)
    assert entry(shop.probe("plan"), "0003_not")["sql"]["forward"]["statements"] is None  # `migrate` fails too


def test_a_router_keeps_operations_away(shop: Project) -> None:
    shop.write(
        "routers.py",
        "class Default:\n    def allow_migrate(self, db, app_label, **hints):\n        return db == 'default'\n",
    )
    shop.routers = ["routers.Default"]
    shop.settings()
    shop.migration(
        "shop", "0002_add", 'migrations.AddField("item", "a", models.IntegerField(null=True)),', after="0001_initial"
    )
    step = entry(shop.probe("plan", database="other"), "0002_add")
    assert (step["operations"][0]["allowed"], step["operations"][0]["not_allowed_because"]) == (False, "router")
    assert step["sql"]["forward"] == {"statements": [], "partial": False, "because": []}
    assert entry(shop.probe("plan"), "0002_add")["operations"][0]["allowed"]


def test_targets_plan_the_way_back(shop: Project) -> None:
    shop.migration(
        "shop", "0002_add", 'migrations.AddField("item", "a", models.IntegerField(null=True)),', after="0001_initial"
    )
    shop.manage("migrate", "-v0")
    answer = shop.probe("plan", targets=[{"app": "shop", "name": None}])
    assert [(step["name"], step["backwards"]) for step in answer["plan"]] == [
        ("0002_add", True),
        ("0001_initial", True),
    ]
    assert answer["plan"][0]["sql"]["backward"]["statements"] == ['ALTER TABLE "shop_item" DROP COLUMN "a" CASCADE;']


# -- the history -----------------------------------------------------------------------------------------------------


def test_an_empty_database_stays_empty(project: Make) -> None:
    shop = project("5.2")
    shop.apps = ["django.contrib.contenttypes", "django.contrib.auth"]
    shop.app("shop", MODEL)
    shop.migration("shop", "0001_initial", ITEM)
    answer = shop.probe("plan")
    assert answer["applied"] == []
    assert {(step["app"], step["from_dependency"]) for step in answer["plan"]} == {
        ("contenttypes", True),
        ("auth", True),
        ("shop", False),
    }
    listed = shop.manage("showmigrations", "--plan").stdout
    order = [line.split()[-1] for line in listed.splitlines() if line.startswith("[")]
    assert [f"{row['app']}.{row['name']}" for row in answer["showmigrations"]] == order
    assert count_tables(shop) == 0


def count_tables(shop: Project) -> int:
    with psycopg.connect(shop.server.dsn(shop.database)) as connection:
        row = connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone()
    assert row is not None
    return int(row[0])


def test_conflicts_squashes_and_unmigrated_models(shop: Project) -> None:
    shop.migration(
        "shop", "0002_b", 'migrations.AddField("item", "b", models.IntegerField(null=True)),', after="0001_initial"
    )
    shop.migration(
        "shop",
        "0001_squashed_0002",
        ITEM + 'migrations.AddField("item", "b", models.IntegerField(null=True)),',
        body='replaces = [("shop", "0001_initial"), ("shop", "0002_b")]\n',
    )
    shop.migration(
        "shop", "0003_c", 'migrations.AddField("item", "c", models.IntegerField(null=True)),', after="0002_b"
    )
    shop.migration(
        "shop", "0003_d", 'migrations.AddField("item", "d", models.IntegerField(null=True)),', after="0002_b"
    )
    answer = shop.probe("plan")
    assert answer["conflicts"] == [{"app": "shop", "names": ["0003_c", "0003_d"]}]
    assert answer["squashes"] == [
        {
            "app": "shop",
            "name": "0001_squashed_0002",
            "state": "partly_applied",
            "applied": ["shop.0001_initial"],
            "missing": ["shop.0002_b"],
            "gone": [],
        }
    ]
    assert {step["name"] for step in answer["plan"]} == {"0002_b", "0003_c", "0003_d"}
    assert sorted(answer["unmigrated"]) == [f"shop: Remove field {name} from item" for name in "bcd"]
    assert answer["consistent"] is None
    assert [(row["app"], row["name"]) for row in answer["applied"]] == [("shop", "0001_initial")]


@VERSIONS
def test_a_translated_application_has_no_unmigrated_changes(project: Make, version: str) -> None:
    shop = project(version)
    shop.apps = ["django.contrib.contenttypes", "django.contrib.auth"]
    shop.settings()
    file = shop.home / "site_settings.py"
    file.write_text(file.read_text() + 'LANGUAGE_CODE = "de"\nUSE_I18N = True\n')
    shop.manage("migrate", "-v0")
    assert shop.probe("plan")["unmigrated"] == []


def test_an_inconsistent_history_is_told(shop: Project) -> None:
    shop.migration(
        "shop", "0002_b", 'migrations.AddField("item", "b", models.IntegerField(null=True)),', after="0001_initial"
    )
    shop.manage("migrate", "-v0")
    shop.server.execute("DELETE FROM django_migrations WHERE name = '0001_initial'", dbname=shop.database)
    assert "0001_initial" in shop.probe("plan")["consistent"]


# -- the cost --------------------------------------------------------------------------------------------------------

COUNTER = """
import atexit, json
from django.apps import AppConfig

class Shop(AppConfig):
    name = "shop"
    def ready(self):
        from django.db.migrations import migration, state
        counted = {"mutations": 0, "models": 0}
        def counting(cls, method, count):
            kept = getattr(cls, method)
            def wrapper(self, *args, **kwargs):
                counted[count] += 1
                return kept(self, *args, **kwargs)
            setattr(cls, method, wrapper)
        counting(migration.Migration, "mutate_state", "mutations")
        counting(state.ModelState, "render", "models")
        atexit.register(lambda: json.dump(counted, open("counted.json", "w")))
"""


@pytest.mark.parametrize("version", ["3.2", "5.2"])
def test_150_pending_migrations_take_one_walk_and_render_few_models(project: Make, version: str) -> None:
    shop, models, pending = project(version), 40, 150
    shop.app("shop", "")
    shop.write("shop/apps.py", COUNTER)
    shop.apps = ["shop.apps.Shop"]
    shop.settings()
    key = '("id", models.BigAutoField(primary_key=True))'
    hub = '("up", models.ForeignKey("shop.Model0", models.CASCADE, related_name="+")),'
    create = "".join(
        f'migrations.CreateModel("Model{number}", [{key}, {hub if number else ""}]),\n' for number in range(models)
    )
    shop.migration("shop", "0001_initial", create)
    shop.manage("migrate", "-v0")
    before = "0001_initial"
    for number in range(pending):
        name = f"{number + 2:04d}_add"
        add = f'migrations.AddField("model0", "field{number}", models.IntegerField(default=0)),'
        shop.migration("shop", name, add, after=before)
        before = name
    answer = shop.probe("plan")
    assert len(answer["plan"]) == pending
    assert all(step["sql"]["forward"]["statements"] for step in answer["plan"])
    counted: dict[str, int] = json.loads((shop.home / "counted.json").read_text())
    # Through the applied ones for what the database should be, and on the way to the pending ones; once through
    # everything to find unmigrated models: nothing per pending migration.
    assert counted["mutations"] <= 1 + 1 + (1 + pending)
    # Each of the states before and after an operation renders its own model and no other of the forty.
    assert counted["models"] <= 2 * pending + 2 * models
