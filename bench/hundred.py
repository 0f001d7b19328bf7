"""A plan of a hundred pending migrations: harmless and dangerous operations over several tables of the shop."""

from __future__ import annotations

from bench.migrations.case import PREVIOUS, Step

COUNT = 100
TABLES = ("customer", "product", "order", "item", "message", "coupon", "draft", "warehouse")
LOOP = """
def forwards(apps, schema_editor):
    Model = apps.get_model('shop', {model!r})
    for row in Model.objects.all():
        row.save()
"""
BATCHES = """
def forwards(apps, schema_editor):
    Model = apps.get_model('shop', {model!r})
    while True:
        ids = list(Model.objects.filter(empty{group}__isnull=True).values_list('pk', flat=True)[:1000])
        if not ids:
            break
        Model.objects.filter(pk__in=ids).update(empty{group}=1)
"""
# One group; a group works on one table.
GROUP: tuple[tuple[str, str, bool], ...] = (
    ("migrations.AddField({model!r}, 'empty{group}', models.IntegerField(null=True)),", "", True),
    ("migrations.AddField({model!r}, 'full{group}', models.IntegerField(default=0)),", "", True),
    ("migrations.AddIndex({model!r}, models.Index(fields=['full{group}'], name='i{group}')),", "", True),
    ("AddIndexConcurrently({model!r}, models.Index(fields=['empty{group}'], name='c{group}')),", "", False),
    (
        (
            "migrations.AddConstraint({model!r}, models.CheckConstraint(condition=models.Q(full{group}__gte=0),"
            " name='k{group}')),"
        ),
        "",
        True,
    ),
    ("migrations.RunPython(forwards, migrations.RunPython.noop),", BATCHES, False),
    ("migrations.RunPython(forwards),", LOOP, True),
    ("migrations.RunSQL('UPDATE shop_{model} SET full{group} = 1', migrations.RunSQL.noop),", "", True),
    ("migrations.AlterField({model!r}, 'full{group}', models.BigIntegerField(default=0)),", "", True),
    ("migrations.AlterField({model!r}, 'id', models.BigIntegerField(primary_key=True)),", "", True),
)


def migrations() -> dict[str, str]:
    """Name and text of each, in order."""
    found: dict[str, str] = {}
    previous = PREVIOUS
    for number in range(COUNT):
        group, place = divmod(number, len(GROUP))
        operations, head, atomic = GROUP[place]
        filled = {"model": TABLES[group % len(TABLES)], "group": group}
        name = f"{number + 2:04}_step"
        found[name] = Step(operations.format(**filled), atomic, head.format(**filled)).text(previous)
        previous = name
    return found
