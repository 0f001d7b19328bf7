"""Migrations by SQL."""

from __future__ import annotations

from bench.migrations.case import Case, Danger
from bench.migrations.shop import added

NOOP = "migrations.RunSQL.noop"


def _sql(
    name: str,
    forward: str,
    backward: str | None = "",
    dangers: tuple[Danger, ...] = (),
    reasons: tuple[str, ...] = (),
    *,
    atomic: bool = True,
) -> Case:
    """SQL there and back; "" for nothing to do, None for no way back."""
    back = "" if backward is None else f", {backward!r}" if backward else f", {NOOP}"
    return Case(name, f"migrations.RunSQL({forward!r}{back}),", dangers, reasons, atomic=atomic)


CASES = (
    _sql("sql_truncate", "TRUNCATE shop_message", "", ("loss",), ("loss",)),
    _sql(
        "sql_update",
        "UPDATE shop_product SET weight = weight + 1",
        "UPDATE shop_product SET weight = weight - 1",
        ("row locks",),
        ("whole-table",),
    ),
    _sql(
        "sql_update_most",
        "UPDATE shop_product SET stock = stock + 1 WHERE stock >= 0",
        "UPDATE shop_product SET stock = stock - 1 WHERE stock > 0",
        ("row locks",),
        ("whole-table",),
    ),
    _sql(
        "sql_delete", "DELETE FROM shop_coupon WHERE percent < 40", "", ("loss", "row locks"), ("loss", "whole-table")
    ),
    _sql(
        "sql_lock",
        "LOCK TABLE shop_coupon IN ACCESS EXCLUSIVE MODE; SELECT count(*) FROM shop_product p"
        " JOIN shop_item i ON i.product_id = p.id",
        "",
        ("blocks",),
        ("lock-table",),
    ),
    _sql("sql_vacuum_full", "VACUUM FULL shop_message", "", ("blocks",), ("vacuum-full", "rewrite"), atomic=False),
    _sql("sql_cluster", "CLUSTER shop_coupon USING shop_coupon_pkey", "", ("blocks",), ("vacuum-full", "rewrite")),
    _sql(
        "sql_no_lock_timeout",
        "SET lock_timeout = 0; ALTER TABLE shop_coupon ALTER percent SET DEFAULT 5",
        "ALTER TABLE shop_coupon ALTER percent DROP DEFAULT",
        ("unguarded",),
        ("session-settings",),
    ),
    _sql("sql_no_way_back", "COMMENT ON TABLE shop_message IS 'letters'", None, ("irreversible",), ("irreversible",)),
    _sql(
        "sql_rename_column",
        "ALTER TABLE shop_message RENAME COLUMN text TO body",
        "ALTER TABLE shop_message RENAME COLUMN body TO text",
        ("old code",),
        ("rename-column",),
    ),
    _sql(
        "sql_rename_table",
        "ALTER TABLE shop_message RENAME TO shop_letter",
        "ALTER TABLE shop_letter RENAME TO shop_message",
        ("old code",),
        ("rename-table",),
    ),
    _sql(
        "sql_drop_column",
        "ALTER TABLE shop_order DROP COLUMN reference",
        "ALTER TABLE shop_order ADD COLUMN reference varchar(64) NULL",
        ("old code", "loss"),
        ("drop-column",),
    ),
    _sql(
        "sql_type",
        "ALTER TABLE shop_product ALTER title TYPE varchar(60)",
        "ALTER TABLE shop_product ALTER title TYPE varchar(200)",
        ("blocks", "old code"),
        ("narrow", "rewrite"),
    ),
    _sql(
        "sql_type_of_view",
        "ALTER TABLE shop_coupon ALTER code TYPE varchar(60)",
        "ALTER TABLE shop_coupon ALTER code TYPE varchar(30)",
        ("fails",),
        ("view",),
    ),
    _sql(
        "sql_set_not_null",
        "ALTER TABLE shop_customer ALTER tier SET NOT NULL",
        "ALTER TABLE shop_customer ALTER tier DROP NOT NULL",
        ("blocks", "old code"),
        ("set-not-null",),
    ),
    _sql(
        "sql_add_not_null",
        "ALTER TABLE shop_coupon ADD COLUMN owner integer NOT NULL",
        "ALTER TABLE shop_coupon DROP COLUMN owner",
        ("fails",),
        ("add-not-null",),
    ),
    _sql(
        "sql_concurrently_in_transaction",
        "CREATE INDEX CONCURRENTLY shop_coupon_percent ON shop_coupon (percent)",
        "DROP INDEX shop_coupon_percent",
        ("fails",),
        ("concurrently-in-transaction",),
    ),
    _sql(
        "sql_volatile",
        "ALTER TABLE shop_coupon ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
        "ALTER TABLE shop_coupon DROP COLUMN token",
        ("blocks",),
        ("volatile-default", "rewrite"),
    ),
    # -- safe
    _sql(
        "sql_view",
        "CREATE OR REPLACE VIEW shop_cheap AS SELECT id, title FROM shop_product WHERE price < 10",
        "DROP VIEW shop_cheap",
    ),
    _sql(
        "sql_type_widened",
        "ALTER TABLE shop_message ALTER text TYPE varchar",
        "ALTER TABLE shop_message ALTER text TYPE text",
    ),
    _sql(
        "sql_set_not_null_checked",
        "ALTER TABLE shop_customer ALTER country SET NOT NULL",
        "ALTER TABLE shop_customer ALTER country DROP NOT NULL",
    ),
    Case(
        "sql_add_with_default",
        "migrations.RunSQL('ALTER TABLE shop_coupon ADD COLUMN uses integer NOT NULL DEFAULT 0',"
        " 'ALTER TABLE shop_coupon DROP COLUMN uses', state_operations=[migrations.AddField('coupon', 'uses',"
        " models.IntegerField(db_default=0))]),",
        models=added("Coupon", "uses = models.IntegerField(db_default=0)"),
    ),
    _sql(
        "sql_fixed_rows",
        "INSERT INTO shop_warehouse (name) VALUES ('returns')",
        "DELETE FROM shop_warehouse WHERE name = 'returns'",
    ),
    _sql(
        "sql_lower_lock_timeout",
        "SET LOCAL lock_timeout = '2s'; COMMENT ON COLUMN shop_message.text IS 'what it says'",
        "COMMENT ON COLUMN shop_message.text IS NULL",
    ),
    _sql(
        "sql_statistics",
        "CREATE STATISTICS shop_coupon_both ON code, percent FROM shop_coupon",
        "DROP STATISTICS shop_coupon_both",
    ),
    _sql(
        "sql_new_table",
        "CREATE TABLE shop_log (id bigint PRIMARY KEY, customer_id bigint NOT NULL"
        " REFERENCES shop_customer (id)); CREATE INDEX shop_log_customer ON shop_log (customer_id)",
        "DROP TABLE shop_log",
    ),
)
