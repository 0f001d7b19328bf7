"""Indexes."""

from __future__ import annotations

from bench.migrations.case import Case, Step
from bench.migrations.shop import added, indexed

NUMBER = 'models.Index(fields=["number"], name="shop_order_number")'
PLACED = 'models.Index(fields=["placed"], name="shop_order_placed")'
STATUS = 'models.Index(fields=["status"], name="shop_order_status"),\n            '
MADE = "CREATE INDEX CONCURRENTLY IF NOT EXISTS shop_order_number ON shop_order (number)"

CASES = (
    Case(
        "add_index",
        f"migrations.AddIndex('order', {NUMBER}),",
        dangers=("blocks",),
        reasons=("index-build",),
        models=indexed(NUMBER),
    ),
    Case(
        "add_partial_index",
        "migrations.AddIndex('order', models.Index(fields=['number'], name='shop_order_open',"
        " condition=models.Q(status='status 1'))),",
        dangers=("blocks",),
        reasons=("index-build",),
        models=indexed(
            'models.Index(fields=["number"], name="shop_order_open", condition=models.Q(status="status 1"))'
        ),
    ),
    Case(
        "index_by_field",
        "migrations.AlterField('customer', 'city', models.CharField(max_length=50, db_index=True)),",
        dangers=("blocks",),
        reasons=("index-build",),
        models=(("city = models.CharField(max_length=50)", "city = models.CharField(max_length=50, db_index=True)"),),
    ),
    Case(
        "concurrently_in_transaction",
        f"AddIndexConcurrently('order', {NUMBER}),",
        dangers=("fails",),
        reasons=("concurrently-in-transaction",),
        models=indexed(NUMBER),
    ),
    Case(
        "two_concurrent_indexes",
        f"""
        AddIndexConcurrently('order', {NUMBER}),
        AddIndexConcurrently('order', {PLACED}),
        """,
        dangers=("not repeatable",),
        reasons=("not-repeatable",),
        atomic=False,
        models=indexed(f"{NUMBER},\n            {PLACED}"),
    ),
    Case(
        "column_and_concurrent_index",
        """
        migrations.AddField('order', 'batch', models.IntegerField(null=True)),
        AddIndexConcurrently('order', models.Index(fields=['batch'], name='shop_order_batch')),
        """,
        dangers=("not repeatable",),
        reasons=("not-repeatable",),
        atomic=False,
        models=(
            *added("Order", "batch = models.IntegerField(null=True)"),
            *indexed('models.Index(fields=["batch"], name="shop_order_batch")'),
        ),
    ),
    Case(
        "sql_index",
        "migrations.RunSQL('CREATE INDEX shop_order_number ON shop_order (number)', 'DROP INDEX shop_order_number',"
        f" state_operations=[migrations.AddIndex('order', {NUMBER})]),",
        dangers=("blocks",),
        reasons=("index-build",),
        models=indexed(NUMBER),
    ),
    Case(
        "sql_reindex",
        "migrations.RunSQL('REINDEX TABLE shop_order', migrations.RunSQL.noop),",
        dangers=("blocks",),
        reasons=("index-build", "reindex"),
    ),
    # -- safe
    Case(
        "add_index_concurrently",
        f"AddIndexConcurrently('order', {NUMBER}),",
        atomic=False,
        models=indexed(NUMBER),
    ),
    Case(
        "add_index_to_empty_table",
        "migrations.AddIndex('draft', models.Index(fields=['title'], name='shop_draft_title')),",
        models=indexed('models.Index(fields=["title"], name="shop_draft_title")', "Draft"),
    ),
    Case(
        "add_index_to_tiny_table",
        "migrations.AddIndex('warehouse', models.Index(fields=['name'], name='shop_warehouse_name')),",
        models=indexed('models.Index(fields=["name"], name="shop_warehouse_name")', "Warehouse"),
    ),
    Case(
        "remove_index",
        "migrations.RemoveIndex('order', 'shop_order_status'),",
        models=((STATUS, ""),),
    ),
    Case(
        "remove_index_concurrently",
        "RemoveIndexConcurrently('order', 'shop_order_status'),",
        atomic=False,
        models=((STATUS, ""),),
    ),
    Case(
        "rename_index",
        "migrations.RenameIndex('order', new_name='shop_order_state', old_name='shop_order_status'),",
        models=(('name="shop_order_status"', 'name="shop_order_state"'),),
    ),
    Case(
        "sql_index_concurrently",
        f"migrations.RunSQL('{MADE}', 'DROP INDEX CONCURRENTLY IF EXISTS shop_order_number',"
        f" state_operations=[migrations.AddIndex('order', {NUMBER})]),",
        atomic=False,
        models=indexed(NUMBER),
    ),
    Case(
        "sql_drop_index_concurrently",
        "migrations.RunSQL('DROP INDEX CONCURRENTLY IF EXISTS shop_order_status',"
        " 'CREATE INDEX CONCURRENTLY IF NOT EXISTS shop_order_status ON shop_order (status)',"
        " state_operations=[migrations.RemoveIndex('order', 'shop_order_status')]),",
        atomic=False,
        models=((STATUS, ""),),
    ),
    Case(
        "sql_reindex_concurrently",
        "migrations.RunSQL('REINDEX INDEX CONCURRENTLY shop_order_status', migrations.RunSQL.noop),",
        atomic=False,
    ),
    Case(
        "column_then_concurrent_index",
        "migrations.AddField('order', 'batch', models.IntegerField(null=True)),",
        models=(
            *added("Order", "batch = models.IntegerField(null=True)"),
            *indexed('models.Index(fields=["batch"], name="shop_order_batch")'),
        ),
        more=(
            Step(
                "AddIndexConcurrently('order', models.Index(fields=['batch'], name='shop_order_batch')),", atomic=False
            ),
        ),
    ),
)
