"""Every case of the rules over operations; here those of indexes and constraints."""

from __future__ import annotations

from tests.tasks.risk.cases_of_names import COLUMNS, REMOVALS, RENAMES
from tests.tasks.risk.cases_of_values import NULLS, TYPES
from tests.tasks.risk.one_case import CHECK, FILLING, NEW_TABLE, NOTHING, add, alter, case

_INDEX = 'models.Index(fields=["n"], name="{app}_n")'
_UNIQUE = 'models.UniqueConstraint(fields=["{}"], name="{{app}}_uq")'
_UNIQUE_UNKNOWN = {"add-unique": "medium", "duplicate-values": "unknown"}
_CHECK_UNKNOWN = {"add-check": "medium", "check-violated": "unknown"}
CONSTRAINTS = (
    case("index", f'migrations.AddIndex("thing", {_INDEX})', live={"add-index": "medium"}),
    case(
        "index_of_empty",
        'migrations.AddIndex("void", models.Index(fields=["name"], name="{app}_v"))',
        static={"add-index": "medium"},
    ),
    case("index_of_new", NEW_TABLE + 'migrations.AddIndex("fresh", models.Index(fields=["name"], name="{app}_f"))'),
    case("concurrently", f'AddIndexConcurrently("thing", {_INDEX})', atomic=False),
    case(
        "concurrently_in_transaction",
        f'AddIndexConcurrently("thing", {_INDEX})',
        live={"concurrently-in-transaction": "blocked"},
    ),
    case(
        "index_and_rename",
        f'AddIndexConcurrently("thing", {_INDEX})',
        'migrations.RenameIndex("thing", new_name="{app}_m", old_name="{app}_n")',
        'migrations.RemoveIndex("thing", "{app}_m")',
        atomic=False,
    ),
    case(
        "index_with_all",
        'migrations.AddIndex("thing", models.Index('
        'fields=["-n", "code"], include=["price"], condition=models.Q(n__gt=5), name="{app}_n"))',
        live={"add-index": "medium"},
    ),
    case(
        "unique_with_more",
        'migrations.AddConstraint("thing", models.UniqueConstraint('
        'fields=["n"], include=["price"], condition=models.Q(n__gt=0), name="{app}_uq"))',
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_deferred",
        'migrations.AddConstraint("thing", models.UniqueConstraint('
        'fields=["n"], deferrable=models.Deferrable.DEFERRED, name="{app}_uq"))',
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_text",
        alter("code", "models.CharField(max_length=50, unique=True)"),
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case("index_field", alter("n", "models.IntegerField(db_index=True)"), live={"add-index": "medium"}),
    case("no_index_field", alter("code", "models.CharField(max_length=50)")),
    case(
        "unique_field",
        alter("n", "models.IntegerField(unique=True)"),
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_field_over_duplicates",
        alter("name", "models.CharField(max_length=50, unique=True)"),
        live={"add-unique": "medium", "duplicate-values": "blocked"},
        static=_UNIQUE_UNKNOWN,
    ),
    case("no_unique_field", alter("slug", "models.CharField(max_length=50)")),
    case(
        "unique",
        f'migrations.AddConstraint("thing", {_UNIQUE.format("n")})',
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_over_duplicates",
        f'migrations.AddConstraint("thing", {_UNIQUE.format("name")})',
        live={"add-unique": "medium", "duplicate-values": "blocked"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_after_merging",
        FILLING,
        f'migrations.AddConstraint("thing", {_UNIQUE.format("name")})',
        live=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_after_filling_another_table",
        FILLING.replace("fill", "fill_owners"),
        f'migrations.AddConstraint("thing", {_UNIQUE.format("name")})',
        live={"add-unique": "medium", "duplicate-values": "blocked"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_with_condition",
        'migrations.AddConstraint("thing", '
        'models.UniqueConstraint(fields=["name"], condition=models.Q(n__lt=5), name="{app}_uq"))',
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_with_condition_over_duplicates",
        'migrations.AddConstraint("thing", '
        'models.UniqueConstraint(fields=["name"], condition=models.Q(n__lt=15), name="{app}_uq"))',
        live={"add-unique": "medium", "duplicate-values": "blocked"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_expression",
        'migrations.AddConstraint("thing", models.UniqueConstraint(functions.Lower("slug"), name="{app}_uq"))',
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_expression_over_duplicates",
        'migrations.AddConstraint("thing", models.UniqueConstraint(functions.Lower("name"), name="{app}_uq"))',
        live={"add-unique": "medium", "duplicate-values": "blocked"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_nulls_equal",
        'migrations.AddConstraint("thing", '
        'models.UniqueConstraint(fields=["none"], nulls_distinct=False, name="{app}_uq"))',
        live={"add-unique": "medium", "duplicate-values": "blocked"},
        static=_UNIQUE_UNKNOWN,
    ),
    case(
        "unique_after_rename",
        'migrations.RenameField("thing", "n", "m")',
        'migrations.AddConstraint("thing", models.UniqueConstraint('
        'functions.Lower("code"), condition=models.Q(m__lt=5), name="{app}_uq"))',
        live={"rename-column": "high", "add-unique": "medium"},
        static={"rename-column": "high", **_UNIQUE_UNKNOWN},
    ),
    case(
        "unique_together",
        'migrations.AlterUniqueTogether("thing", {("n", "code")})',
        live={"add-unique": "medium"},
        static=_UNIQUE_UNKNOWN,
    ),
    case("no_unique_together", 'migrations.AlterUniqueTogether("child", set())'),
    case(
        "added_and_unique",
        add("models.IntegerField(null=True)"),
        f'migrations.AddConstraint("thing", {_UNIQUE.format("extra")})',
        live={"add-unique": "medium"},
    ),
    case(
        "check",
        f'migrations.AddConstraint("thing", {CHECK.format("n__gt=0")})',
        live={"add-check": "medium"},
        static=_CHECK_UNKNOWN,
    ),
    case(
        "check_violated",
        f'migrations.AddConstraint("thing", {CHECK.format("n__gt=5")})',
        live={"add-check": "medium", "check-violated": "blocked"},
        static=_CHECK_UNKNOWN,
    ),
    case("check_not_valid", f'AddConstraintNotValid("thing", {CHECK.format("n__gt=0")})'),
    case(
        "check_validated",
        f'AddConstraintNotValid("thing", {CHECK.format("n__gt=0")})',
        'ValidateConstraint("thing", "{app}_ck")',
    ),
    case(
        "check_validated_at_once",
        f'AddConstraintNotValid("thing", {CHECK.format("n__gt=0")}), ValidateConstraint("thing", "{{app}}_ck")',
        live={"validate-in-same-transaction": "medium"},
    ),
    case(
        "validated_violated",
        f'AddConstraintNotValid("thing", {CHECK.format("n__gt=5")})',
        'ValidateConstraint("thing", "{app}_ck")',
        live={"check-violated": "blocked"},
        static={},
    ),
    case(
        "no_check",
        f'AddConstraintNotValid("thing", {CHECK.format("n__gt=0")})',
        'migrations.RemoveConstraint("thing", "{app}_ck")',
    ),
    case(
        "positive",
        alter("n", "models.PositiveIntegerField()"),
        live={"add-check": "medium"},
        static=_CHECK_UNKNOWN,
    ),
    case(
        "to_key",
        alter("whole", 'models.ForeignKey("Owner", models.CASCADE, null=True, db_column="whole", db_index=False)'),
        live={"rewrite-column-type": "high", "add-foreign-key": "medium"},
        static={"rewrite-column-type": "high", "add-foreign-key": "medium", "orphans": "unknown"},
    ),
    case(
        "to_key_with_orphans",
        alter("lost", 'models.ForeignKey("Owner", models.CASCADE, db_column="lost", db_index=False)'),
        live={"rewrite-column-type": "high", "add-foreign-key": "medium", "orphans": "blocked"},
        static={"rewrite-column-type": "high", "add-foreign-key": "medium", "orphans": "unknown"},
    ),
    case(
        "no_key",
        alter("maybe", 'models.ForeignKey("Owner", models.SET_NULL, null=True, db_constraint=False, related_name="+")'),
    ),
    case(
        "exclusion",
        'migrations.AddConstraint("thing", ExclusionConstraint(name="{app}_ex", expressions=['
        """(models.Func(template="int4range(n, n, '[]')"), "&&")]))""",
        live=_UNIQUE_UNKNOWN,
    ),
    case(
        "options",
        'migrations.AlterModelOptions("thing", {"ordering": ["n"]}), migrations.AlterModelManagers("thing", [])',
    ),
    case("comment", 'migrations.AlterModelTableComment("thing", "all things")'),
    case("noop", NOTHING),
)
CASES = (*COLUMNS, *REMOVALS, *RENAMES, *TYPES, *NULLS, *CONSTRAINTS)
