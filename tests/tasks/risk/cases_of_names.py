"""Columns and tables that are added, removed and renamed, and what is to be said of each."""

from __future__ import annotations

from tests.tasks.risk.one_case import NEW_TABLE, add, alter, case

COLUMNS = (
    case("add_null", add("models.IntegerField(null=True)")),
    case("add_db_default", add("models.IntegerField(db_default=3)")),
    case("add_now_db_default", add("models.DateTimeField(db_default=functions.Now())")),
    case("add_many_to_many", add('models.ManyToManyField("Owner", related_name="+")')),
    case("add_null_key_without_index", add('models.ForeignKey("Owner", models.CASCADE, null=True, db_index=False)')),
    case("add_constant", add("models.IntegerField(default=1)"), live={"add-not-null-column": "high"}),
    case("add_empty", add("models.TextField(blank=True)"), live={"add-not-null-column": "high"}),
    case("add_now", add("models.DateTimeField(auto_now_add=True)"), live={"add-not-null-column": "high"}),
    case("add_to_empty", add("models.IntegerField(default=1)", model="void"), live={"add-not-null-column": "high"}),
    case(
        "add_callable",
        add("models.CharField(max_length=99, default=make)"),
        live={"add-not-null-column": "high", "one-value-for-all": "high"},
    ),
    case(
        "add_null_callable", add("models.UUIDField(default=uuid.uuid4, null=True)"), live={"one-value-for-all": "high"}
    ),
    case(
        "add_unique_callable",
        add("models.UUIDField(default=uuid.uuid4, unique=True)"),
        live={"add-not-null-column": "high", "one-value-for-all": "blocked", "add-unique": "medium"},
        static={"add-not-null-column": "high", "one-value-for-all": "high", "add-unique": "medium"},
    ),
    case("add_unique_null", add("models.IntegerField(null=True, unique=True)"), live={"add-unique": "medium"}),
    case(
        "add_without_value",
        add("models.IntegerField()"),
        live={"add-not-null-column": "high", "add-column-without-value": "blocked"},
        static={"add-not-null-column": "high", "add-column-without-value": "unknown"},
    ),
    case("add_random", add("models.UUIDField(db_default=RandomUUID())"), live={"volatile-default": "high"}),
    case(
        "add_random_to_empty",
        add("models.UUIDField(db_default=RandomUUID())", model="void"),
        static={"volatile-default": "high"},
    ),
    case(
        "add_generated",
        add('models.GeneratedField(expression=models.F("n") + 1, output_field=models.IntegerField(), db_persist=True)'),
        live={"generated-column": "high"},
    ),
    case("add_index_field", add("models.IntegerField(null=True, db_index=True)"), live={"add-index": "medium"}),
    case("add_null_key", add('models.ForeignKey("Owner", models.CASCADE, null=True)'), live={"add-index": "medium"}),
    case(
        "add_index_field_to_empty",
        add("models.IntegerField(null=True, db_index=True)", model="void"),
        static={"add-index": "medium"},
    ),
    case(
        "add_key_with_value",
        add('models.ForeignKey("Owner", models.CASCADE, default=1, db_index=False)'),
        live={"add-not-null-column": "high", "add-foreign-key": "medium"},
        static={"add-not-null-column": "high", "add-foreign-key": "medium", "orphans": "unknown"},
    ),
    case(
        "add_key_with_value_that_is_not_there",
        add('models.ForeignKey("Owner", models.CASCADE, default=0, db_index=False)'),
        live={"add-not-null-column": "high", "add-foreign-key": "medium", "orphans": "blocked"},
        static={"add-not-null-column": "high", "add-foreign-key": "medium", "orphans": "unknown"},
    ),
    case(
        "add_constant_kept_in_the_database",
        add("models.IntegerField(default=1)")
        + ', migrations.RunSQL("ALTER TABLE {app}_thing ALTER COLUMN extra SET DEFAULT 1", "")',
    ),
    case(
        "add_constant_kept_by_a_later_migration",
        add("models.IntegerField(default=1)"),
        alter("extra", "models.IntegerField(db_default=1)"),
    ),
    case(
        "add_constant_kept_and_lost",
        add("models.IntegerField(default=1)"),
        'migrations.RunSQL("ALTER TABLE {app}_thing ALTER extra SET DEFAULT 1", "")',
        'migrations.RunSQL("ALTER TABLE {app}_thing ALTER extra DROP DEFAULT", "")',
        live={"add-not-null-column": "high"},
    ),
    case("add_positive", add("models.PositiveIntegerField(null=True)"), live={"add-check": "medium"}),
    case(
        "order",
        'migrations.AlterOrderWithRespectTo("thing", "owner")',
        live={"add-not-null-column": "high"},
    ),
    case("add_to_new", NEW_TABLE, add("models.IntegerField(default=1, db_index=True)", model="fresh")),
)

