# mypy: ignore-errors
# Runs inside the shop's interpreter.
"""What happens while the shop's migrations run, and whether a release's ORM still works: a server on stdin and stdout.

A line of JSON in ({"do": "forward", ...}), a line out. It knows nothing of our rules, and nothing of our rehearsal.
"""

import contextlib
import io
import json
import sys
import time
import traceback

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.migrations.executor import MigrationExecutor  # noqa: E402
from inside_orm import use  # noqa: E402
from inside_watch import TABLES, InterruptedHereError, Watch  # noqa: E402


def forward(stop_after=None):
    """Apply everything that is pending, and tell what it did."""
    watch = Watch(stop_after)
    begun = time.monotonic()
    error = ""
    try:
        with connection.execute_wrapper(watch), contextlib.redirect_stdout(io.StringIO()):
            call_command("migrate", verbosity=0, interactive=False)
    except (Exception, InterruptedHereError) as failure:  # noqa: BLE001 - that it fails is the answer
        error = f"{type(failure).__name__}: {failure}".strip()
    finally:
        seconds = time.monotonic() - begun
        watch.end()
    connection.ensure_connection()
    after = {oid: node for oid, _, node in watch.ask(TABLES)}
    return {
        "error": error,
        "seconds": seconds,
        "units": watch.units,
        "unguarded": watch.unguarded,
        "rewritten": sorted(name for oid, (name, node) in watch.tables.items() if after.get(oid, node) != node),
        "one_value": [] if error else one_value(watch),
        "trivial_s": trivial(),
    }


def trivial():
    """How long the smallest change of a table holds its lock: a unit of time for this machine at this moment."""
    with contextlib.suppress(django.db.Error), transaction.atomic():
        with connection.cursor() as cursor:
            begun = time.monotonic()
            cursor.execute("ALTER TABLE shop_warehouse ADD COLUMN bench_trivial integer")
        held = time.monotonic() - begun
        transaction.set_rollback(True)
        return held
    return None


def one_value(watch):
    """New columns of filled tables whose default differs from call to call, and is the same in all rows."""
    found = []
    known = {name for name, _ in watch.tables.values()}
    state = MigrationExecutor(connection).loader.project_state().apps
    before = MigrationExecutor(connection).loader.project_state(("shop", "0001_initial")).apps
    for model in state.get_app_config("shop").get_models():
        table = model._meta.db_table
        old = {
            field.column
            for other in before.get_models()
            if other._meta.db_table == table
            for field in other._meta.local_fields
        }
        if table not in known or not old:
            continue
        for field in model._meta.local_concrete_fields:
            if field.column in old or not field.has_default() or not callable(field.default):
                continue
            if field.default() == field.default():
                continue
            with connection.cursor() as cursor:
                column = connection.ops.quote_name(field.column)
                # Both names are the shop's own, and quoted.
                cursor.execute(f"SELECT count(*), count(DISTINCT {column}) FROM {connection.ops.quote_name(table)}")  # noqa: S608
                rows, values = cursor.fetchone()
            if rows > 1 and values <= 1:
                found.append(f"{table}.{field.column}")
    return found


def backward():
    """Reverse to the first migration."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            call_command("migrate", "shop", "0001", verbosity=0, interactive=False)
    except Exception as failure:  # noqa: BLE001
        return {"error": f"{type(failure).__name__}: {failure}".strip(), "where": traceback.format_exc()[-600:]}
    return {"error": ""}


def main():
    """Answer until nobody asks any more."""
    told = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        answer = {"forward": forward, "backward": backward, "use": use}[do](**request)
        told.write(json.dumps(answer, default=str) + "\n")
        told.flush()


if __name__ == "__main__":
    main()
