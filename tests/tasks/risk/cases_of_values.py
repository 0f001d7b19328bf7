"""Types and nullability that change, and what is to be said of each."""

from __future__ import annotations

from tests.tasks.risk.one_case import CHECK, FILLING, NEW_TABLE, add, alter, case

TYPES = (
    case("longer", alter("name", "models.CharField(max_length=99)")),
    case("longer_indexed", alter("code", "models.CharField(max_length=99, db_index=True)")),
    case("to_text", alter("name", "models.TextField()")),
    case("more_digits", alter("price", "models.DecimalField(max_digits=12, decimal_places=2)")),
    case("words_only", alter("n", 'models.IntegerField("number", default=3, choices=[(1, "one")], help_text="x")')),
    case("on_delete", alter("owner", 'models.ForeignKey("Owner", models.PROTECT, related_name="things")')),
    case("indexed_to_text", alter("code", "models.TextField(db_index=True)"), live={"add-index": "medium"}),
    case("unique_to_text", alter("slug", "models.TextField(unique=True)"), live={"add-index": "medium"}),
    case(
        "longer_with_expression_index",
        alter("name", "models.CharField(max_length=99)"),
        sql="CREATE INDEX {app}_upper ON {app}_thing (upper(name))",
        live={"rebuild-index": "medium"},
        static={},
    ),
    case(
        "longer_in_a_view",
        alter("name", "models.CharField(max_length=99)"),
        sql="CREATE VIEW {app}_view AS SELECT name FROM {app}_thing",
        live={"view-needs-type": "blocked"},
        static={},
    ),
    case(
        "longer_in_a_view_that_is_dropped",
        'migrations.RunSQL("DROP VIEW {app}_view"), ' + alter("name", "models.CharField(max_length=99)"),
        sql="CREATE VIEW {app}_view AS SELECT name FROM {app}_thing",
    ),
    case("to_bigint", alter("n", "models.BigIntegerField()"), live={"rewrite-column-type": "high"}),
    case(
        "to_decimal",
        alter("n", "models.DecimalField(max_digits=12, decimal_places=0)"),
        live={"rewrite-column-type": "high"},
    ),
    case(
        "shorter_that_fits",
        alter("name", "models.CharField(max_length=20)"),
        live={"rewrite-column-type": "high", "narrow-column-type": "medium"},
        static={"rewrite-column-type": "high", "narrow-column-type": "unknown"},
    ),
    case(
        "too_short",
        alter("name", "models.CharField(max_length=3)"),
        live={"rewrite-column-type": "high", "narrow-column-type": "blocked"},
        static={"rewrite-column-type": "high", "narrow-column-type": "unknown"},
    ),
    case(
        "text_is_cut",
        alter("note", "models.CharField(max_length=20)"),
        live={"rewrite-column-type": "high", "narrow-column-type": "high"},
        static={"rewrite-column-type": "high", "narrow-column-type": "unknown"},
    ),
    case("day_to_time", alter("day", "models.DateTimeField()"), live={"rewrite-column-type": "high"}),
    case(
        "number_to_text",
        alter("n", "models.CharField(max_length=20)"),
        live={"rewrite-column-type": "high", "narrow-column-type": "medium", "change-column-kind": "high"},
        static={"rewrite-column-type": "high", "narrow-column-type": "unknown", "change-column-kind": "high"},
    ),
    case(
        "text_to_number",
        alter("code", "models.IntegerField()"),
        sql="UPDATE {app}_thing SET code = n",
        live={"rewrite-column-type": "high", "narrow-column-type": "medium", "change-column-kind": "high"},
        static={"rewrite-column-type": "high", "narrow-column-type": "unknown", "change-column-kind": "high"},
    ),
    case(
        "to_fewer_digits",
        alter("price", "models.DecimalField(max_digits=8, decimal_places=1)"),
        live={"rewrite-column-type": "high", "narrow-column-type": "medium"},
        static={"rewrite-column-type": "high", "narrow-column-type": "unknown"},
    ),
    case("impossible", alter("n", "models.UUIDField()"), live={"impossible-cast": "blocked"}),
    case("key_to_bigint", alter("id", "models.BigAutoField(primary_key=True)"), live={"rewrite-column-type": "high"}),
    case(
        "empty_to_bigint",
        alter("id", "models.BigAutoField(primary_key=True)", model="void"),
        static={"rewrite-column-type": "high"},
    ),
    case(
        "collation",
        alter("code", 'models.CharField(max_length=50, db_index=True, db_collation="C")'),
        live={"rebuild-index": "medium"},
    ),
    case("collation_without_index", alter("name", 'models.CharField(max_length=50, db_collation="C")')),
)