_GONE = {"remove-column": "high", "lose-column": "high"}
_GONE_TABLE = {"remove-table": "high", "lose-table": "high"}
REMOVALS = (
    case("remove", 'migrations.RemoveField("thing", "note")', live=_GONE),
    case(
        "remove_without_values", 'migrations.RemoveField("thing", "none")', live={"remove-column": "high"}, static=_GONE
    ),
    case("remove_of_empty", 'migrations.RemoveField("void", "name")', live={"remove-column": "high"}, static=_GONE),
    case("remove_many_to_many", 'migrations.RemoveField("thing", "tags")', live=_GONE_TABLE),
    case(
        "remove_from_state",
        'migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("thing", "note")])',
        live={"forget-required-column": "high"},
    ),
    case(
        "remove_nullable_from_state",
        'migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("thing", "whole")])',
    ),
    case(
        "remove_filled_from_state",
        'migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("thing", "rank")])',
    ),
    case(
        "remove_from_state_and_loosen",
        'migrations.SeparateDatabaseAndState([migrations.RunSQL("ALTER TABLE {app}_thing ALTER note DROP NOT NULL")],'
        ' [migrations.RemoveField("thing", "note")])',
    ),
    case(
        "remove_from_state_and_fill_later",
        'migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("thing", "note")])',
        "migrations.RunSQL(\"ALTER TABLE {app}_thing ALTER note SET DEFAULT ''\")",
    ),
    case(
        "remove_from_state_and_drop",
        'migrations.SeparateDatabaseAndState([migrations.RunSQL("ALTER TABLE {app}_thing DROP note")],'
        ' [migrations.RemoveField("thing", "note")])',
    ),
    case(
        "remove_from_state_and_fill_another",
        'migrations.SeparateDatabaseAndState([migrations.RunSQL("ALTER TABLE {app}_thing ALTER day DROP NOT NULL")],'
        ' [migrations.RemoveField("thing", "note")])',
        live={"forget-required-column": "high"},
    ),
    case("add_and_remove", add("models.IntegerField(null=True)"), 'migrations.RemoveField("thing", "extra")'),
    case("delete_model", 'migrations.DeleteModel("Child")', live=_GONE_TABLE),
    case("delete_empty_model", 'migrations.DeleteModel("Void")', live={"remove-table": "high"}, static=_GONE_TABLE),
    case(
        "delete_model_behind_a_field",
        NEW_TABLE.replace("Fresh", "Label")
        + add('models.ManyToManyField("Owner", related_name="+", through="Child")', "kids", "label")
        + ', migrations.DeleteModel("Label"), migrations.DeleteModel("Child")',
        live=_GONE_TABLE,
    ),
    case("delete_new_model", NEW_TABLE, 'migrations.DeleteModel("Fresh")'),
    case("create_model", NEW_TABLE),
)

RENAMES = (
    case("rename_field", 'migrations.RenameField("thing", "note", "remark")', live={"rename-column": "high"}),
    case(
        "rename_field_only",
        alter("note", 'models.TextField(db_column="note")') + ', migrations.RenameField("thing", "note", "remark")',
    ),
    case("column_name", alter("note", 'models.TextField(db_column="remark")'), live={"rename-column": "high"}),
    case(
        "rename_twice",
        'migrations.RenameField("thing", "note", "remark")',
        'migrations.RenameField("thing", "remark", "words")',
        'migrations.RenameModel("Child", "Kid")',
        'migrations.RenameModel("Kid", "Kin")',
        live={"rename-column": "high", "rename-table": "high"},
    ),
    case("rename_new_field", add("models.IntegerField(null=True)"), 'migrations.RenameField("thing", "extra", "more")'),
    case("rename_model", 'migrations.RenameModel("Child", "Kid")', live={"rename-table": "high"}),
    case(
        "rename_model_only",
        'migrations.AlterModelTable("child", "{app}_child"), migrations.RenameModel("Child", "Kid")',
    ),
    case("table_name", 'migrations.AlterModelTable("child", "kids")', live={"rename-table": "high"}),
    case("table_in_schema", 'migrations.AlterModelTable("child", \'far"."kids\')', live={"rename-table": "high"}),
    case(
        "rename_and_add",
        'migrations.RenameModel("Child", "Kid")',
        add("models.IntegerField(default=1)", model="kid"),
        live={"rename-table": "high", "add-not-null-column": "high"},
    ),
    case("rename_with_tags", 'migrations.RenameModel("Thing", "Item")', live={"rename-table": "high"}),
    case("rename_many_to_many", 'migrations.RenameField("thing", "tags", "labels")', live={"rename-table": "high"}),
    case(
        "rename_tagged",
        'migrations.RenameModel("Owner", "Person")',
        live={"rename-table": "high", "rename-column": "high"},
    ),
)
