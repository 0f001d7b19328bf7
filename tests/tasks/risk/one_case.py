"""What a case of the rules over operations is: migrations of an app of its own, over filled tables.

Every app has the tables `<app>_owner` and `<app>_thing` (filled) and `<app>_void` (empty), as BASE says.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE = """
migrations.CreateModel("Owner", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=50)),
]),
migrations.CreateModel("Thing", [
    ("id", models.AutoField(primary_key=True)),
    ("name", models.CharField(max_length=50)),
    ("code", models.CharField(max_length=50, db_index=True)),
    ("slug", models.CharField(max_length=50, unique=True)),
    ("n", models.IntegerField()),
    ("price", models.DecimalField(max_digits=10, decimal_places=2)),
    ("note", models.TextField()),
    ("half", models.IntegerField(null=True)),
    ("whole", models.IntegerField(null=True)),
    ("kept", models.IntegerField(null=True, default=7)),
    ("none", models.CharField(max_length=9, null=True)),
    ("day", models.DateField()),
    ("owner", models.ForeignKey("Owner", models.CASCADE)),
    ("maybe", models.ForeignKey("Owner", models.SET_NULL, null=True, related_name="+")),
    ("lost", models.IntegerField()),
    ("rank", models.IntegerField(db_default=5)),
    ("tags", models.ManyToManyField("Owner", related_name="+")),
]),
migrations.CreateModel("Child", [
    ("id", models.BigAutoField(primary_key=True)),
    ("thing", models.ForeignKey("Thing", models.CASCADE)),
], options={"unique_together": {("thing", "id")}}),
migrations.CreateModel("Void", [
    ("id", models.AutoField(primary_key=True)),
    ("name", models.CharField(max_length=50, null=True)),
]),
"""
ROWS = 1100
FILL = f"""
INSERT INTO {{app}}_owner (name) SELECT 'o' || g FROM generate_series(1, {ROWS}) g;
INSERT INTO {{app}}_thing (name, code, slug, n, price, note, half, whole, kept, none, day, owner_id, maybe_id, lost)
  SELECT 'name' || g % 10, 'c' || g, 's' || g, g, g, repeat('x', 30), CASE WHEN g % 2 = 0 THEN g END, g, g, NULL,
    current_date, g, g, g + 1 FROM generate_series(1, {ROWS}) g;
INSERT INTO {{app}}_child (thing_id) SELECT g FROM generate_series(1, {ROWS}) g;
INSERT INTO {{app}}_thing_tags (thing_id, owner_id) SELECT g, g FROM generate_series(1, {ROWS}) g;
"""


@dataclass(frozen=True)
class Case:
    """Migrations, and the rules that speak of them: `rule: severity` with facts, and `*` without a database."""

    name: str
    operations: tuple[str, ...]  # of each migration
    live: dict[str, str]
    static: dict[str, str] | None = None  # None: the same as live
    atomic: bool = True
    sql: str = ""  # run before, on the filled tables

    @property
    def without_database(self) -> dict[str, str]:
        return self.live if self.static is None else self.static


def case(
    name: str,
    *operations: str,
    live: dict[str, str] | None = None,
    static: dict[str, str] | None = None,
    atomic: bool = True,
    sql: str = "",
) -> Case:
    return Case(name, operations, live or {}, static, atomic, sql)


def add(field: str, name: str = "extra", model: str = "thing") -> str:
    return f'migrations.AddField("{model}", "{name}", {field})'


def alter(name: str, field: str, model: str = "thing") -> str:
    return f'migrations.AlterField("{model}", "{name}", {field})'


CHECK = 'models.CheckConstraint(condition=models.Q({}), name="{{app}}_ck")'
NEW_TABLE = 'migrations.CreateModel("Fresh", [("id", models.AutoField(primary_key=True)), ("name", models.CharField(max_length=9, null=True)), ("owner", models.ForeignKey("Owner", models.CASCADE))]),'  # noqa: E501 - one migration's line
NOTHING = "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)"
FILLING = "migrations.RunPython(fill, migrations.RunPython.noop)"