_NULLS = {"set-not-null": "medium", "null-insert": "high"}
_UNKNOWN = {**_NULLS, "null-values": "unknown"}
_CHECKED = {"null-insert": "high"}
_NOT_NULL = CHECK.format("whole__isnull=False")
NULLS = (
    case("not_null", alter("whole", "models.IntegerField()"), live=_NULLS, static=_UNKNOWN),
    case(
        "not_null_with_old_default",
        alter("kept", "models.IntegerField(default=7)"),
        live={"set-not-null": "medium"},
        static={"set-not-null": "medium", "null-values": "unknown"},
    ),
    case(
        "not_null_over_nulls",
        alter("half", "models.IntegerField()"),
        live={**_NULLS, "null-values": "blocked"},
        static=_UNKNOWN,
    ),
    case(
        "not_null_after_filling",
        FILLING,
        alter("half", "models.IntegerField()"),
        live={**_NULLS, "null-values": "unknown"},
        static=_UNKNOWN,
    ),
    case(
        "not_null_with_default",
        alter("half", "models.IntegerField(default=0)"),
        live={**_NULLS, "null-values": "high"},
        static=_UNKNOWN,
    ),
    case("drop_default", alter("rank", "models.IntegerField()"), live={"drop-default": "high"}),
    case("drop_python_default", alter("kept", "models.IntegerField(null=True)")),
    case(
        "added_unfilled_not_null",
        add("models.IntegerField(null=True)"),
        alter("extra", "models.IntegerField()"),
        live={**_NULLS, "null-values": "blocked"},
        static=_UNKNOWN,
    ),
    case("null", alter("n", "models.IntegerField(null=True)")),
    case(
        "null_key",
        alter("owner", 'models.ForeignKey("Owner", models.CASCADE, null=True)'),
        live={"add-foreign-key": "medium"},
    ),
    case(
        "not_null_after_check",
        f'AddConstraintNotValid("thing", {_NOT_NULL})',
        'ValidateConstraint("thing", "{app}_ck")',
        alter("whole", "models.IntegerField()"),
        live={"null-insert": "high"},
    ),
    case("check_not_null", f'AddConstraintNotValid("thing", {_NOT_NULL})', live={"null-insert": "high"}),
    case(
        "check_what_is_not_null", f'AddConstraintNotValid("thing", {CHECK.format("n__isnull=False")})', static=_CHECKED
    ),
    case(
        "check_not_null_of_new",
        add("models.IntegerField(null=True)"),
        f'AddConstraintNotValid("thing", {CHECK.format("extra__isnull=False")})',
        live={"null-insert": "high"},
    ),
    case(
        "check_not_null_of_new_filled",
        add("models.IntegerField(null=True, db_default=1)"),
        f'AddConstraintNotValid("thing", {CHECK.format("extra__isnull=False")})',
    ),
    case(
        "check_null_or_more",
        f'AddConstraintNotValid("thing", {CHECK.format("models.Q(whole__isnull=False) | models.Q(n=1)")})',
    ),
    case(
        "not_null_after_live_check_not_valid",
        alter("whole", "models.IntegerField()"),
        sql="ALTER TABLE {app}_thing ADD CHECK (whole IS NOT NULL) NOT VALID",
        live={"set-not-null": "medium"},
        static=_UNKNOWN,
    ),
    case(
        "not_null_after_written_check",
        'migrations.RunSQL("ALTER TABLE {app}_thing ADD CONSTRAINT wck CHECK (whole IS NOT NULL) NOT VALID", "")',
        'migrations.RunSQL("ALTER TABLE {app}_thing VALIDATE CONSTRAINT wck", "")',
        alter("whole", "models.IntegerField()"),
    ),
    case(
        "not_null_after_live_check",
        alter("whole", "models.IntegerField()"),
        sql="ALTER TABLE {app}_thing ADD CHECK (whole IS NOT NULL)",
        static=_UNKNOWN,
    ),
    case(
        "not_null_of_empty",
        alter("name", 'models.CharField(max_length=50, default="")', model="void"),
        live={"null-insert": "high"},
        static=_UNKNOWN,
    ),
    case(
        "added_and_not_null",
        add("models.IntegerField(null=True)"),
        alter("extra", "models.IntegerField(db_default=1)"),
        live={"set-not-null": "medium", "null-values": "high"},
        static={"set-not-null": "medium", "null-values": "unknown"},
    ),
    case("new_not_null", NEW_TABLE, alter("name", "models.CharField(max_length=9)", model="fresh")),
)
