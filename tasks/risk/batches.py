"""The data migration to write instead: in batches, resumable, throttled and reversible, for the table at hand."""

from __future__ import annotations

from collections.abc import Sequence

BATCH_ROWS = 1000  # some ten milliseconds of row locks
PAUSE_S = 0.1  # lets the others, and a replica, catch up


def batched(model: str, fields: Sequence[str], *, delete: bool = False) -> tuple[str, ...]:
    """Steps towards a batched migration of a model, given as `app.Model` or as a table's name where that is unknown."""
    app, _, name = model.rpartition(".")
    name = name or "Model"
    column = fields[0] if fields else "the_field"
    left = "<condition>" if delete else f"{column}__isnull=True"
    act = "delete()" if delete else f"update({column}=…)"
    code = "\n".join(
        [
            "def forward(apps, schema_editor):",
            f'    {name} = apps.get_model("{app or "app"}", "{name}")',
            f"    rows = {name}.objects.using(schema_editor.connection.alias)",
            f"    left = rows.filter({left}).order_by('pk')  # what is left to do: a second run goes on from there",
            f'    while keys := list(left.values_list("pk", flat=True)[:{BATCH_ROWS}]):',
            f"        rows.filter(pk__in=keys).{act}",
            f"        time.sleep({PAUSE_S})",
            "",
            "class Migration(migrations.Migration):",
            "    atomic = False  # each batch is committed by itself",
            "    operations = [migrations.RunPython(forward, migrations.RunPython.noop)]",
        ]
    )
    return (
        "put it into a migration of its own, without schema operations",
        f"Django:\n{code}",
        f"SQL, again and again until no row is touched: {_sql(model, column, delete=delete)}",
    )


def _sql(model: str, column: str, *, delete: bool) -> str:
    table = model.replace(".", "_").lower() or "the_table"
    some = f"id IN (SELECT id FROM {table} WHERE {'<condition>' if delete else f'{column} IS NULL'} LIMIT {BATCH_ROWS})"  # noqa: S608 - shown to people, never executed
    return f"DELETE FROM {table} WHERE {some}" if delete else f"UPDATE {table} SET {column} = … WHERE {some}"  # noqa: S608 - shown to people, never executed
